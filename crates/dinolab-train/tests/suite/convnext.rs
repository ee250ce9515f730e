//! Training of ConvNeXts: micro-batches, resuming, and what is refused.

use crate::common::device;
use burn::tensor::{Tensor, TensorData};
use dinolab_nn::init::Init;
use dinolab_nn::weights::arrays;
use dinolab_nn::{ConvNextConfig, Feature, HeadConfig, ProjectionConfig};
use dinolab_train::{
    AverageSchedule, Dino, DinoConfig, DinoV2, DinoV2Config, JointEmbedding, JointEmbeddingConfig,
    LeJepaObjective, Method, OptimiserKind, StepHyperparams, Views,
};

/// Images of a batch.
const BATCH: usize = 4;

fn backbone() -> ConvNextConfig {
    ConvNextConfig {
        widths: [4, 6, 8, 10],
        depths: [1, 1, 2, 1],
        ..ConvNextConfig::default()
    }
}

fn config() -> DinoConfig {
    DinoConfig {
        backbone: backbone().into(),
        head: HeadConfig {
            out_dim: 24,
            hidden_dim: 16,
            bottleneck_dim: 8,
            ..HeadConfig::default()
        },
        freeze_last_layer: 0,
        average: Some(AverageSchedule {
            momentum: 0.5,
            momentum_end: 0.5,
        }),
        drop_path: 0.3,
        ..DinoConfig::default()
    }
}

fn at(step: u64) -> StepHyperparams {
    StepHyperparams {
        step,
        epoch: step,
        steps: 6,
        lr: 0.01,
        weight_decay: 0.01,
        backbone_rate: 1.0,
    }
}

/// Two global and two local views of the images from `first` on of a batch, view by view.
fn views(step: u64, first: usize, batch: usize) -> Views {
    let of_size = |side: usize, seed: u64| {
        let shape = [2 * BATCH, 3, side, side];
        let values = Init::new(seed + 10 * step).truncated_normal(shape.iter().product(), 1.0);
        let all = Tensor::<4>::from_data(TensorData::new(values, shape), &device());
        let view = |view: usize| all.clone().narrow(0, view * BATCH + first, batch);
        Tensor::cat(vec![view(0), view(1)], 0)
    };
    Views {
        batch,
        global: of_size(64, 1),
        local: Some(of_size(32, 2)),
    }
}

#[test]
fn micro_batches_equal_the_batch_with_the_same_blocks_dropped() {
    let trained = |parts: &[Views]| {
        let mut dino = Dino::new(&config(), &device()).unwrap();
        let loss = dino.step(parts, &at(1)).unwrap().loss;
        (loss, arrays(&dino.student, ""))
    };
    let (whole, of_whole) = trained(&[views(0, 0, BATCH)]);
    let (parts, of_parts) = trained(&[views(0, 0, 2), views(0, 2, 2)]);
    assert!((whole - parts).abs() < 1e-5, "{whole} {parts}");
    for (name, array) in &of_whole {
        // An update of AdamW is as large for the smallest gradient.
        let pairs = array.data.iter().zip(&of_parts[name].data);
        let off = pairs.map(|(a, b)| (a - b).abs()).sum::<f32>() / array.data.len() as f32;
        assert!(off < 2e-4, "{name}: {off}");
    }
}

#[test]
fn a_restored_run_goes_on_bit_for_bit() {
    let [mut whole, mut first, mut second] =
        [(); 3].map(|()| Dino::new(&config(), &device()).unwrap());
    for step in 0..4 {
        let views = [views(step, 0, BATCH)];
        whole.step(&views, &at(step)).unwrap();
        match step < 2 {
            true => first.step(&views, &at(step)).unwrap(),
            false => {
                if step == 2 {
                    second.restore(&first.state()).unwrap();
                }
                second.step(&views, &at(step)).unwrap()
            }
        };
    }
    assert_eq!(whole.state().tensors, second.state().tensors);
}

#[test]
fn a_method_without_a_teacher_learns_every_parameter() {
    for feature in [Feature::Class, Feature::Patches, Feature::Both] {
        let config = JointEmbeddingConfig {
            backbone: backbone().into(),
            feature,
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
        let mut method = JointEmbedding::new(&config, &device()).unwrap();
        let before = arrays(&method.network, "");
        method.step(&[views(0, 0, BATCH)], &at(0)).unwrap();
        for (name, array) in arrays(&method.network, "") {
            assert_ne!(array, before[&name], "{name}");
        }
    }
}

#[test]
fn masks_of_patches_are_refused() {
    let config = DinoV2Config {
        backbone: backbone().into(),
        ..DinoV2Config::default()
    };
    let error = DinoV2::new(&config, &device()).err().unwrap().to_string();
    assert!(
        error.starts_with("arch: a ConvNeXt has no patches"),
        "{error}"
    );
}
