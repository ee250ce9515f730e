//! Classic mistakes of a first implementation of DINO, to train with and to recognise.
//!
//! Each [`Mistake`] is trained beside the right step on the built-in images for half a minute
//! ([`ShortRun`]), and leaves figures by which [`crate::health::diagnose`] names it. The step with room
//! for mistakes is [`step`]: DINO without anything that makes it fast, read beside the paper's
//! algorithm 1.

mod cross_entropies;
mod lesson;
mod short_run;
pub mod step;

use std::fmt;

pub use self::lesson::Lesson;
pub use self::short_run::{BATCH, EPOCHS, IMAGES, OUT_DIM, ShortRun};
use crate::health::{FailureMode, Health};

/// A mistake in an implementation of DINO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Mistake {
    /// The teacher starts from weights of its own
    DifferentWeights,
    /// The head has 4 prototypes
    FewPrototypes,
    /// The student's probabilities go through a softmax again
    SoftmaxTwice,
    /// Outputs stored view by view are read image by image
    MixedViews,
    /// The centre stays 0
    NoCentring,
    /// The teacher's temperature is left out
    NoSharpening,
    /// The teacher's targets are not detached, and the optimiser has its weights, too
    TeacherNotDetached,
    /// The teacher's momentum is read from the student's schedule, of the learning rate
    StudentSchedule,
    /// Each view is also compared with itself
    SameView,
    /// Crops are normalised a second time
    NormalisedTwice,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::DifferentWeights,
        Self::FewPrototypes,
        Self::SoftmaxTwice,
        Self::MixedViews,
        Self::NoCentring,
        Self::NoSharpening,
        Self::TeacherNotDetached,
        Self::StudentSchedule,
        Self::SameView,
        Self::NormalisedTwice,
    ];

    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::DifferentWeights => "different-weights",
            Self::FewPrototypes => "few-prototypes",
            Self::SoftmaxTwice => "softmax-twice",
            Self::MixedViews => "mixed-views",
            Self::NoCentring => "no-centring",
            Self::NoSharpening => "no-sharpening",
            Self::TeacherNotDetached => "teacher-not-detached",
            Self::StudentSchedule => "student-schedule",
            Self::SameView => "same-view",
            Self::NormalisedTwice => "normalised-twice",
        }
    }

    /// What the health check calls it.
    pub fn failure(self) -> FailureMode {
        match self {
            Self::DifferentWeights => FailureMode::DifferentInitialWeights,
            Self::FewPrototypes => FailureMode::TooFewPrototypes,
            Self::SoftmaxTwice => FailureMode::SoftmaxTwice,
            Self::MixedViews => FailureMode::MixedViews,
            Self::NoCentring => FailureMode::NoCentring,
            Self::NoSharpening => FailureMode::NoSharpening,
            Self::TeacherNotDetached => FailureMode::TeacherTrained,
            Self::StudentSchedule => FailureMode::TeacherCopiesStudent,
            Self::SameView => FailureMode::SameView,
            Self::NormalisedTwice => FailureMode::PixelRange,
        }
    }

    /// The figure that gives it away.
    pub fn sign(self) -> &'static str {
        match self {
            Self::DifferentWeights => "initial distance",
            Self::FewPrototypes => "active prototypes",
            Self::SoftmaxTwice | Self::MixedViews | Self::SameView => "loss − cross entropy",
            Self::NoCentring => "length of the centre",
            Self::NoSharpening => "T_t / T_s",
            Self::TeacherNotDetached => "teacher's step",
            Self::StudentSchedule => "teacher's lag",
            Self::NormalisedTwice => "least pixel",
        }
    }

    /// The value of that figure in an epoch, if it was measured.
    pub fn sign_of(self, health: &Health) -> Option<f64> {
        let known = &health.invariants;
        match self {
            Self::DifferentWeights => known.initial_distance,
            Self::FewPrototypes => health.active_prototypes,
            Self::SoftmaxTwice | Self::MixedViews | Self::SameView => {
                Some(known.measured_loss? - known.cross_entropy?)
            }
            Self::NoCentring => health.centre_norm,
            Self::NoSharpening => Some(health.teacher_temp? / known.student_temp?),
            Self::TeacherNotDetached => known.teacher_step,
            Self::StudentSchedule => known.teacher_lag,
            Self::NormalisedTwice => known.pixel_min,
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
