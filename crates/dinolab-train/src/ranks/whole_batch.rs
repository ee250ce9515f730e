//! Operations that see all of a batch, of which each process computes a part.

use std::cell::RefCell;
use std::rc::Rc;

use dinolab_comm::Communicator;
use dinolab_nn::ops::{BatchSums, with_batch_sums};

use super::Ranks;
use crate::Result;

/// The sums over the processes of a run, and the first error.
struct Sums {
    comm: Rc<dyn Communicator>,
    reproducible: bool,
    failed: RefCell<Option<dinolab_comm::Error>>,
}

impl BatchSums for Sums {
    fn processes(&self) -> usize {
        self.comm.size()
    }

    fn sum(&self, values: &mut [f32]) {
        let done = match self.reproducible {
            true => self.comm.all_reduce_tree(values),
            false => self.comm.all_reduce(values),
        };
        if let Err(error) = done {
            self.failed.borrow_mut().get_or_insert(error);
        }
    }
}

impl Ranks {
    /// Calls `step`, in which batch normalisation has the statistics of all of a batch.
    ///
    /// # Errors
    /// Those of `step`; [`crate::Error::Ranks`] if processes could not sum.
    pub fn whole_batch<R>(&self, step: impl FnOnce() -> Result<R>) -> Result<R> {
        if self.size() == 1 {
            return step();
        }
        let sums = Rc::new(Sums {
            comm: self.comm.clone(),
            reproducible: self.reproducible,
            failed: RefCell::default(),
        });
        let result = with_batch_sums(sums.clone(), step);
        match sums.failed.take() {
            Some(error) => Err(error.into()),
            None => result,
        }
    }
}
