//! What all methods do with weights that they start from: rates by layer, a frozen backbone.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::device;
use common::joint_embedding::{small, varied, views};
use dinolab_nn::optim::LayerRates;
use dinolab_nn::weights::arrays;
use dinolab_nn::{BackboneConfig, BottleneckConfig, HeadConfig, ResNetConfig, VitConfig};
use dinolab_train::{
    AdaptConfig, AverageSchedule, Dino, DinoConfig, JointEmbedding, JointEmbeddingConfig,
    LeJepaObjective, Method, OptimiserKind, SimDino, SimDinoConfig, State, StepHyperparams,
    VisRegObjective,
};

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
        vec![
            Box::new(Dino::new(&dino, &device()).unwrap()),
            Box::new(SimDino::new(&simdino, &device()).unwrap()),
            Box::new(JointEmbedding::new(&lejepa, &device()).unwrap()),
            Box::new(JointEmbedding::new(&visreg, &device()).unwrap()),
        ]
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

#[test]
fn the_update_of_each_tensor_is_that_of_its_own_rate() {
    let adapt = AdaptConfig {
        layer_decay: 0.7,
        patch_embed_lr_scale: 0.2,
    };
    for optimizer in [
        OptimiserKind::AdamW,
        OptimiserKind::Sgd,
        OptimiserKind::Lars,
    ] {
        for backbone in [vit(), resnet()] {
            let rates = LayerRates::new(&backbone, 0.7, 0.2);
            let adapted = Case {
                backbone,
                optimizer,
                ..Case::of(adapt.clone())
            };
            let plain = Case {
                adapt: AdaptConfig::default(),
                ..adapted.clone()
            };
            for (place, mut method) in adapted.methods().into_iter().enumerate() {
                take(&mut *method, &at(0, 0.01, 1.0));
                let found = arrays(method.learned(), "");
                let mut factors = BTreeSet::new();
                for name in found.keys() {
                    factors.insert(rates.factor(name).to_bits());
                }
                assert!(factors.len() >= 5, "{factors:?}");
                for bits in factors {
                    let factor = f64::from_bits(bits);
                    let mut other = plain.methods().remove(place);
                    take(&mut *other, &at(0, 0.01 * factor, 1.0));
                    let expected = arrays(other.learned(), "");
                    for (name, array) in &found {
                        if rates.factor(name) == factor {
                            let name = format!("{name} of {} by {optimizer:?}", other.name());
                            assert_eq!(array, &expected[name.split(' ').next().unwrap()], "{name}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_frozen_backbone_and_its_averages_stay_to_the_bit_and_learn_thereafter() {
    for backbone in [vit(), resnet()] {
        for average in [
            None,
            Some(AverageSchedule {
                momentum: 0.9,
                momentum_end: 0.99,
            }),
        ] {
            let case = Case {
                backbone: backbone.clone(),
                average,
                ..Case::of(AdaptConfig::default())
            };
            for mut method in case.methods() {
                let name = method.name();
                let all = method.trained_names();
                let before = method.state();
                for step in 0..3 {
                    take(&mut *method, &at(step, 0.01, 0.0));
                }
                let frozen = method.state();
                assert_eq!(
                    part(&before, &BACKBONES),
                    part(&frozen, &BACKBONES),
                    "{name}"
                );
                let heads = ["student.head.", "network.head.", "teacher.head."];
                for (tensor, values) in part(&frozen, &heads) {
                    let moved = values != before.tensors[&tensor].data;
                    assert!(moved, "{name}: {tensor} has not learned");
                }
                assert!(frozen.steps.keys().all(|name| name.starts_with("head.")));
                let names = method.trained_names();
                assert!(names.iter().all(|name| name.starts_with("head.")));

                for step in 3..5 {
                    take(&mut *method, &at(step, 0.01, 1.0));
                }
                assert_eq!(method.trained_names(), all, "{name}");
                let learned = method.state();
                for (tensor, values) in part(&learned, &BACKBONES) {
                    let moved = values != frozen.tensors[&tensor].data;
                    assert!(moved, "{name}: {tensor} is still frozen");
                }
            }
        }
    }
}

#[test]
fn a_run_resumed_before_and_after_the_thaw_is_the_unbroken_one() {
    let case = Case {
        average: Some(AverageSchedule {
            momentum: 0.5,
            momentum_end: 0.9,
        }),
        ..Case::of(AdaptConfig {
            layer_decay: 0.8,
            patch_embed_lr_scale: 0.2,
        })
    };
    let hp = |step| at(step, 0.01, if step < 3 { 0.0 } else { 0.5 });
    for broken in [2, 3, 4] {
        let (whole, first, second) = (case.methods(), case.methods(), case.methods());
        for ((mut whole, mut first), mut second) in whole.into_iter().zip(first).zip(second) {
            (0..6).for_each(|step| take(&mut *whole, &hp(step)));
            (0..broken).for_each(|step| take(&mut *first, &hp(step)));
            second.restore(&first.state()).unwrap();
            (broken..6).for_each(|step| take(&mut *second, &hp(step)));
            assert_eq!(whole.state(), second.state(), "{}", whole.name());
        }
    }
}

#[test]
fn impossible_numbers_are_refused_by_name() {
    for (adapt, setting) in [
        (
            AdaptConfig {
                layer_decay: 0.0,
                ..Default::default()
            },
            "layer-decay",
        ),
        (
            AdaptConfig {
                layer_decay: 1.1,
                ..Default::default()
            },
            "layer-decay",
        ),
        (
            AdaptConfig {
                layer_decay: f64::NAN,
                ..Default::default()
            },
            "layer-decay",
        ),
        (
            AdaptConfig {
                patch_embed_lr_scale: -0.1,
                ..Default::default()
            },
            "patch-embed-lr-scale",
        ),
    ] {
        let lejepa = Case::of(adapt).joint(LeJepaObjective {
            sigreg_weight: 0.05,
        });
        let error = JointEmbedding::new(&lejepa, &device()).err().unwrap();
        assert!(error.to_string().contains(setting), "{error}");
    }
}
