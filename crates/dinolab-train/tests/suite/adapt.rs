//! What all methods do with weights that they start from: rates by layer, a frozen backbone, features that
//! are held near the original's, changes of low rank.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::device;
use crate::common::golden::to_host_f32;
use crate::common::joint_embedding::{small, varied, views};
use burn::tensor::{Tensor, TensorData};
use dinolab_nn::init::Init;
use dinolab_nn::optim::LayerRates;
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::weights::{Array, LoadOptions, NetworkRole, Weights, arrays, read};
use dinolab_nn::{
    AnyBackbone, Backbone, BackboneConfig, BottleneckConfig, ConvNextConfig, Feature, HeadConfig,
    LoraConfig, Network, Parameters, PatchHeadConfig, Projection, ResNetConfig, VitConfig,
};
use dinolab_train::adapt::drift;
use dinolab_train::checkpoint::{Checkpoint, TrainState, save};
use dinolab_train::{
    AdaptConfig, AverageSchedule, Dino, DinoConfig, DinoV2, DinoV2Config, Distill, DistillConfig,
    FrozenTeacher, IbotConfig, JointEmbedding, JointEmbeddingConfig, LeJepaObjective, MaskConfig,
    Method, OptimiserKind, SimDino, SimDinoConfig, State, StepHyperparams, StepReport, Views,
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

#[test]
fn the_update_of_each_tensor_is_that_of_its_own_rate() {
    let adapt = AdaptConfig {
        layer_decay: 0.7,
        patch_embed_lr_scale: 0.2,
        ..Default::default()
    };
    for optimizer in [
        OptimiserKind::AdamW,
        OptimiserKind::Sgd,
        OptimiserKind::Lars,
        OptimiserKind::Muon,
    ] {
        for backbone in [vit(), resnet(), convnext()] {
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

/// Whether a parameter is one of a head.
fn of_head(name: &str) -> bool {
    name.starts_with("head.") || name.starts_with("ibot_head.")
}

#[test]
fn a_frozen_backbone_and_its_averages_stay_to_the_bit_and_learn_thereafter() {
    for backbone in [vit(), resnet(), convnext()] {
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
                let heads = [
                    "student.head.",
                    "network.head.",
                    "teacher.head.",
                    "student.ibot_head.",
                ];
                for (tensor, values) in part(&frozen, &heads) {
                    let moved = values != before.tensors[&tensor].data;
                    assert!(moved, "{name}: {tensor} has not learned");
                }
                assert!(frozen.steps.keys().all(|name| of_head(name)));
                let names = method.trained_names();
                assert!(names.iter().all(|name| of_head(name)));

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
            ..Default::default()
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

fn preserving(weight: f64) -> AdaptConfig {
    AdaptConfig {
        preserve: weight,
        ..Default::default()
    }
}

fn term(report: &StepReport, name: &str) -> f64 {
    let found = report.terms.iter().find(|(term, _)| *term == name);
    found.unwrap_or_else(|| panic!("no {name}")).1
}

#[test]
fn drift_is_that_of_the_formula_and_so_is_its_gradient() {
    let (rows, width) = (3, 5);
    let values = |number| -> Vec<f32> { (0..rows * width).map(varied(number)).collect() };
    let (x, y) = (values(1), values(2));
    // In double precision.
    let formula = |x: &[f64]| -> f64 {
        let cosine = |row: usize| {
            let a = &x[row * width..][..width];
            let b: Vec<f64> = y[row * width..][..width]
                .iter()
                .map(|&v| v.into())
                .collect();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            dot(a, &b) / (dot(a, a) * dot(&b, &b)).sqrt()
        };
        (0..rows).map(|row| 1.0 - cosine(row)).sum::<f64>() / rows as f64
    };
    let tensor = |values: &[f32]| {
        let data = TensorData::new(values.to_vec(), [rows, width]);
        Tensor::<2>::from_data(data, &device())
    };
    let recorded = Tensor::from_inner(tensor(&x)).require_grad();
    let found = drift(recorded.clone(), tensor(&y));
    let x: Vec<f64> = x.iter().map(|&v| v.into()).collect();
    let value = f64::from(found.clone().into_scalar::<f32>());
    assert!(
        (value - formula(&x)).abs() < 1e-6,
        "{value} {}",
        formula(&x)
    );
    let gradient = to_host_f32(recorded.grad(&found.backward()).unwrap());
    for (i, &found) in gradient.iter().enumerate() {
        let moved = |by: f64| {
            let mut x = x.clone();
            x[i] += by;
            formula(&x)
        };
        let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!(
            (f64::from(found) - expected).abs() < 1e-5,
            "{i}: {found} {expected}"
        );
    }
    let same = drift(tensor(&values(1)), tensor(&values(1))).into_scalar::<f32>();
    assert!(same.abs() < 1e-6, "{same}");
    let zero = drift(tensor(&[0.0; 15]), tensor(&values(1))).into_scalar::<f32>();
    assert!((zero - 1.0).abs() < 1e-6, "{zero}");
}

#[test]
fn preserved_features_begin_as_the_originals_and_stay_nearer_to_them() {
    let case = |weight| Case {
        drop_path: 0.0,
        ..Case::of(preserving(weight))
    };
    let (weak, strong, plain) = (case(1e-9), case(30.0), case(0.0));
    let all = weak.methods().into_iter().zip(strong.methods());
    for ((mut weak, mut strong), mut plain) in all.zip(plain.methods()) {
        let name = weak.name();
        let step = |method: &mut dyn Method, step: u64| {
            method.step(&[views(4, varied(step % 2))], &at(step, 0.003, 1.0))
        };
        let first = step(&mut *strong, 0).unwrap();
        // DINOv2's student does not see the masked patches.
        let most = if name == "dinov2" { 0.01 } else { 1e-6 };
        let drift = term(&first, "drift");
        assert!(drift.abs() < most, "{name}: {:?}", first.terms);
        let of_plain = step(&mut *plain, 0).unwrap();
        assert!(
            (first.loss - 30.0 * drift - of_plain.loss).abs() < 1e-4,
            "{name}"
        );
        assert!(of_plain.terms.iter().all(|(term, _)| *term != "drift"));
        step(&mut *weak, 0).unwrap();
        let (mut near, mut far) = (0.0, 0.0);
        for number in 1..12 {
            let found = step(&mut *strong, number).unwrap();
            near = term(&found, "drift");
            far = term(&step(&mut *weak, number).unwrap(), "drift");
            let others: f64 = match name {
                "dino" => term(&found, "dino"),
                "simdino" => -term(&found, "similarity") - 0.5 * term(&found, "coding_rate"),
                _ => continue,
            };
            assert!(
                (found.loss - others - 30.0 * near).abs() < 1e-4,
                "{name}: {found:?}"
            );
        }
        assert!(far > 0.0 && near < 0.7 * far, "{name}: {near} of {far}");
    }
}

#[test]
fn micro_batches_preserve_as_the_large_batch_does() {
    let case = Case {
        drop_path: 0.0,
        ..Case::of(preserving(2.0))
    };
    let (mut whole, mut parts) = (case.methods().remove(0), case.methods().remove(0));
    for step in 0..3 {
        let large = views(4, varied(step));
        let of_images = |views: &Tensor<4>, first: usize| {
            let [rows, c, h, w] = views.dims();
            let views = views
                .clone()
                .reshape([rows / 4, 4, c, h, w])
                .narrow(1, first, 2);
            views.reshape([rows / 2, c, h, w])
        };
        let half = |first| Views {
            batch: 2,
            global: of_images(&large.global, first),
            local: large.local.as_ref().map(|local| of_images(local, first)),
        };
        let small = [half(0), half(2)];
        let hp = at(step, 0.003, 1.0);
        let (a, b) = (
            whole.step(&[large], &hp).unwrap(),
            parts.step(&small, &hp).unwrap(),
        );
        let (a, b) = (term(&a, "drift"), term(&b, "drift"));
        assert!((a - b).abs() < 1e-4 * a.abs().max(1e-2), "{a} {b}");
    }
}

fn low_rank(rank: usize, alpha: f64) -> AdaptConfig {
    AdaptConfig {
        lora: Some(LoraConfig { rank, alpha }),
        ..Default::default()
    }
}

/// The rows of queries, keys and values, or all rows, of a tensor `[O, I]`.
fn rows(array: &Array, rows: std::ops::Range<usize>) -> Vec<f32> {
    let inputs = array.shape[1];
    array.data[rows.start * inputs..rows.end * inputs].to_vec()
}

#[test]
fn only_a_change_of_low_rank_is_learned_and_averages_follow_the_whole() {
    let (rank, alpha, width) = (2, 3.0, 8);
    let case = Case::of(low_rank(rank, alpha));
    for (mut adapted, plain) in case
        .methods()
        .into_iter()
        .zip(Case::of(preserving(0.0)).methods())
    {
        let name = adapted.name();
        let learned = if name.contains("dino") {
            "student"
        } else {
            "network"
        };
        let of_average = if name.contains("dino") {
            "teacher"
        } else {
            "average"
        };
        // It starts as the network that it adapts.
        let (before, original) = (adapted.state(), plain.state());
        for (tensor, array) in &original.tensors {
            assert_eq!(&before.tensors[tensor], array, "{name}: {tensor}");
        }
        let names = adapted.trained_names();
        let learned_beside = |name: &str| {
            ["head.", "ibot_head.", "lora.", "backbone.mask_token"]
                .iter()
                .any(|start| name.starts_with(start))
        };
        assert!(names.iter().all(|name| learned_beside(name)), "{names:?}");
        let mut averages: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for step in 0..4 {
            let report = adapted
                .step(&[views(4, varied(step))], &at(step, 0.02, 1.0))
                .unwrap();
            assert_eq!(report.grad_norms.len(), names.len(), "{name}");
            let key = if name.contains("dino") {
                "momentum"
            } else {
                "average_momentum"
            };
            let momentum = report
                .scheduled
                .iter()
                .find(|(name, _)| *name == key)
                .unwrap()
                .1;
            for (tensor, array) in &adapted.state().tensors {
                let Some(rest) = tensor.strip_prefix(&format!("{learned}.backbone.")) else {
                    continue;
                };
                let average = averages.entry(rest.to_owned()).or_insert_with(|| {
                    let start = &original.tensors[&format!("{of_average}.backbone.{rest}")];
                    start.data.iter().map(|&v| v.into()).collect()
                });
                for (average, &value) in average.iter_mut().zip(&array.data) {
                    *average = momentum * *average + (1.0 - momentum) * f64::from(value);
                }
            }
        }
        let after = adapted.state();
        let backbone = |tensor: &str| format!("{learned}.backbone.{tensor}");
        let factor = |part: &str| &after.tensors[&format!("{learned}.lora.backbone.{part}")];
        for (tensor, array) in &original.tensors {
            let Some(rest) = tensor.strip_prefix(&format!("{learned}.backbone.")) else {
                continue;
            };
            let found = &after.tensors[tensor];
            if rest == "mask_token" {
                assert_ne!(found, array, "{name}: it is learned as it is");
                continue;
            }
            let layer = rest.strip_suffix(".weight").unwrap_or_default();
            let parts: &[(&str, std::ops::Range<usize>)] = match layer {
                _ if layer.ends_with("qkv") => {
                    &[("queries", 0..width), ("values", 2 * width..3 * width)]
                }
                _ if layer.ends_with("fc1") => &[("all", 0..4 * width)],
                _ if layer.ends_with("fc2") => &[("all", 0..width)],
                _ => &[],
            };
            if parts.is_empty() {
                assert_eq!(found, array, "{name}: {tensor}");
                assert_eq!(
                    after.tensors[&format!("{of_average}.backbone.{rest}")],
                    *array,
                    "{name}: average of {tensor}"
                );
                continue;
            }
            if layer.ends_with("qkv") {
                let keys = width..2 * width;
                assert_eq!(rows(found, keys.clone()), rows(array, keys), "{name}: keys");
            }
            for (part, range) in parts {
                let (a, b) = (
                    factor(&format!("{layer}.{part}.a")),
                    factor(&format!("{layer}.{part}.b")),
                );
                assert_eq!((a.shape[0], b.shape[1]), (rank, rank));
                let inputs = a.shape[1];
                let mut moved = 0;
                for (row, o) in range.clone().enumerate() {
                    for i in 0..inputs {
                        let change: f64 = (0..rank)
                            .map(|r| {
                                f64::from(b.data[row * rank + r])
                                    * f64::from(a.data[r * inputs + i])
                            })
                            .sum();
                        let value = |array: &Array| f64::from(array.data[o * inputs + i]);
                        let expected = value(array) + alpha / rank as f64 * change;
                        assert!((value(found) - expected).abs() < 1e-6, "{name}: {tensor}");
                        moved += usize::from(value(found) != value(array));
                    }
                }
                assert!(
                    moved > inputs * range.len() / 2,
                    "{name}: {tensor} {part} {moved}"
                );
            }
        }
        for (rest, expected) in averages {
            let found = &after.tensors[&format!("{of_average}.backbone.{rest}")].data;
            for (&found, expected) in found.iter().zip(expected) {
                assert!(
                    (f64::from(found) - expected).abs() < 1e-6,
                    "{name}: average of {rest}"
                );
            }
        }
        assert!(
            after
                .tensors
                .contains_key(&backbone("blocks.0.attn.qkv.weight"))
        );
    }
}

#[test]
fn the_merged_network_computes_what_the_adapted_one_does() {
    let config = Case::of(low_rank(3, 6.0)).joint(LeJepaObjective {
        sigreg_weight: 0.05,
    });
    let mut method = JointEmbedding::new(&config, &device()).unwrap();
    for step in 0..3 {
        take(&mut method, &at(step, 0.02, 1.0));
    }
    let images = || Tensor::from_inner(views(4, varied(9)).global);
    let network = &method.network;
    let adapted = network.features(vec![images()], &NoDropPath);
    assert!(adapted.is_tracked());
    let merged = network
        .backbone
        .features(vec![images()], network.feature, &NoDropPath);
    let plain = Case::of(low_rank(3, 6.0)).joint(LeJepaObjective {
        sigreg_weight: 0.05,
    });
    let start = JointEmbedding::new(&plain, &device()).unwrap().network;
    let start = start
        .backbone
        .features(vec![images()], start.feature, &NoDropPath);
    let [adapted, merged, start] =
        [adapted, merged, start].map(|x| to_host_f32(x.without_autodiff()));
    let farthest = |a: &[f32], b: &[f32]| {
        let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        differences.fold(0.0, f32::max)
    };
    assert!(farthest(&adapted, &merged) <= 1e-6);
    assert!(farthest(&adapted, &start) > 1e-2);
}

#[test]
fn gradients_of_the_factors_are_those_of_finite_differences() {
    let config = Case {
        drop_path: 0.0,
        ..Case::of(low_rank(2, 2.0))
    };
    let config = config.joint(LeJepaObjective {
        sigreg_weight: 0.05,
    });
    let mut method = JointEmbedding::new(&config, &device()).unwrap();
    for step in 0..3 {
        take(&mut method, &at(step, 0.05, 1.0));
    }
    let mut network = method.network;
    // Initial weights attend to all tokens alike, and the gradient of queries is next to none.
    network.visit_mut("", &mut |name, param| {
        if name.ends_with("qkv.base") {
            param.set_flat(param.flat() * 20.0);
        }
    });
    let images = || Tensor::from_inner(views(2, varied(5)).global);
    let loss = |network: &Network<Projection>| {
        let features = network.features(vec![images()], &NoDropPath);
        let weights: Vec<f32> = (0..features.dims().iter().product())
            .map(varied(3))
            .collect();
        let weights = Tensor::<2>::from_data(TensorData::new(weights, features.dims()), &device());
        (features * Tensor::from_inner(weights)).sum()
    };
    let mut gradients = loss(&network).backward();
    let mut found = BTreeMap::new();
    network.visit("", &mut |name, param| {
        if let Some(gradient) = param
            .take_grad(&mut gradients)
            .filter(|_| name.starts_with("lora."))
        {
            found.insert(name.to_owned(), to_host_f32(gradient));
        }
    });
    // Two factors of queries, of values, and of each layer of the MLP, in two blocks.
    assert_eq!(found.len(), 16, "{:?}", found.keys());
    for (name, gradient) in found {
        let length = |x: &[f32]| x.iter().map(|x| x.powi(2)).sum::<f32>().sqrt();
        let slope = length(&gradient);
        assert!(slope > 1e-3, "{name}");
        // Along the gradient, and along some other direction.
        for along in [
            gradient.clone(),
            (0..gradient.len()).map(varied(7)).collect(),
        ] {
            let scale = 1.0 / length(&along);
            let mut at_moved = |by: f32| {
                network.visit_mut("", &mut |other, param| {
                    if other == name {
                        let values = param.to_vec().into_iter().zip(&along);
                        let values: Vec<f32> = values.map(|(v, d)| v + by * scale * d).collect();
                        let data = TensorData::new(values, [param.len()]);
                        param.set_flat(Tensor::from_data(data, &device()));
                    }
                });
                loss(&network).without_autodiff().into_scalar::<f32>()
            };
            let (up, down) = (at_moved(0.02), at_moved(-0.04));
            at_moved(0.02);
            let found = (up - down) / 0.04;
            let expected: f32 = gradient
                .iter()
                .zip(&along)
                .map(|(g, d)| g * d * scale)
                .sum();
            let error = (found - expected).abs();
            assert!(
                error < 0.02 * slope,
                "{name}: {found} {expected} of {slope}"
            );
        }
    }
}

#[test]
fn adapted_runs_resume_as_if_unbroken_and_write_plain_networks() {
    let adapt = AdaptConfig {
        layer_decay: 0.8,
        preserve: 0.5,
        ..low_rank(2, 4.0)
    };
    let hp = |step| at(step, 0.01, if step < 2 { 0.0 } else { 0.5 });
    for broken in [1, 2, 3] {
        let all = || Case::of(adapt.clone()).methods().into_iter();
        for ((mut whole, mut first), mut second) in all().zip(all()).zip(all()) {
            let name = whole.name();
            let started = whole.state();
            (0..2).for_each(|step| take(&mut *whole, &hp(step)));
            let prefixes = [&BACKBONES[..], &["student.lora.", "network.lora."]].concat();
            assert_eq!(
                part(&started, &prefixes),
                part(&whole.state(), &prefixes),
                "{name}"
            );
            (2..5).for_each(|step| take(&mut *whole, &hp(step)));
            (0..broken).for_each(|step| take(&mut *first, &hp(step)));

            let folder = tempfile::tempdir().unwrap();
            let position = TrainState {
                config: "a run".into(),
                ..TrainState::default()
            };
            let path = save(folder.path(), &*first, &position, &BTreeMap::new()).unwrap();
            Checkpoint::read(&path)
                .unwrap()
                .restore(&mut *second)
                .unwrap();
            (broken..5).for_each(|step| take(&mut *second, &hp(step)));
            assert_eq!(
                whole.state(),
                State {
                    path: Default::default(),
                    ..second.state()
                },
                "{name}"
            );

            let roles = match name.contains("dino") {
                true => [NetworkRole::Student, NetworkRole::Teacher],
                false => [NetworkRole::Network, NetworkRole::Average],
            };
            for role in roles {
                let weights = read(&path, Some(role)).unwrap();
                let prefix = format!("{}.", role.key());
                let state = first.state();
                for (tensor, array) in &weights.arrays {
                    let parts = ["backbone.", "head.", "ibot_head."];
                    let plain = parts.iter().any(|part| tensor.starts_with(part));
                    assert!(plain, "{name}: {tensor}");
                    let own = state.tensors.get(&format!("{prefix}{tensor}"));
                    assert_eq!(Some(array), own, "{name}: {tensor}");
                }
                assert!(
                    weights
                        .arrays
                        .contains_key("backbone.blocks.1.mlp.fc2.weight")
                );
            }
            let evaluated = read(&path, None).unwrap();
            assert!(evaluated.arrays.contains_key("backbone.norm.weight"));
        }
    }
}

#[test]
fn an_adapted_run_starts_from_given_weights() {
    let adapt = AdaptConfig {
        preserve: 1.0,
        ..low_rank(2, 2.0)
    };
    let given = Case {
        backbone: vit(),
        ..Case::of(AdaptConfig::default())
    };
    let mut given = given.methods().remove(3);
    (0..3).for_each(|step| take(&mut *given, &at(step, 0.02, 1.0)));
    let arrays = arrays(given.learned(), "");
    let weights = Weights {
        arrays: arrays
            .into_iter()
            .filter(|(name, _)| name.starts_with("backbone."))
            .collect(),
        ..Weights::default()
    };
    let options = LoadOptions {
        allow_missing: true,
        ..LoadOptions::default()
    };
    for mut method in Case::of(adapt).methods() {
        let name = method.name();
        method.start_from(&weights, options).unwrap();
        let state = method.state();
        let mut found = 0;
        for (tensor, array) in &state.tensors {
            let local = tensor.split_once('.').map_or("", |(_, local)| local);
            if let Some(expected) = weights.arrays.get(local) {
                assert_eq!(array, expected, "{name}: {tensor}");
                found += 1;
            }
            let base = local
                .strip_prefix("lora.")
                .and_then(|rest| rest.strip_suffix(".base"));
            if let Some(base) = base {
                assert_eq!(
                    array,
                    &weights.arrays[&format!("{base}.weight")],
                    "{name}: {tensor}"
                );
            }
        }
        // The network that learns, its average, and the original.
        assert_eq!(found, 3 * weights.arrays.len(), "{name}");
        take(&mut *method, &at(0, 0.01, 1.0));
        let after = method.state();
        let original = ["original."];
        assert_eq!(part(&state, &original), part(&after, &original));
    }
}

#[test]
fn impossible_changes_are_refused_by_name() {
    let refused = |case: &Case| {
        let lejepa = case.joint(LeJepaObjective {
            sigreg_weight: 0.05,
        });
        JointEmbedding::new(&lejepa, &device())
            .err()
            .unwrap()
            .to_string()
    };
    for (adapt, setting) in [
        (low_rank(9, 9.0), "lora-rank"),
        (low_rank(0, 1.0), "lora-rank"),
        (low_rank(2, 0.0), "lora-alpha"),
        (low_rank(2, f64::NAN), "lora-alpha"),
        (preserving(-1.0), "preserve"),
        (preserving(f64::INFINITY), "preserve"),
    ] {
        let error = refused(&Case::of(adapt));
        assert!(error.contains(setting), "{error}");
    }
    for backbone in [resnet(), convnext()] {
        let convolutional = Case {
            backbone,
            ..Case::of(low_rank(1, 1.0))
        };
        let error = refused(&convolutional);
        assert!(error.contains("transformer"), "{error}");
    }
}
