//! What every method has on a schedule: learning rate and weight decay (the reference's formulas);
//! and when what is due.

use dinolab_nn::optim::Rates;
use dinolab_nn::optim::schedule::{WarmupCosine, cosine};

/// Start and end values. Lengths are in epochs, which may be fractions.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleConfig {
    /// Length of the whole schedule.
    pub epochs: f64,
    /// Steps in an epoch.
    pub steps_per_epoch: u64,
    /// Learning rate after the warm-up (already scaled by the batch size).
    pub lr: f64,
    /// Learning rate at the end.
    pub min_lr: f64,
    /// Length of the linear warm-up from 0.
    pub warmup_epochs: f64,
    /// Weight decay at the start.
    pub weight_decay: f64,
    /// Weight decay at the end.
    pub weight_decay_end: f64,
    /// Length of the time in which the backbone stays as it is and the head alone learns. The backbone's
    /// learning rate has a warm-up of its own thereafter, as long as the other one.
    pub freeze_backbone_epochs: f64,
}

/// The reference's values, with a rate for a batch of 256.
impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            epochs: 100.0,
            steps_per_epoch: 1,
            lr: 5e-4,
            min_lr: 1e-6,
            warmup_epochs: 10.0,
            weight_decay: 0.04,
            weight_decay_end: 0.4,
            freeze_backbone_epochs: 0.0,
        }
    }
}

/// Where a run is, and the values of its schedules there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepHyperparams {
    /// The step, from 0.
    pub step: u64,
    /// The epoch it belongs to, from 0.
    pub epoch: u64,
    /// All steps of the run.
    pub steps: u64,
    /// Learning rate.
    pub lr: f64,
    /// Weight decay of the parameters that decay.
    pub weight_decay: f64,
    /// What the learning rate of the backbone is multiplied by, in 0–1; 0 freezes it.
    pub backbone_rate: f64,
}

impl StepHyperparams {
    /// Learning rate and weight decay.
    pub fn rates(&self) -> Rates {
        Rates {
            lr: self.lr,
            weight_decay: self.weight_decay,
        }
    }

    /// Whether the backbone stays as it is.
    pub fn backbone_frozen(&self) -> bool {
        self.backbone_rate == 0.0
    }

    /// A value on a cosine schedule over the whole run, from `base` to `end`.
    pub fn cosine(&self, base: f64, end: f64) -> f64 {
        cosine(base, end, self.step, self.steps)
    }
}

/// The schedules of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    config: ScheduleConfig,
    lr: WarmupCosine,
}

impl Schedule {
    /// The schedules of `config`.
    pub fn new(config: ScheduleConfig) -> Self {
        let per_epoch = config.steps_per_epoch as f64;
        // At least one step, so that a small fraction of an epoch still trains.
        let steps = ((config.epochs * per_epoch).round() as u64).max(1);
        let warmup = ((config.warmup_epochs * per_epoch).round() as u64).min(steps);
        Self {
            lr: WarmupCosine {
                peak: config.lr,
                end: config.min_lr,
                warmup,
                steps,
            },
            config,
        }
    }

    /// Number of steps.
    pub fn steps(&self) -> u64 {
        self.lr.steps
    }

    /// Number of steps in an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.config.steps_per_epoch
    }

    /// The number of the last epoch, from 0.
    pub fn last_epoch(&self) -> u64 {
        (self.steps() - 1) / self.steps_per_epoch()
    }

    /// The settings.
    pub fn config(&self) -> &ScheduleConfig {
        &self.config
    }

    /// Whether the outputs of step `step` are looked at for figures of health: some 16 steps of an
    /// epoch, at no cost worth naming.
    pub fn samples(&self, step: u64) -> bool {
        step.is_multiple_of((self.steps_per_epoch() / 16).max(1))
    }

    /// The values of step `step`, from 0.
    pub fn at(&self, step: u64) -> StepHyperparams {
        let (c, steps) = (&self.config, self.steps());
        StepHyperparams {
            step,
            epoch: step / c.steps_per_epoch,
            steps,
            lr: self.lr.from_zero(step),
            weight_decay: cosine(c.weight_decay, c.weight_decay_end, step, steps),
            backbone_rate: self.backbone_rate(step),
        }
    }

    /// The first step that changes the backbone.
    pub fn thaws_at(&self) -> u64 {
        let epochs = self.config.freeze_backbone_epochs;
        (epochs * self.config.steps_per_epoch as f64).round() as u64
    }

    fn backbone_rate(&self, step: u64) -> f64 {
        match (self.thaws_at(), self.lr.warmup) {
            (0, _) => 1.0,
            (thaw, _) if step < thaw => 0.0,
            (thaw, warmup) => ((step - thaw + 1) as f64 / warmup.max(1) as f64).min(1.0),
        }
    }
}
