//! The networks that a student may have beside its teacher: an average that is evaluated, and the original
//! that it stays near.

use dinolab_nn::weights::{LoadOptions, Weights};
use dinolab_nn::{AnyBackbone, Backbone, Feature, Parameters};

use super::average::{AverageSchedule, BackboneAverage};
use crate::adapt::Preserved;
use crate::{Result, State, StepHyperparams};

/// Either, both or none.
pub(super) struct Companions {
    average: Option<BackboneAverage>,
    /// The original backbone, if features are preserved.
    pub preserved: Option<Preserved>,
}

impl Companions {
    /// Those that begin as `backbone`: an average if it has a schedule, an original if `preserve`, the weight
    /// of the drift of `feature` from it, is above 0.
    pub(super) fn new(
        backbone: &AnyBackbone,
        feature: Feature,
        average: Option<AverageSchedule>,
        preserve: f64,
    ) -> Self {
        Self {
            average: average.map(|schedule| BackboneAverage::new(backbone, schedule)),
            preserved: Preserved::new(preserve, backbone, feature),
        }
    }

    /// The backbone that is evaluated: the average's, or else the teacher's.
    pub(super) fn evaluated<'a>(&'a self, teacher: &'a dyn Backbone) -> &'a dyn Backbone {
        match &self.average {
            Some(average) => &average.backbone,
            None => teacher,
        }
    }

    /// Metadata that name it.
    pub(super) fn metadata_entry(&self) -> (String, String) {
        let name = match &self.average {
            Some(_) => "average",
            None => "teacher",
        };
        ("evaluated".to_owned(), name.to_owned())
    }

    /// The average follows the student after its update. Returns the momentum, with its name.
    pub(super) fn follow(
        &mut self,
        student: &dyn Parameters,
        hp: &StepHyperparams,
    ) -> Option<(&'static str, f64)> {
        let average = self.average.as_mut()?;
        Some(("average_momentum", average.follow(student, hp)))
    }

    pub(super) fn put(&self, state: &mut State) {
        if let Some(average) = &self.average {
            average.put(state);
        }
        if let Some(preserved) = &self.preserved {
            preserved.put(state);
        }
    }

    pub(super) fn restore(&mut self, state: &State) -> Result<()> {
        if let Some(average) = &mut self.average {
            average.restore(state)?;
        }
        match &mut self.preserved {
            Some(preserved) => preserved.restore(state),
            None => Ok(()),
        }
    }

    pub(super) fn start_from(&mut self, weights: &Weights, options: LoadOptions) -> Result<()> {
        if let Some(average) = &mut self.average {
            average.start_from(weights, options)?;
        }
        match &mut self.preserved {
            Some(preserved) => preserved.start_from(weights, options),
            None => Ok(()),
        }
    }
}
