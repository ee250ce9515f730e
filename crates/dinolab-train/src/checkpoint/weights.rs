//! The weights in a checkpoint, for inference and for starting new runs.

use dinolab_nn::weights::{NetworkRole, Weights, from_arrays};

use super::Checkpoint;
use crate::Result;

impl Checkpoint {
    /// The network with `role`, or the evaluated one, without reading the file again.
    ///
    /// # Errors
    /// [`crate::Error::Model`] where the checkpoint holds no such network, or values in it are not
    /// finite.
    pub fn weights(self, role: Option<NetworkRole>) -> Result<Weights> {
        Ok(from_arrays(
            &self.path,
            self.state.tensors,
            self.facts,
            role,
        )?)
    }
}
