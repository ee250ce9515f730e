//! Sums that go on while the processes compute.

use crate::Result;
use std::fmt;

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
    Running(Box<dyn FnOnce() -> Result<Vec<f32>>>),
}

impl PendingSum {
    /// A sum that has ended.
    pub fn done(sums: Vec<f32>) -> Self {
        Self(Inner::Done(sums))
    }

    /// A sum that `wait` waits for.
    pub fn running(wait: impl FnOnce() -> Result<Vec<f32>> + 'static) -> Self {
        Self(Inner::Running(Box::new(wait)))
    }

    /// Waits for the sums.
    ///
    /// # Errors
    /// [`crate::Error`] if the operation failed.
    pub fn wait(self) -> Result<Vec<f32>> {
        match self.0 {
            Inner::Done(sums) => Ok(sums),
            Inner::Running(wait) => wait(),
        }
    }
}

impl fmt::Debug for PendingSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingSum")
    }
}
