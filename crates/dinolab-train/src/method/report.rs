//! What a step reports.

use std::time::{Duration, Instant};

use super::Outputs;

/// Metrics and outputs of one training step.
#[derive(Debug)]
pub struct StepReport {
    /// Wall-clock time of its phases.
    pub timings: StepTimings,
    /// The loss.
    pub loss: f64,
    /// Terms of the loss by name, where it has several.
    pub terms: Vec<(&'static str, f64)>,
    /// Values of the method's own schedules by name.
    pub scheduled: Vec<(&'static str, f64)>,
    /// Norm of each trained parameter's gradient before clipping, in the network's order.
    pub grad_norms: Vec<f32>,
    /// Outputs of the last micro-batch.
    pub outputs: Outputs,
}

/// Wall-clock time of a step's phases. On a device that works in the background, a phase only has
/// the time it took to queue its work.
#[derive(Clone, Debug)]
pub struct StepTimings {
    phases: Vec<(&'static str, Duration)>,
    clock: Instant,
}

impl StepTimings {
    /// Starts the clock.
    pub fn start() -> Self {
        Self {
            phases: Vec::new(),
            clock: Instant::now(),
        }
    }

    /// Adds the time since the last lap to a phase.
    pub fn lap(&mut self, phase: &'static str) {
        let time = std::mem::replace(&mut self.clock, Instant::now()).elapsed();
        match self.phases.iter_mut().find(|(name, _)| *name == phase) {
            Some((_, total)) => *total += time,
            None => self.phases.push((phase, time)),
        }
    }

    /// The phases, in the order in which they began.
    pub fn phases(&self) -> &[(&'static str, Duration)] {
        &self.phases
    }
}
