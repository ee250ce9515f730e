//! What can go wrong between processes.

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure says what happened and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A sum along a tree over a number of processes that is no power of two.
    #[error("{0} processes cannot add along a binary tree; start 1, 2, 4, 8, …")]
    NotAPowerOfTwo(usize),
    /// MPI was started before: it can be started once in a process.
    #[error("MPI was started before in this process, and can be started only once")]
    Started,
    /// The MPI library does not allow calls from several threads at a time.
    #[error(
        "the MPI library does not support concurrent calls (MPI_THREAD_MULTIPLE), without which lost \
         processes cannot be detected; load an Open MPI or MPICH that does (Open MPI: `ompi_info | grep Thread`)"
    )]
    Threads,
    /// MPI did not start, or an operation failed.
    #[error("MPI: {0}")]
    Mpi(String),
    /// NCCL is missing, did not start, or an operation failed.
    #[error("NCCL: {0}")]
    Nccl(String),
}

impl Error {
    /// The exit code of a process whose run lost another one: `EX_TEMPFAIL` of `sysexits.h`. The same
    /// command resumes from the last checkpoint.
    pub const LOST: i32 = 75;
}
