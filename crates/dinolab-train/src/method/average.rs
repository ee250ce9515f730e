//! A moving average of the student's backbone beside a teacher: evaluated and used instead of it, on a
//! schedule of its own, while the teacher keeps the one that its targets need.

use dinolab_nn::weights::{LoadOptions, Weights, load};
use dinolab_nn::{AnyBackbone, Parameters};

use super::check;
use crate::update::{Averaged, Statistics, follow};
use crate::{Result, State, StepHyperparams};

/// Name of the average in a method's state.
const NAME: &str = "average.backbone";

/// The momentum of an average, which follows a cosine schedule.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AverageSchedule {
    /// At the first step, in 0–1.
    pub momentum: f64,
    /// At the last step, in 0–1.
    pub momentum_end: f64,
}

impl AverageSchedule {
    pub(super) fn check(&self) -> Result<()> {
        check::share("average-momentum", self.momentum)?;
        check::share("average-momentum-end", self.momentum_end)
    }
}

/// The average, with its schedule.
pub(super) struct BackboneAverage {
    pub backbone: AnyBackbone,
    schedule: AverageSchedule,
}

impl BackboneAverage {
    /// An average that begins as `backbone`.
    pub(super) fn new(backbone: &AnyBackbone, schedule: AverageSchedule) -> Self {
        Self {
            backbone: backbone.clone(),
            schedule,
        }
    }

    /// Follows `student`, of which the backbone is a part, after its update. Returns the momentum.
    pub(super) fn follow(&mut self, student: &dyn Parameters, hp: &StepHyperparams) -> f64 {
        let AverageSchedule {
            momentum,
            momentum_end,
        } = self.schedule;
        let momentum = hp.cosine(momentum, momentum_end);
        follow(
            student,
            Averaged {
                network: &mut self.backbone,
                part: "backbone",
                momentum,
                statistics: Statistics::Copied,
            },
        );
        momentum
    }

    pub(super) fn put(&self, state: &mut State) {
        state.put_network(NAME, &self.backbone);
    }

    pub(super) fn restore(&mut self, state: &State) -> Result<()> {
        state.load_network(NAME, &mut self.backbone)
    }

    pub(super) fn start_from(&mut self, weights: &Weights, options: LoadOptions) -> Result<()> {
        load(&mut self.backbone, "backbone", weights, options)?;
        Ok(())
    }
}
