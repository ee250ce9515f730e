//! Training of residual networks: six steps against PyTorch, resuming, and what is refused.
//!
//! `fixtures/resnet` was made by `benches/peers/resnet_steps.py`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::device;
use burn::tensor::{Tensor, TensorData};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::weights::{Array, LoadOptions, Weights, arrays, load, read_arrays};
use dinolab_nn::{Backbone, Feature, HeadConfig, Network, ProjectionConfig, ResNetConfig};
use dinolab_train::{
    AverageSchedule, BatchShape, Dino, DinoConfig, DinoSchedule, JointEmbedding,
    JointEmbeddingConfig, LeJepaObjective, Method, OptimiserKind, StepHyperparams, Views,
};

type Arrays = BTreeMap<String, Array>;

const BATCH: usize = 4;

fn golden() -> Arrays {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/resnet");
    read_arrays(&root.join("steps.safetensors")).unwrap().0
}

fn backbone() -> ResNetConfig {
    ResNetConfig {
        width: 2,
        blocks: [1; 4],
        bottleneck: false,
        ..ResNetConfig::default()
    }
}

fn config(optimizer: OptimiserKind) -> DinoConfig {
    DinoConfig {
        backbone: backbone().into(),
        head: HeadConfig {
            out_dim: 24,
            hidden_dim: 16,
            bottleneck_dim: 8,
            ..HeadConfig::default()
        },
        optimizer,
        clip_grad: 0.5,
        freeze_last_layer: 0,
        schedule: DinoSchedule {
            momentum_teacher: 0.8,
            momentum_teacher_end: 0.8,
            warmup_teacher_temp: 0.05,
            teacher_temp: 0.05,
            warmup_teacher_temp_epochs: 0,
        },
        drop_path: 0.1,
        ..DinoConfig::default()
    }
}

fn at(step: u64, lr: f64) -> StepHyperparams {
    StepHyperparams {
        step,
        epoch: step,
        steps: 6,
        lr,
        weight_decay: 0.01,
        backbone_rate: 1.0,
    }
}

/// What a step sees: odd ones mirrored, steps 2 and 3 of four upside down.
fn views(golden: &Arrays, step: u64) -> Views {
    let view = |name: &str| {
        let array = &golden[name];
        let shape: [usize; 4] = array.shape.as_slice().try_into().unwrap();
        let data = TensorData::new(array.data.clone(), shape);
        let mut x = Tensor::<4>::from_data(data, &device());
        if step % 2 == 1 {
            x = x.flip([3]);
        }
        if step / 2 % 2 == 1 {
            x = x.flip([2]);
        }
        x
    };
    Views {
        batch: BATCH,
        global: view("global"),
        local: Some(view("local")),
    }
}

fn error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f32| f64::from(x).powi(2);
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    let norm: f64 = b.iter().map(|&b| square(b)).sum();
    (difference / norm.max(1e-12)).sqrt()
}

fn with_prefix(golden: &Arrays, prefix: &str) -> Arrays {
    golden
        .iter()
        .filter_map(|(name, array)| Some((name.strip_prefix(prefix)?.to_owned(), array.clone())))
        .collect()
}

fn start(config: &DinoConfig, golden: &Arrays) -> Dino {
    let mut dino = Dino::new(config, &device()).unwrap();
    let weights = Weights {
        arrays: with_prefix(golden, "init."),
        ..Weights::default()
    };
    // The prototypes' lengths are 1 and not in the file.
    let options = LoadOptions {
        allow_missing: true,
        ..LoadOptions::default()
    };
    for network in [&mut dino.student, &mut dino.teacher] {
        let report = load(network, "", &weights, options).unwrap();
        assert!(report.left_over.is_empty());
        assert_eq!(report.missing, ["head.last_layer.weight_g"]);
    }
    dino
}

fn check(network: &Network, expected: &Arrays, what: &str) {
    let found = arrays(network, "");
    assert_eq!(found.len(), expected.len() + 1);
    for (name, expected) in expected {
        let off = error(&found[name].data, &expected.data);
        assert!(off < 1e-3, "{what} {name}: {off}");
    }
}

fn six_steps(optimizer: OptimiserKind, kind: &str, lr: f64) {
    let golden = golden();
    let mut dino = start(&config(optimizer), &golden);
    for (step, expected) in golden[&format!("{kind}.losses")].data.iter().enumerate() {
        let step = step as u64;
        let report = dino.step(&[views(&golden, step)], &at(step, lr)).unwrap();
        let off = (report.loss - f64::from(*expected)).abs();
        assert!(off < 1e-4, "step {step}: {} {expected}", report.loss);
    }
    let centre = to_host_f32(dino.centre.clone().unwrap());
    assert!(error(&centre, &golden[&format!("{kind}.centre")].data) < 1e-3);
    for (network, who) in [(&dino.student, "student"), (&dino.teacher, "teacher")] {
        let expected = with_prefix(&golden, &format!("{kind}.{who}."));
        check(network, &expected, who);
    }
}

#[test]
fn sgd_follows_pytorch() {
    six_steps(OptimiserKind::Sgd, "sgd", 0.05);
}

#[test]
fn lars_follows_pytorch() {
    six_steps(OptimiserKind::Lars, "lars", 0.5);
}

#[test]
fn a_restored_run_goes_on_bit_for_bit() {
    let golden = golden();
    let config = DinoConfig {
        average: Some(AverageSchedule {
            momentum: 0.5,
            momentum_end: 0.5,
        }),
        ..config(OptimiserKind::AdamW)
    };
    let mut whole = start(&config, &golden);
    let mut first = start(&config, &golden);
    for step in 0..4 {
        whole
            .step(&[views(&golden, step)], &at(step, 0.01))
            .unwrap();
        if step < 2 {
            first
                .step(&[views(&golden, step)], &at(step, 0.01))
                .unwrap();
        }
    }
    let mut second = Dino::new(&config, &device()).unwrap();
    second.restore(&first.state()).unwrap();
    for step in 2..4 {
        second
            .step(&[views(&golden, step)], &at(step, 0.01))
            .unwrap();
    }
    assert_eq!(whole.state().tensors, second.state().tensors);
    // The average sees no images itself: its statistics are the student's.
    let tensors = whole.state().tensors;
    let mut compared = 0;
    for (name, array) in &tensors {
        let Some(name) = name.strip_prefix("average.backbone.") else {
            continue;
        };
        let of = |network: &str| &tensors[&format!("{network}.backbone.{name}")];
        if name.contains("running") {
            assert_eq!(array, of("student"));
            assert_ne!(array, of("teacher"));
            compared += 1;
        } else {
            assert_ne!(array, of("student"), "{name}");
        }
    }
    assert_eq!(compared, 2 * 12);
}

#[test]
fn evaluation_does_not_depend_on_the_batch() {
    let golden = golden();
    let mut dino = start(&config(OptimiserKind::Sgd), &golden);
    dino.step(&[views(&golden, 0)], &at(0, 0.05)).unwrap();
    let images = views(&golden, 0).global;
    let features = |images: Tensor<4>| {
        let backbone: &dyn Backbone = dino.backbone();
        to_host_f32(backbone.features(vec![images], Feature::Class, &dinolab_nn::vit::NoDropPath))
    };
    let all = features(images.clone());
    let alone = features(images.narrow(0, 0, 1));
    assert!(error(&alone, &all[..alone.len()]) < 1e-6);
}

#[test]
fn parts_of_a_batch_are_refused() {
    let mut dino = Dino::new(&config(OptimiserKind::Sgd), &device()).unwrap();
    let shape = |accumulate| BatchShape {
        accumulate,
        micro_batch: BATCH,
    };
    assert!(dino.check(shape(1)).is_ok());
    let text = dino.check(shape(2)).unwrap_err().to_string();
    assert!(text.contains("2 micro-batches do not equal"), "{text}");
    dino.distribute(&Default::default()).unwrap();
}

/// A method without a teacher, whose average is evaluated.
#[test]
fn lejepa_averages_parameters_and_copies_statistics() {
    let config = JointEmbeddingConfig {
        backbone: backbone().into(),
        feature: Feature::Class,
        head: ProjectionConfig {
            hidden_dim: 16,
            out_dim: 8,
            layers: 2,
        },
        optimizer: OptimiserKind::AdamW,
        clip_grad: 0.0,
        objective: LeJepaObjective {
            sigreg_weight: 0.05,
        },
        directions: 8,
        average_momentum: 0.9,
        average_momentum_end: 0.9,
        drop_path: 0.0,
        patch_drop: 0.0,
        seed: 0,
        precision: Default::default(),
        adapt: Default::default(),
    };
    let golden = golden();
    let mut method = JointEmbedding::new(&config, &device()).unwrap();
    method.step(&[views(&golden, 0)], &at(0, 0.01)).unwrap();
    let (network, average) = (arrays(&method.network, ""), arrays(&method.average, ""));
    for (name, array) in average {
        let own = &network[&format!("backbone.{name}")];
        assert_eq!(own == &array, name.contains("running"), "{name}");
    }
}
