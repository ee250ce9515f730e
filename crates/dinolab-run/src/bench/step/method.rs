//! The method whose step is timed.

use dinolab_nn::init::Init;
use dinolab_nn::{
    AnyBackbone, BottleneckConfig, Device, HeadConfig, PatchHeadConfig, ProjectionConfig,
};
use dinolab_train::{
    Dino, DinoConfig, DinoSchedule, DinoV2, DinoV2Config, Distill, DistillConfig, FrozenTeacher,
    IbotConfig, JointEmbeddingConfig, LeJepa, LeJepaObjective, Method, SimDino, SimDinoConfig,
    VisReg, VisRegObjective,
};

use super::StepOptions;
use crate::error::Result;
use crate::values::MethodKind;

/// A method and the sizes of its head.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct MethodOptions {
    /// Training method
    #[cfg_attr(
        feature = "clap",
        arg(long, value_enum, value_name = "METHOD", default_value_t = MethodKind::Dino)
    )]
    pub method: MethodKind,
    /// Number of prototypes (DINO, DINOv2)
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 4096))]
    pub out_dim: usize,
    /// Width of the head's hidden layers [default: 2048; LeJEPA, VISReg: 512]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub head_hidden_dim: Option<usize>,
    /// Width of the head's bottleneck (DINO, DINOv2, SimDINO)
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 256))]
    pub head_bottleneck_dim: usize,
    /// Width of the embeddings (LeJEPA, VISReg)
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 64))]
    pub proj_dim: usize,
    /// Number of random projections per step (LeJEPA, VISReg)
    #[cfg_attr(
        feature = "clap",
        arg(
            long,
            alias = "sigreg-directions",
            value_name = "N",
            default_value_t = 256
        )
    )]
    pub directions: usize,
    /// Keep prototypes L2-normalised (DINO, DINOv2)
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)
    )]
    pub norm_last_layer: bool,
}

impl MethodOptions {
    /// The method with its head.
    pub fn method(&self) -> StepMethod {
        let hidden = |default| self.head_hidden_dim.unwrap_or(default);
        let sizes = EmbeddingSizes {
            head: ProjectionConfig {
                hidden_dim: hidden(512),
                out_dim: self.proj_dim,
                ..ProjectionConfig::default()
            },
            directions: self.directions,
        };
        let prototypes = || HeadConfig {
            out_dim: self.out_dim,
            hidden_dim: hidden(2048),
            bottleneck_dim: self.head_bottleneck_dim,
            norm_last_layer: self.norm_last_layer,
            ..HeadConfig::default()
        };
        match self.method {
            MethodKind::Dino => StepMethod::Dino(prototypes()),
            MethodKind::DinoV2 => StepMethod::DinoV2(prototypes()),
            MethodKind::SimDino => StepMethod::SimDino(BottleneckConfig {
                hidden_dim: hidden(2048),
                out_dim: self.head_bottleneck_dim,
                ..BottleneckConfig::default()
            }),
            MethodKind::LeJepa => StepMethod::LeJepa(sizes),
            MethodKind::VisReg => StepMethod::VisReg(sizes),
            MethodKind::Distill => StepMethod::Distill,
        }
    }
}

/// A method with its head.
#[derive(Clone, Debug)]
pub enum StepMethod {
    /// DINO.
    Dino(HeadConfig),
    /// DINOv2, with such a head for class tokens and another for patches.
    DinoV2(HeadConfig),
    /// SimDINO.
    SimDino(BottleneckConfig),
    /// LeJEPA.
    LeJepa(EmbeddingSizes),
    /// VISReg.
    VisReg(EmbeddingSizes),
    /// Distillation from a network of the same sizes, by linear maps.
    Distill,
}

/// Sizes of a method without a teacher.
#[derive(Clone, Debug)]
pub struct EmbeddingSizes {
    /// The projection.
    pub head: ProjectionConfig,
    /// Random directions of a step.
    pub directions: usize,
}

impl StepMethod {
    /// Nominal operations of the head for one row.
    pub(super) fn head_operations(&self, width: usize) -> f64 {
        let sizes = match self {
            Self::Dino(head) | Self::DinoV2(head) => vec![
                width,
                head.hidden_dim,
                head.hidden_dim,
                head.bottleneck_dim,
                head.out_dim,
            ],
            Self::SimDino(head) => vec![width, head.hidden_dim, head.hidden_dim, head.out_dim],
            Self::LeJepa(EmbeddingSizes { head, .. })
            | Self::VisReg(EmbeddingSizes { head, .. }) => {
                vec![width, head.hidden_dim, head.hidden_dim, head.out_dim]
            }
            Self::Distill => vec![width, width],
        };
        let pairs = sizes.windows(2).map(|io| (io[0] * io[1]) as f64);
        2.0 * pairs.sum::<f64>()
    }

    pub(super) fn build(&self, options: &StepOptions, device: &Device) -> Result<Box<dyn Method>> {
        let (backbone, clip_grad) = (options.backbone.clone(), options.clip_grad);
        let (drop_path, precision) = (options.drop_path_rate, options.precision);
        let optimizer = options.optimizer;
        Ok(match self {
            Self::Dino(head) => {
                let config = DinoConfig {
                    backbone,
                    feature: options.feature,
                    head: head.clone(),
                    optimizer,
                    clip_grad,
                    freeze_last_layer: 0,
                    student_temp: 0.1,
                    center_momentum: 0.9,
                    schedule: DinoSchedule {
                        momentum_teacher: 0.996,
                        warmup_teacher_temp: 0.04,
                        teacher_temp: 0.04,
                        warmup_teacher_temp_epochs: 0,
                        ..Default::default()
                    },
                    drop_path,
                    seed: 0,
                    precision,
                    ..Default::default()
                };
                Box::new(Dino::new(&config, device)?)
            }
            Self::DinoV2(head) => {
                let config = DinoV2Config {
                    backbone,
                    head: head.clone(),
                    ibot: Some(IbotConfig {
                        head: PatchHeadConfig::Apart(head.clone()),
                        ..IbotConfig::default()
                    }),
                    optimizer,
                    clip_grad,
                    freeze_last_layer: 0,
                    drop_path,
                    precision,
                    ..DinoV2Config::default()
                };
                Box::new(DinoV2::new(&config, device)?)
            }
            Self::SimDino(head) => {
                let config = SimDinoConfig {
                    backbone,
                    feature: options.feature,
                    head: head.clone(),
                    optimizer,
                    clip_grad,
                    coding_rate_weight: SimDinoConfig::suggested_weight(
                        head.out_dim,
                        options.batch_size,
                    ),
                    coding_rate_epsilon: 0.5,
                    momentum_teacher: 0.996,
                    momentum_teacher_end: 1.0,
                    average: None,
                    drop_path,
                    patch_drop: 0.0,
                    seed: 0,
                    precision,
                    adapt: Default::default(),
                };
                Box::new(SimDino::new(&config, device)?)
            }
            Self::Distill => {
                let teacher = AnyBackbone::new(&backbone, &mut Init::new(1), device)?;
                let config = DistillConfig {
                    backbone,
                    feature: options.feature,
                    optimizer,
                    clip_grad,
                    drop_path,
                    precision,
                    ..DistillConfig::default()
                };
                let teacher = FrozenTeacher::new(teacher, options.feature);
                Box::new(Distill::new(&config, teacher, device)?)
            }
            Self::LeJepa(sizes) => {
                let objective = LeJepaObjective {
                    sigreg_weight: 0.05,
                };
                Box::new(LeJepa::new(&sizes.config(objective, options), device)?)
            }
            Self::VisReg(sizes) => {
                let objective = VisRegObjective { visreg_weight: 0.6 };
                Box::new(VisReg::new(&sizes.config(objective, options), device)?)
            }
        })
    }
}

impl EmbeddingSizes {
    fn config<O>(&self, objective: O, options: &StepOptions) -> JointEmbeddingConfig<O> {
        JointEmbeddingConfig {
            backbone: options.backbone.clone(),
            feature: options.feature,
            head: self.head.clone(),
            optimizer: options.optimizer,
            clip_grad: options.clip_grad,
            objective,
            directions: self.directions,
            average_momentum: 0.98,
            average_momentum_end: 0.98,
            drop_path: options.drop_path_rate,
            patch_drop: 0.0,
            seed: 0,
            precision: options.precision,
            adapt: Default::default(),
        }
    }
}
