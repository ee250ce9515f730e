//! What the processes of a run can do together.

use crate::{Order, PendingSum, Result};

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

    /// Begins a sum of `values` over all processes, as [`Communicator::all_reduce`] or
    /// [`Communicator::all_reduce_tree`] by its `order`. Where the library can, it goes on while this process computes.
    /// Several sums may be under way; every other operation waits for them.
    ///
    /// # Errors
    /// As those.
    fn begin_sum(&self, mut values: Vec<f32>, order: Order) -> Result<PendingSum> {
        match order {
            Order::Any => self.all_reduce(&mut values)?,
            Order::Tree => self.all_reduce_tree(&mut values)?,
        }
        Ok(PendingSum::done(values))
    }

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
