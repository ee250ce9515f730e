//! When what is due.

use crate::Schedule;

/// How often a run logs, evaluates and saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// Log every N steps.
    pub log_every: u64,
    /// Evaluate every N epochs and at the end; 0 disables.
    pub evaluate_every: u64,
    /// Checkpoint every N epochs, and at the end.
    pub checkpoint_every: u64,
    /// Also checkpoint every N steps; 0 disables.
    pub checkpoint_every_steps: u64,
}

/// A line every ten steps, a checkpoint every epoch, no evaluation.
impl Default for Cadence {
    fn default() -> Self {
        Self {
            log_every: 10,
            evaluate_every: 0,
            checkpoint_every: 1,
            checkpoint_every_steps: 0,
        }
    }
}

/// What is due after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// A line of metrics.
    pub log: bool,
    /// The end of an epoch, the last one of which may be short.
    pub epoch_end: bool,
    /// An evaluation.
    pub evaluate: bool,
    /// A checkpoint.
    pub save: bool,
}

impl Cadence {
    /// What is due when `done` steps are done, of a run that ends after `last` steps.
    pub fn due(&self, schedule: &Schedule, done: u64, last: u64) -> Due {
        let every = |n: u64, of: u64| n > 0 && of.is_multiple_of(n);
        let epoch_end = done.is_multiple_of(schedule.steps_per_epoch()) || done == schedule.steps();
        let epochs = done.div_ceil(schedule.steps_per_epoch());
        let save = if epoch_end {
            epochs.is_multiple_of(self.checkpoint_every.max(1))
        } else {
            every(self.checkpoint_every_steps, done)
        };
        Due {
            log: done.is_multiple_of(self.log_every.max(1)),
            epoch_end,
            evaluate: epoch_end
                && self.evaluate_every > 0
                && (every(self.evaluate_every, epochs) || epochs == schedule.last_epoch() + 1),
            save: save || done == last,
        }
    }
}
