//! What a run tells its observers.

use std::time::Duration;

use dinolab_data::loader::UnusableImage;

use crate::{Method, Result, Schedule, StepHyperparams, StepReport};

/// Wall-clock time of one step, for display; never part of the results.
#[derive(Clone, Copy, Debug)]
pub struct StepTime {
    /// From one step's end to the next one's.
    pub total: Duration,
    /// Of that, waiting for crops.
    pub waited: Duration,
    /// Images seen.
    pub images: usize,
}

/// Something that happened in a run. Steps are counted by how many are done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run begins, or is resumed.
    Started {
        /// Steps done before.
        step: u64,
        /// Its schedules.
        schedule: &'a Schedule,
    },
    /// A step was taken.
    Stepped {
        /// Its values of the schedules; `hp.step + 1` steps are done.
        hp: &'a StepHyperparams,
        /// What it reports.
        report: &'a StepReport,
        /// What it took.
        time: StepTime,
        /// Whether a line of metrics is due.
        log: bool,
    },
    /// An epoch ended, before its evaluation and its checkpoint.
    EpochEnded {
        /// Its number, from 0.
        epoch: u64,
        /// Steps done.
        step: u64,
    },
    /// An evaluation of [`Method::backbone`] is due.
    Evaluate {
        /// Epochs done.
        epochs: u64,
        /// Steps done.
        step: u64,
    },
    /// Images that were found unusable, all so far.
    Unusable(&'a [UnusableImage]),
}

/// Observes a run: shows it, writes it down, measures it.
pub trait Observer {
    /// Its name, under which checkpoints keep its state.
    fn name(&self) -> &'static str;

    /// Something happened.
    ///
    /// # Errors
    /// [`crate::Error::Observer`] ends the run.
    fn on(&mut self, event: &Event, method: &dyn Method) -> Result<()>;

    /// What must not be lost with a checkpoint, asked before one is written.
    ///
    /// # Errors
    /// [`crate::Error::Observer`] ends the run.
    fn state(&mut self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Before the run starts: the state at the checkpoint that it is resumed from; `None` for a new
    /// run.
    ///
    /// # Errors
    /// [`crate::Error::Observer`] for a state that it cannot read.
    fn restore(&mut self, _: Option<&str>) -> Result<()> {
        Ok(())
    }

    /// Whether its figures show that the run diverges, so that a checkpoint of now is not sound.
    fn diverging(&self) -> bool {
        false
    }

    /// Whether to stop after the step at hand.
    fn stop_requested(&self) -> bool {
        false
    }
}
