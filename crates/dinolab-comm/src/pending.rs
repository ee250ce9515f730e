//! Sums that go on while the processes compute.

use std::fmt;
use std::sync::mpsc::Receiver;

use crate::{Error, Result};

/// The order of the additions of a sum over processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The library's choice.
    Any,
    /// Along a balanced binary tree over the ranks.
    Tree,
}

/// A sum that has begun.
pub struct PendingSum(Inner);

enum Inner {
    Done(Vec<f32>),
    Running(Receiver<Vec<f32>>),
}

impl PendingSum {
    /// A sum that has ended.
    pub fn done(sums: Vec<f32>) -> Self {
        Self(Inner::Done(sums))
    }

    /// A sum whose end comes through `sums`.
    pub fn running(sums: Receiver<Vec<f32>>) -> Self {
        Self(Inner::Running(sums))
    }

    /// Waits for the sums.
    ///
    /// # Errors
    /// [`Error::Mpi`] if the thread that adds is gone.
    pub fn wait(self) -> Result<Vec<f32>> {
        match self.0 {
            Inner::Done(sums) => Ok(sums),
            Inner::Running(sums) => sums
                .recv()
                .map_err(|_| Error::Mpi("the thread that adds has ended".into())),
        }
    }
}

impl fmt::Debug for PendingSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingSum")
    }
}
