//! What can be wrong with a run, and how it is said.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::health::remedy::Remedy;

/// A failure mode of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureMode {
    /// The same output for every image, concentrated on few prototypes.
    ConstantOutput,
    /// The same output for every image, spread evenly over all prototypes.
    UniformOutput,
    /// Loss not finite, rising, or worse than guessing; or gradients exploding.
    Divergence,
    /// The backbone's features are all alike or lie along one line.
    FeatureCollapse,
    /// The embeddings are all alike or lie along one line.
    EmbeddingCollapse,
    /// The outputs for all masked patches are the same.
    PatchCollapse,
    /// The student falls ever further behind the teacher.
    StudentNotFollowing,
    /// Student and teacher start from different weights.
    DifferentInitialWeights,
    /// The teacher changes by more than its moving average.
    TeacherTrained,
    /// The teacher is the student of the step before.
    TeacherCopiesStudent,
    /// Pixels are outside of what normalised ones can be.
    PixelRange,
    /// The student's probabilities go through a softmax again.
    SoftmaxTwice,
    /// Views of different images are compared.
    MixedViews,
    /// Views are compared with themselves.
    SameView,
    /// The loss is not the cross entropy of the outputs, for another reason.
    OtherLoss,
    /// Nothing is subtracted from the teacher's logits.
    NoCentring,
    /// The teacher's temperature is not below the student's.
    NoSharpening,
    /// All images fit into the prototypes' combinations that there are.
    TooFewPrototypes,
}

impl FailureMode {
    /// Whether it is a mistake of the code that trains, or of its settings, and not an effect.
    pub fn is_of_code(self) -> bool {
        match self {
            Self::ConstantOutput
            | Self::UniformOutput
            | Self::Divergence
            | Self::FeatureCollapse
            | Self::EmbeddingCollapse
            | Self::PatchCollapse
            | Self::StudentNotFollowing => false,
            Self::DifferentInitialWeights
            | Self::TeacherTrained
            | Self::TeacherCopiesStudent
            | Self::PixelRange
            | Self::SoftmaxTwice
            | Self::MixedViews
            | Self::SameView
            | Self::OtherLoss
            | Self::NoCentring
            | Self::NoSharpening
            | Self::TooFewPrototypes => true,
        }
    }
}

impl fmt::Display for FailureMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConstantOutput => "constant output",
            Self::UniformOutput => "uniform output",
            Self::Divergence => "divergence",
            Self::FeatureCollapse => "collapsed features",
            Self::EmbeddingCollapse => "collapsed embeddings",
            Self::PatchCollapse => "collapsed patches",
            Self::StudentNotFollowing => "student not following",
            Self::DifferentInitialWeights => "different initial weights",
            Self::TeacherTrained => "trained teacher",
            Self::TeacherCopiesStudent => "teacher copies student",
            Self::PixelRange => "crops normalised twice, or never",
            Self::SoftmaxTwice => "softmax twice",
            Self::MixedViews => "views of other images",
            Self::SameView => "same view",
            Self::OtherLoss => "another loss",
            Self::NoCentring => "no centring",
            Self::NoSharpening => "no sharpening",
            Self::TooFewPrototypes => "too few prototypes",
        })
    }
}

/// Something that needs attention, in plain words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// Which failure mode.
    #[serde(alias = "trouble")]
    pub failure: FailureMode,
    /// What was seen, with numbers.
    pub seen: String,
    /// What it means.
    pub meaning: String,
    /// What to do about it: any one of these, the likeliest first.
    pub remedies: Vec<Remedy>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remedies: Vec<String> = self.remedies.iter().map(ToString::to_string).collect();
        write!(f, "{} {} What may help: ", self.seen, self.meaning)?;
        write!(f, "{}.", remedies.join("; or "))
    }
}
