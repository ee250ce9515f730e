//! What the processes of a run can do together.

use crate::Result;

/// The processes of a run, seen from one of them.
///
/// All processes call the same operations in the same order; a process that stays away keeps the
/// others waiting until it is found to be lost, which ends them with [`Error::LOST`](crate::Error::LOST).
pub trait Communicator {
    /// This process, in `0..size`.
    fn rank(&self) -> usize;

    /// Number of processes, at least 1.
    fn size(&self) -> usize;

    /// Replaces `values` by their sums over all processes: the same bits in each of them, in an order
    /// of additions that is the library's choice.
    ///
    /// # Errors
    /// [`crate::Error`] if the operation failed.
    fn all_reduce(&self, values: &mut [f32]) -> Result<()>;

    /// As [`Communicator::all_reduce`], along a balanced binary tree over the ranks: the sum over `n`
    /// processes that hold `m` summands each does not depend on how `n · m` is divided, if each
    /// process adds its own along such a tree.
    ///
    /// # Errors
    /// [`crate::Error::NotAPowerOfTwo`] for other numbers of processes.
    fn all_reduce_tree(&self, values: &mut [f32]) -> Result<()>;

    /// The bytes of all processes by rank; their lengths may differ.
    ///
    /// # Errors
    /// [`crate::Error`] if the operation failed.
    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Replaces `bytes` by those of rank 0; lengths may differ before.
    ///
    /// # Errors
    /// [`crate::Error`] if the operation failed.
    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()>;

    /// Waits for all processes.
    ///
    /// # Errors
    /// [`crate::Error`] if the operation failed.
    fn barrier(&self) -> Result<()>;

    /// Ends all processes of the run with the exit code `code`, at once.
    fn abort(&self, code: i32) -> !;
}
