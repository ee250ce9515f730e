//! Classic mistakes of a first implementation of DINO, to train with and to recognise.
//!
//! Each [`Mistake`] is trained beside the right step on the built-in images for half a minute
//! ([`ShortRun`]), and leaves figures by which [`crate::health::diagnose`] names it. The step with room
//! for mistakes is [`step`]: DINO without anything that makes it fast, read beside the paper's
//! algorithm 1.

mod cross_entropies;
mod short_run;
pub mod step;

use std::fmt;

pub use self::short_run::{BATCH, EPOCHS, IMAGES, OUT_DIM, ShortRun};
use crate::health::FailureMode;

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

    /// The figure that gives it away: its name in `metrics.jsonl`.
    pub fn sign(self) -> &'static str {
        match self {
            Self::DifferentWeights => "initial_distance",
            Self::FewPrototypes => "mutual_information",
            Self::SoftmaxTwice | Self::MixedViews | Self::SameView => "cross_entropy",
            Self::NoCentring => "centre_norm",
            Self::NoSharpening => "teacher_entropy",
            Self::TeacherNotDetached => "teacher_step",
            Self::StudentSchedule => "teacher_lag",
            Self::NormalisedTwice => "pixel_min",
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
