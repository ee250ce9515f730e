//! What changes from step to step: learning rate, weight decay, teacher momentum and
//! teacher temperature (paper, section 3.2 and appendix; the reference's formulas).

use std::f64::consts::PI;

/// Start and end values of everything that is scheduled. Lengths are in epochs, which may be
/// fractions.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleConfig {
    /// Length of the whole schedule.
    pub epochs: f64,
    /// Iterations in an epoch.
    pub steps_per_epoch: u64,
    /// Learning rate after warm-up (already scaled by the batch size).
    pub lr: f64,
    /// Learning rate at the end.
    pub min_lr: f64,
    /// Length of the linear warm-up from 0.
    pub warmup_epochs: f64,
    /// Weight decay at the start.
    pub weight_decay: f64,
    /// Weight decay at the end.
    pub weight_decay_end: f64,
    /// Teacher momentum at the start; it rises to 1.
    pub momentum_teacher: f64,
    /// Teacher temperature at the start.
    pub warmup_teacher_temp: f64,
    /// Teacher temperature after its warm-up.
    pub teacher_temp: f64,
    /// Length of the teacher temperature's warm-up, in whole epochs.
    pub warmup_teacher_temp_epochs: u64,
}

/// The values of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepValues {
    /// The iteration, from 0.
    pub step: u64,
    /// The epoch it belongs to, from 0.
    pub epoch: u64,
    /// Learning rate of all parameters.
    pub lr: f64,
    /// Weight decay of the parameters that decay.
    pub weight_decay: f64,
    /// Teacher momentum, `m`.
    pub momentum: f64,
    /// Teacher temperature, `T_t`.
    pub teacher_temp: f64,
}

/// All schedules of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedules {
    config: ScheduleConfig,
    steps: u64,
    warmup: u64,
}

impl Schedules {
    /// The schedules of `config`.
    pub fn new(config: ScheduleConfig) -> Self {
        let per_epoch = config.steps_per_epoch as f64;
        // At least one step, so that a small fraction of an epoch still trains.
        let steps = ((config.epochs * per_epoch).round() as u64).max(1);
        let warmup = ((config.warmup_epochs * per_epoch).round() as u64).min(steps);
        Self {
            config,
            steps,
            warmup,
        }
    }

    /// Number of steps in all.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The settings.
    pub fn config(&self) -> &ScheduleConfig {
        &self.config
    }

    /// The values of iteration `step`.
    pub fn at(&self, step: u64) -> StepValues {
        let c = &self.config;
        let epoch = step / c.steps_per_epoch;
        let lr = if step < self.warmup {
            // Both ends included: the first step has rate 0, the last of the warm-up the full one.
            c.lr * step as f64 / (self.warmup - 1).max(1) as f64
        } else {
            cosine(c.lr, c.min_lr, step - self.warmup, self.steps - self.warmup)
        };
        let warm = c.warmup_teacher_temp_epochs;
        let teacher_temp = if epoch >= warm {
            c.teacher_temp
        } else {
            let part = epoch as f64 / (warm - 1).max(1) as f64;
            c.warmup_teacher_temp + (c.teacher_temp - c.warmup_teacher_temp) * part
        };
        StepValues {
            step,
            epoch,
            lr,
            weight_decay: cosine(c.weight_decay, c.weight_decay_end, step, self.steps),
            momentum: cosine(c.momentum_teacher, 1.0, step, self.steps),
            teacher_temp,
        }
    }
}

/// `end + ½·(base − end)·(1 + cos(π·i/n))`.
fn cosine(base: f64, end: f64, i: u64, n: u64) -> f64 {
    end + 0.5 * (base - end) * (1.0 + (PI * i as f64 / n.max(1) as f64).cos())
}
