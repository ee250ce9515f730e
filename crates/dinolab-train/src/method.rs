//! Methods: what one step of training does.
//!
//! A [`Method`] owns its networks, heads and losses. It is given the views of a batch and the
//! values of the schedules, and takes one optimiser step. Everything around the step — reading
//! images, schedules, checkpoints, evaluation — belongs to the [`Trainer`](crate::Trainer), which
//! does not depend on any method.

mod average;
pub(crate) mod check;
mod companions;
pub mod dino;
pub mod dinov2;
mod directions;
pub mod distill;
pub mod joint_embedding;
pub mod lejepa;
mod outputs;
mod report;
pub mod simdino;
pub mod visreg;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use dinolab_nn::weights::{LoadOptions, LoadReport, Weights};
use dinolab_nn::{Backbone, Parameters};

pub use self::average::AverageSchedule;
pub use self::directions::directions;
pub use self::outputs::{Outputs, PatchOutputs, PrototypeOutputs};
pub use self::report::{StepReport, StepTimings};
use crate::{Ranks, Result, State, StepHyperparams, Views};

/// How a run feeds a method, to be checked before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Images of a micro-batch.
    pub micro_batch: usize,
    /// Micro-batches of a step.
    pub accumulate: usize,
}

/// A method of self-supervised training.
pub trait Method {
    /// Its name, as in configurations and checkpoints: `dino`.
    fn name(&self) -> &'static str;

    /// The device of the views, without gradients.
    fn device(&self) -> &Device;

    /// Refuses what the method cannot be given.
    ///
    /// # Errors
    /// [`crate::Error::BadSetting`] names the setting.
    fn check(&self, _: BatchShape) -> Result<()> {
        Ok(())
    }

    /// Trains among the processes `ranks` from now on. Without this call, a method trains in one
    /// process.
    ///
    /// # Errors
    /// [`crate::Error::BadSetting`] if it computes from its own part of a batch what needs all of it.
    fn distribute(&mut self, ranks: &Ranks) -> Result<()> {
        match ranks.is_whole() {
            true => Ok(()),
            false => Err(check::bad(
                "method",
                format!("{} trains in one process only", self.name()),
            )),
        }
    }

    /// Keeps in `folder`, which may not exist yet, what it would compute again. Whether it does, and whether
    /// the folder is still there when a run is resumed, changes nothing but speed.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    fn keep_in(&mut self, _: &Path) -> Result<()> {
        Ok(())
    }

    /// Takes one optimiser step on the batch that `micro_batches` make together: in several processes,
    /// those of this process, each as its [shards](Ranks::own_shards).
    ///
    /// # Errors
    /// [`crate::Error::NonFiniteLoss`], before anything has changed.
    fn step(&mut self, micro_batches: &[Views], hp: &StepHyperparams) -> Result<StepReport>;

    /// The network that gradients change: the student, where there is a teacher.
    fn learned(&self) -> &dyn Parameters;

    /// The backbone that is evaluated.
    fn backbone(&self) -> &dyn Backbone;

    /// The loss of outputs that tell nothing of the images, where that is known: `ln K` for
    /// cross entropies.
    fn loss_of_guessing(&self) -> Option<f64> {
        None
    }

    /// Everything that training changes, by name.
    fn state(&self) -> State;

    /// Replaces the state with one from [`Method::state`] of a method of the same configuration.
    ///
    /// # Errors
    /// [`crate::Error::BadCheckpoint`] or [`crate::Error::Model`] if it belongs to another network.
    fn restore(&mut self, state: &State) -> Result<()>;

    /// Starts from `weights` instead of random ones.
    ///
    /// # Errors
    /// [`crate::Error::Model`] if they do not fit.
    fn start_from(&mut self, weights: &Weights, options: LoadOptions) -> Result<LoadReport>;

    /// Metadata of its checkpoints: sizes of its networks, and which one to evaluate.
    fn metadata(&self) -> BTreeMap<String, String>;

    /// Full names of the trained parameters, in the order of [`StepReport::grad_norms`].
    fn trained_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.learned().visit("", &mut |name, param| {
            if param.trainable() {
                names.push(name.to_owned());
            }
        });
        names
    }
}
