//! Collective operations among the processes of a data-parallel run: what training needs of MPI, and
//! the same for a single process.
//!
//! A [`Communicator`] connects the processes of a run, each known by its rank. Every collective
//! operation has to be called by all of them, in the same order. [`Local`] is the run of one process;
//! `mpi::Mpi` (feature `mpi`) has as many as `mpirun` or `srun` started; `nccl::Nccl` (feature `nccl`) sums between
//! their GPUs.

mod communicator;
mod error;
mod launch;
mod local;
#[cfg(feature = "mpi")]
pub mod mpi;
#[cfg(feature = "nccl")]
pub mod nccl;
mod pending;
#[cfg(any(feature = "mpi", test))]
mod tree;

pub use self::communicator::Communicator;
pub use self::error::{Error, Result};
pub use self::launch::{Expected, Launch, LaunchError};
pub use self::local::Local;
pub use self::pending::{Order, PendingSum};
