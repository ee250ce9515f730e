//! What all methods do with weights that they start from: rates by layer, a frozen backbone, features that
//! are held near the original's, changes of low rank.

mod combined;
mod frozen;
mod low_rank;
mod preserve;
mod rates;

use std::collections::BTreeMap;

use dinolab_nn::init::Init;
use dinolab_nn::{
    AnyBackbone, BackboneConfig, BottleneckConfig, ConvNextConfig, Feature, HeadConfig, LoraConfig,
    PatchHeadConfig, ResNetConfig, VitConfig,
};
use dinolab_train::{
    AdaptConfig, AverageSchedule, Dino, DinoConfig, DinoV2, DinoV2Config, Distill, DistillConfig,
    FrozenTeacher, IbotConfig, JointEmbedding, JointEmbeddingConfig, LeJepaObjective, MaskConfig,
    Method, OptimiserKind, SimDino, SimDinoConfig, State, StepHyperparams, VisRegObjective,
};

use crate::common::device;
use crate::common::joint_embedding::{small, varied, views};

fn vit() -> BackboneConfig {
    VitConfig {
        image_size: 16,
        patch_size: 8,
        width: 8,
        depth: 2,
        heads: 2,
        ..Default::default()
    }
    .into()
}

fn resnet() -> BackboneConfig {
    ResNetConfig {
        width: 4,
        blocks: [1, 1, 1, 1],
        bottleneck: false,
        ..Default::default()
    }
    .into()
}

fn convnext() -> BackboneConfig {
    ConvNextConfig {
        widths: [4, 6, 8, 10],
        depths: [1, 2, 1, 1],
        ..Default::default()
    }
    .into()
}

/// What the tests vary.
#[derive(Clone)]
struct Case {
    backbone: BackboneConfig,
    adapt: AdaptConfig,
    optimizer: OptimiserKind,
    average: Option<AverageSchedule>,
    drop_path: f64,
}

impl Case {
    fn of(adapt: AdaptConfig) -> Self {
        Self {
            backbone: vit(),
            adapt,
            optimizer: OptimiserKind::AdamW,
            average: None,
            drop_path: 0.1,
        }
    }

    /// Each method.
    fn methods(&self) -> Vec<Box<dyn Method>> {
        let (adapt, optimizer) = (self.adapt.clone(), self.optimizer);
        let dino = DinoConfig {
            backbone: self.backbone.clone(),
            head: HeadConfig {
                out_dim: 12,
                hidden_dim: 16,
                bottleneck_dim: 6,
                norm_last_layer: false,
                ..Default::default()
            },
            freeze_last_layer: 0,
            average: self.average,
            adapt: adapt.clone(),
            optimizer,
            drop_path: self.drop_path,
            ..Default::default()
        };
        let simdino = SimDinoConfig {
            backbone: self.backbone.clone(),
            feature: Default::default(),
            head: BottleneckConfig {
                hidden_dim: 16,
                out_dim: 6,
                layers: 3,
            },
            optimizer,
            clip_grad: 3.0,
            adapt,
            coding_rate_weight: 0.5,
            coding_rate_epsilon: 0.5,
            momentum_teacher: 0.9,
            momentum_teacher_end: 1.0,
            average: self.average,
            drop_path: self.drop_path,
            patch_drop: 0.0,
            seed: 0,
            precision: Default::default(),
        };
        let lejepa = self.joint(LeJepaObjective {
            sigreg_weight: 0.05,
        });
        let visreg = self.joint(VisRegObjective { visreg_weight: 0.6 });
        let mut all: Vec<Box<dyn Method>> = vec![
            Box::new(Dino::new(&dino, &device()).unwrap()),
            Box::new(SimDino::new(&simdino, &device()).unwrap()),
            Box::new(JointEmbedding::new(&lejepa, &device()).unwrap()),
            Box::new(JointEmbedding::new(&visreg, &device()).unwrap()),
        ];
        let distill = DistillConfig {
            backbone: self.backbone.clone(),
            adapt: self.adapt.clone(),
            optimizer,
            drop_path: self.drop_path,
            ..DistillConfig::default()
        };
        let teacher = AnyBackbone::new(&vit(), &mut Init::new(9), &device()).unwrap();
        let teacher = FrozenTeacher::new(teacher, Feature::Class);
        all.push(Box::new(
            Distill::new(&distill, teacher, &device()).unwrap(),
        ));
        // DINOv2 trains transformers alone.
        if matches!(self.backbone, BackboneConfig::Vit(_)) {
            let dinov2 = DinoV2Config {
                backbone: dino.backbone,
                head: dino.head.clone(),
                ibot: Some(IbotConfig {
                    head: PatchHeadConfig::Apart(dino.head),
                    masks: MaskConfig {
                        probability: 1.0,
                        ratio: (0.5, 0.5),
                    },
                    ..IbotConfig::default()
                }),
                freeze_last_layer: 0,
                average: self.average,
                adapt: self.adapt.clone(),
                optimizer,
                drop_path: self.drop_path,
                ..Default::default()
            };
            all.push(Box::new(DinoV2::new(&dinov2, &device()).unwrap()));
        }
        all
    }

    fn joint<O>(&self, objective: O) -> JointEmbeddingConfig<O> {
        JointEmbeddingConfig {
            backbone: self.backbone.clone(),
            adapt: self.adapt.clone(),
            optimizer: self.optimizer,
            drop_path: self.drop_path,
            patch_drop: 0.0,
            ..small(objective)
        }
    }
}

fn at(step: u64, lr: f64, backbone_rate: f64) -> StepHyperparams {
    StepHyperparams {
        step,
        epoch: step / 4,
        steps: 20,
        lr,
        weight_decay: 0.05,
        backbone_rate,
    }
}

fn take(method: &mut dyn Method, hp: &StepHyperparams) {
    method.step(&[views(4, varied(hp.step))], hp).unwrap();
}

/// Tensors of the state whose names begin with one of `prefixes`.
fn part(state: &State, prefixes: &[&str]) -> BTreeMap<String, Vec<f32>> {
    let wanted = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let tensors = state.tensors.iter().filter(|(name, _)| wanted(name));
    tensors
        .map(|(name, array)| (name.clone(), array.data.clone()))
        .collect()
}

const BACKBONES: [&str; 4] = [
    "student.backbone.",
    "teacher.backbone.",
    "network.backbone.",
    "average.backbone.",
];

fn preserving(weight: f64) -> AdaptConfig {
    AdaptConfig {
        preserve: weight,
        ..Default::default()
    }
}

fn low_rank(rank: usize, alpha: f64) -> AdaptConfig {
    AdaptConfig {
        lora: Some(LoraConfig { rank, alpha }),
        ..Default::default()
    }
}
