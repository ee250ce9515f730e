//! The settings of distillation, and what it refuses.

use dinolab_nn::optim::OptimiserKind;
use dinolab_nn::{BackboneConfig, Feature, Precision, VitConfig};

use crate::method::average::AverageSchedule;
use crate::method::check;
use crate::{AdaptConfig, Result};

/// The settings of distillation. Those of the teacher come with [it](super::FrozenTeacher).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DistillConfig {
    /// The student's backbone.
    pub backbone: BackboneConfig,
    /// What of the student's tokens predicts the teacher's feature, and is used later.
    pub feature: Feature,
    /// Width of the projections' hidden layers.
    pub head_hidden_dim: usize,
    /// Linear layers of the projections; 1 is a linear map.
    pub head_layers: usize,
    /// Weight of the teacher's feature in the loss; 0 disables.
    pub feature_weight: f64,
    /// Weight of the teacher's patch tokens in the loss; 0 disables.
    pub patch_weight: f64,
    /// Whether the same crops come again in later epochs: the teacher's outputs are in half precision then, and
    /// [kept](crate::Method::keep_in).
    #[serde(default)]
    pub repeated_crops: bool,
    /// The optimiser.
    pub optimizer: OptimiserKind,
    /// Each parameter's gradient is clipped to this norm; 0 disables.
    pub clip_grad: f64,
    /// How weights that it starts from are adapted.
    pub adapt: AdaptConfig,
    /// The average of the student's backbone, which is evaluated.
    pub average: AverageSchedule,
    /// Largest rate of stochastic depth.
    pub drop_path: f64,
    /// Seed of initial weights and of stochastic depth.
    pub seed: u64,
    /// What activations and matrix multiplications are computed in, the teacher's too.
    pub precision: Precision,
}

/// A linear map from a ViT-S/16, equal weights.
impl Default for DistillConfig {
    fn default() -> Self {
        Self {
            backbone: VitConfig::default().into(),
            feature: Feature::Class,
            head_hidden_dim: 2048,
            head_layers: 1,
            feature_weight: 1.0,
            patch_weight: 1.0,
            repeated_crops: false,
            optimizer: OptimiserKind::AdamW,
            clip_grad: 3.0,
            adapt: AdaptConfig::default(),
            average: AverageSchedule {
                momentum: 0.98,
                momentum_end: 0.98,
            },
            drop_path: 0.0,
            seed: 0,
            precision: Precision::default(),
        }
    }
}

impl DistillConfig {
    /// Refuses impossible numbers.
    pub(super) fn check(&self) -> Result<()> {
        self.adapt.check()?;
        self.average.check()?;
        check::weight("teacher-feature-weight", self.feature_weight)?;
        check::weight("teacher-patch-weight", self.patch_weight)?;
        match self.feature_weight + self.patch_weight > 0.0 {
            true => Ok(()),
            false => {
                let reason =
                    "must be above 0 if `teacher-feature-weight` is 0: nothing would be learned";
                Err(check::bad("teacher-patch-weight", reason))
            }
        }
    }
}
