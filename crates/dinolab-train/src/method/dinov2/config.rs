//! The settings of DINOv2, and what it refuses.

use dinolab_nn::optim::OptimiserKind;
use dinolab_nn::{BackboneConfig, HeadConfig, PatchHeadConfig, Precision, VitConfig};

use crate::masks::MaskConfig;
use crate::method::average::AverageSchedule;
use crate::method::check;
use crate::method::dino::{Centering, DinoSchedule};
use crate::{AdaptConfig, Result};

/// The settings of DINOv2.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DinoV2Config {
    /// The backbone, a vision transformer.
    pub backbone: BackboneConfig,
    /// The head on class tokens.
    pub head: HeadConfig,
    /// The prediction of masked patches; `None` leaves it out, and nothing is masked.
    pub ibot: Option<IbotConfig>,
    /// The optimiser.
    pub optimizer: OptimiserKind,
    /// Each parameter's gradient is clipped to this norm; 0 disables.
    pub clip_grad: f64,
    /// How weights that it starts from are adapted.
    #[serde(default)]
    pub adapt: AdaptConfig,
    /// Epochs during which the prototypes of both heads stay as they are.
    pub freeze_last_layer: u64,
    /// Student temperature, `T_s`.
    pub student_temp: f64,
    /// What keeps the teacher from preferring some prototypes, of class and patch tokens.
    pub centering: Centering,
    /// Momentum of the centres, where there are any.
    pub center_momentum: f64,
    /// Weight of KoLeo on the student's class tokens of the global views; 0 disables. (DINOv2 adds up the two
    /// views: its weight of 0.1 is 0.2 here.)
    pub koleo_weight: f64,
    /// Teacher momentum and temperature.
    pub schedule: DinoSchedule,
    /// The average that is evaluated; `None` evaluates the teacher.
    pub average: Option<AverageSchedule>,
    /// Largest rate of stochastic depth.
    pub drop_path: f64,
    /// Seed of initial weights, of stochastic depth and of masks.
    pub seed: u64,
    /// What activations and matrix multiplications are computed in.
    pub precision: Precision,
}

/// The prediction of masked patches.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct IbotConfig {
    /// Its weight in the loss, above 0.
    pub weight: f64,
    /// The head on patch tokens.
    pub head: PatchHeadConfig,
    /// Which patches are masked.
    pub masks: MaskConfig,
}

impl Default for IbotConfig {
    fn default() -> Self {
        Self {
            weight: 1.0,
            head: PatchHeadConfig::Apart(HeadConfig::default()),
            masks: MaskConfig::default(),
        }
    }
}

/// DINOv2's settings, of a ViT-S/16 and 65,536 prototypes.
impl Default for DinoV2Config {
    fn default() -> Self {
        Self {
            backbone: VitConfig::default().into(),
            head: HeadConfig::default(),
            ibot: Some(IbotConfig::default()),
            optimizer: OptimiserKind::AdamW,
            clip_grad: 3.0,
            adapt: AdaptConfig::default(),
            freeze_last_layer: 1,
            student_temp: 0.1,
            centering: Centering::Sinkhorn,
            center_momentum: 0.9,
            koleo_weight: 0.2,
            schedule: DinoSchedule {
                momentum_teacher: 0.992,
                ..DinoSchedule::default()
            },
            average: None,
            drop_path: 0.1,
            seed: 0,
            precision: Precision::default(),
        }
    }
}

impl DinoV2Config {
    /// Refuses impossible numbers; returns the backbone.
    pub(super) fn check(&self) -> Result<&VitConfig> {
        self.adapt.check()?;
        check::weight("koleo-weight", self.koleo_weight)?;
        check::share("momentum-teacher-end", self.schedule.momentum_teacher_end)?;
        self.average.map_or(Ok(()), |average| average.check())?;
        if let Some(ibot) = &self.ibot {
            check::weight("ibot-weight", ibot.weight)?;
            ibot.masks.check()?;
        }
        self.backbone.vit().ok_or_else(|| {
            let reason = format!(
                "{} has no patches to mask, which DINOv2 needs; use a vision transformer",
                self.backbone.kind()
            );
            check::bad("arch", reason)
        })
    }

    /// Refuses micro-batches where KoLeo looks at all images of a step.
    pub(super) fn check_accumulation(&self, micro_batches: usize) -> Result<()> {
        if micro_batches == 1 || self.koleo_weight == 0.0 {
            return Ok(());
        }
        let reason = format!(
            "{micro_batches} micro-batches do not equal a large batch for KoLeo, which looks for neighbours \
             in each by itself; use one or the other"
        );
        Err(check::bad("accumulate", reason))
    }

    /// Number of prototypes of patch tokens, if they are predicted.
    pub(super) fn patch_prototypes(&self) -> Option<usize> {
        Some(match &self.ibot.as_ref()?.head {
            PatchHeadConfig::Shared => self.head.out_dim,
            PatchHeadConfig::Apart(head) => head.out_dim,
        })
    }
}
