//! Sizes of the networks, and position embeddings of other image sizes.

mod common;

use common::device;
use dinolab_nn::init::Init;
use dinolab_nn::position::{PositionRule, resample, resampling};
use dinolab_nn::{Head, HeadConfig, Network, Parameters, Vit, VitConfig};
use proptest::prelude::*;

#[test]
fn backbones_have_the_published_numbers_of_parameters() {
    for (arch, patch, count) in [
        ("vit_tiny", 16, 5_524_416),
        ("vit_small", 16, 21_665_664),
        ("vit_small", 8, 21_670_272),
    ] {
        let config = VitConfig::named(arch, patch, 224).unwrap();
        let vit = Vit::new(&config, &mut Init::new(0), &device()).unwrap();
        assert_eq!(vit.parameter_count(), count, "{arch}/{patch}");
    }
    assert!(VitConfig::named("resnet50", 16, 224).is_none());
}

#[test]
fn frozen_prototype_lengths_are_no_parameters() {
    let count = |norm_last_layer| {
        let config = HeadConfig {
            out_dim: 512,
            norm_last_layer,
            ..HeadConfig::default()
        };
        let head = Head::new(&config, 384, &mut Init::new(0), &device()).unwrap();
        head.parameter_count()
    };
    let linears = (384 * 2048 + 2048) + (2048 * 2048 + 2048) + (2048 * 256 + 256);
    assert_eq!(count(true), linears + 512 * 256);
    assert_eq!(count(false), linears + 512 * 256 + 512);
}

#[test]
fn initial_weights_have_the_references_spread() {
    let config = VitConfig::named("vit_tiny", 16, 224).unwrap();
    let head = HeadConfig {
        out_dim: 1024,
        ..HeadConfig::default()
    };
    let made = |seed| Network::new(&config, &head, seed, &device()).unwrap();
    let all = |network: &Network| {
        let mut all = Vec::new();
        network.visit("", &mut |name, param| {
            all.push((name.to_owned(), param.to_vec()))
        });
        all
    };
    let values = all(&made(3));
    for (name, values) in &values {
        let n = values.len() as f64;
        let std = (values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n).sqrt();
        let largest = values.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        let near = |expected: f64| assert!((std / expected - 1.0).abs() < 0.05, "{name}: {std}");
        if name.contains("patch_embed.proj") {
            // A convolution keeps its framework's own: uniform, ±1/√fan-in.
            let bound = 1.0 / 768f64.sqrt();
            assert!(f64::from(largest) <= bound + 1e-9, "{name}: {largest}");
            if name.ends_with("weight") {
                near(bound / 3f64.sqrt());
            }
        } else if name.ends_with("weight_v") {
            assert!(largest <= 1.0 / 16.0, "{name}: {largest}");
            near(1.0 / 16.0 / 3f64.sqrt());
        } else if name.ends_with(".bias") {
            assert_eq!(largest, 0.0, "{name}");
        } else if name.contains("norm") || name.ends_with("weight_g") {
            assert!(values.iter().all(|&v| v == 1.0), "{name}");
        } else if values.len() > 1000 {
            near(0.02);
        }
    }
    assert!(all(&made(3)) == values, "the same seed");
    assert!(all(&made(4)) != values, "another seed");
}

#[test]
fn sizes_that_make_no_network_name_the_setting() {
    let refuse = |edit: fn(&mut VitConfig)| {
        let mut config = VitConfig::named("vit_tiny", 16, 224).unwrap();
        edit(&mut config);
        let error = Vit::new(&config, &mut Init::new(0), &device()).unwrap_err();
        error.to_string()
    };
    assert!(refuse(|c| c.heads = 5).contains("heads"));
    assert!(refuse(|c| c.heads = 0).contains("heads"));
    assert!(refuse(|c| c.patch_size = 0).contains("patch-size"));
    assert!(refuse(|c| c.image_size = 8).contains("patch-size"));
    assert!(refuse(|c| c.depth = 0).contains("depth"));
    let head = HeadConfig {
        bottleneck_dim: 0,
        ..HeadConfig::default()
    };
    let error = Head::new(&head, 8, &mut Init::new(0), &device()).unwrap_err();
    assert!(error.to_string().contains("head-bottleneck-dim"), "{error}");
}

#[test]
fn embeddings_of_the_trained_size_are_kept() {
    let none = |side, h, w| resampling(side, h, w, PositionRule::Dino, &device()).is_none();
    assert!(none(14, 14, 14));
    assert!(!none(14, 7, 28), "as many patches, but no square");
    assert!(!none(14, 15, 15));
}

/// One axis as the reference resamples it: PyTorch's bicubic (a = −0.75), samples
/// `n / (to + 0.1)` apart, half a pixel in, beyond the edge the edge.
fn reference_axis(values: &[f64], to: usize) -> Vec<f64> {
    let n = values.len() as f64;
    let scale = (to as f64 + 0.1) / n;
    let near = |t: f64| 1.25 * t.powi(3) - 2.25 * t.powi(2) + 1.0;
    let far = |t: f64| -0.75 * t.powi(3) + 3.75 * t.powi(2) - 6.0 * t + 3.0;
    (0..to)
        .map(|i| {
            let at = (i as f64 + 0.5) / scale - 0.5;
            let (base, t) = (at.floor(), at - at.floor());
            let value = |k: f64| values[(base + k).clamp(0.0, n - 1.0) as usize];
            far(1.0 + t) * value(-1.0)
                + near(t) * value(0.0)
                + near(1.0 - t) * value(1.0)
                + far(2.0 - t) * value(2.0)
        })
        .collect()
}

#[test]
fn resampling_follows_the_references_positions() {
    let (side, h, w) = (5, 8, 3);
    let row: Vec<f64> = (0..side).map(|y| (y * y) as f64 - 3.0).collect();
    let column: Vec<f64> = (0..side).map(|x| 1.0 / (x as f64 + 1.0)).collect();
    // A product of two axes, so that the result is the product of theirs.
    let grid: Vec<f32> = (0..side * side)
        .map(|i| (row[i / side] * column[i % side]) as f32)
        .collect();
    let found = resample(&grid, 1, side, h, w, PositionRule::Dino);
    let (rows, columns) = (reference_axis(&row, h), reference_axis(&column, w));
    for (i, value) in found.iter().enumerate() {
        let expected = rows[i / w] * columns[i % w];
        let error = (f64::from(*value) - expected).abs();
        assert!(error < 1e-5, "{i}: {value} {expected}");
    }
    // The other convention places the samples elsewhere.
    let ratio = resample(&grid, 1, side, h, w, PositionRule::Ratio);
    assert!(found.iter().zip(&ratio).any(|(a, b)| (a - b).abs() > 1e-3));
}

proptest! {
    #[test]
    fn weights_of_every_sample_sum_to_one(
        side in 1usize..9, h in 1usize..12, w in 1usize..12, ratio: bool
    ) {
        let rule = if ratio { PositionRule::Ratio } else { PositionRule::Dino };
        if let Some(matrix) = resampling(side, h, w, rule, &device()) {
            prop_assert_eq!(matrix.dims(), [h * w, side * side]);
            let weights = matrix.into_data().try_to_vec::<f32>().unwrap();
            for row in weights.chunks(side * side) {
                let sum: f32 = row.iter().sum();
                prop_assert!((sum - 1.0).abs() < 1e-5, "{}", sum);
            }
        }
    }

    #[test]
    fn both_ways_to_resample_agree(side in 1usize..6, h in 1usize..9, w in 1usize..9) {
        prop_assume!(h != w || h != side);
        let grid: Vec<f32> = (0..side * side * 3).map(|i| ((i * 37) % 19) as f32 - 9.0).collect();
        let matrix = resampling(side, h, w, PositionRule::Dino, &device()).unwrap();
        let weights = matrix.into_data().try_to_vec::<f32>().unwrap();
        let found = resample(&grid, 3, side, h, w, PositionRule::Dino);
        for (i, value) in found.iter().enumerate() {
            let row = &weights[i / 3 * side * side..][..side * side];
            let expected: f32 = row.iter().zip(grid.chunks(3)).map(|(a, t)| a * t[i % 3]).sum();
            prop_assert!((value - expected).abs() < 1e-3, "{} {}", value, expected);
        }
    }
}
