//! Values that change from step to step.

use std::f64::consts::PI;

/// The cosine schedule: `end + ½·(base − end)·(1 + cos(π·i/n))`, from `base` at `i = 0` to `end` at
/// `i = n`.
pub fn cosine(base: f64, end: f64, i: u64, n: u64) -> f64 {
    end + 0.5 * (base - end) * (1.0 + (PI * i as f64 / n.max(1) as f64).cos())
}

/// A linear warm-up, then a cosine schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmupCosine {
    /// The value after the warm-up.
    pub peak: f64,
    /// The value at the end.
    pub end: f64,
    /// Steps of the warm-up.
    pub warmup: u64,
    /// All steps, the warm-up included.
    pub steps: u64,
}

impl WarmupCosine {
    /// The value of step `step`, from 0, with a warm-up from 0 in the first step to the peak in its
    /// last step (the reference's).
    pub fn from_zero(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * step as f64 / (self.warmup - 1).max(1) as f64;
        }
        self.after_warmup(step)
    }

    /// The value of step `step`, from 0, with a warm-up from a first step above 0: `peak / warmup`.
    pub fn from_first(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        self.after_warmup(step)
    }

    fn after_warmup(&self, step: u64) -> f64 {
        let Self {
            peak,
            end,
            warmup,
            steps,
        } = *self;
        cosine(peak, end, step - warmup, steps - warmup)
    }
}
