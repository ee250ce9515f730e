//! Sizes of the networks, and position embeddings of other image sizes.

use crate::common::device;
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::position::{PositionRule, Rope, resample, resampling};
use dinolab_nn::vit::{DropPath, NoDropPath};
use dinolab_nn::{Head, HeadConfig, Network, Parameters, ProjectionHead, Tensor, Vit, VitConfig};
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
    let made = |seed| Network::<dinolab_nn::Head>::new(&config, &head, seed, &device()).unwrap();
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
    for patch_size in [4, 12, 14, 20] {
        let config = VitConfig {
            conv_stem: true,
            patch_size,
            ..VitConfig::named("vit_tiny", 16, 224).unwrap()
        };
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("convolutional stem"), "{error}");
        let whole = VitConfig {
            patch_size: 4 * patch_size.next_power_of_two(),
            ..config
        };
        whole.validate().unwrap();
    }
    let odd = |c: &mut VitConfig| (c.conv_stem, c.width, c.heads) = (true, 198, 3);
    assert!(refuse(odd).contains("width: of 198"));
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

/// One axis as PyTorch's antialiased bicubic makes it: a = −0.5, a support of two steps where
/// values get fewer, weights of a sum of 1.
fn antialiased_axis(values: &[f64], to: usize) -> Vec<f64> {
    let n = values.len() as f64;
    let step = n / to as f64;
    let width = step.max(1.0);
    (0..to)
        .map(|i| {
            let centre = step * (i as f64 + 0.5);
            let first = (centre - 2.0 * width + 0.5).max(0.0) as usize;
            let end = ((centre + 2.0 * width + 0.5) as usize).min(values.len());
            let weight = |j: usize| {
                let t = ((j as f64 - centre + 0.5) / width).abs();
                match t {
                    t if t < 1.0 => 1.5 * t.powi(3) - 2.5 * t.powi(2) + 1.0,
                    t if t < 2.0 => -0.5 * t.powi(3) + 2.5 * t.powi(2) - 4.0 * t + 2.0,
                    _ => 0.0,
                }
            };
            let sum: f64 = (first..end).map(weight).sum();
            (first..end).map(|j| weight(j) * values[j]).sum::<f64>() / sum
        })
        .collect()
}

#[test]
fn antialiased_resampling_follows_its_kernel() {
    let side = 7;
    let row: Vec<f64> = (0..side).map(|y| ((y * y * 5) % 11) as f64 - 3.0).collect();
    let column: Vec<f64> = (0..side)
        .map(|x| ((x * 3) % 7) as f64 * 0.5 - 1.0)
        .collect();
    let grid: Vec<f32> = (0..side * side)
        .map(|i| (row[i / side] * column[i % side]) as f32)
        .collect();
    for (h, w) in [(3, 12), (7, 2), (10, 10), (1, 7)] {
        let found = resample(&grid, 1, side, h, w, PositionRule::RatioAntialias);
        let (rows, columns) = (antialiased_axis(&row, h), antialiased_axis(&column, w));
        for (i, value) in found.iter().enumerate() {
            let expected = rows[i / w] * columns[i % w];
            let error = (f64::from(*value) - expected).abs();
            assert!(error < 1e-4, "{h}×{w} {i}: {value} {expected}");
        }
    }
}

fn small(edit: fn(&mut VitConfig)) -> VitConfig {
    let mut config = VitConfig {
        image_size: 32,
        patch_size: 8,
        width: 24,
        depth: 3,
        heads: 3,
        ..VitConfig::default()
    };
    edit(&mut config);
    config
}

fn images(height: usize, width: usize) -> Tensor<4> {
    let values: Vec<f32> = (0..2 * 3 * height * width)
        .map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0)
        .collect();
    Tensor::<1>::from_floats(values.as_slice(), &device()).reshape([2, 3, height, width])
}

/// A network with weights large enough for every part to matter.
fn lively(config: &VitConfig) -> Vit {
    let mut vit = Vit::new(config, &mut Init::new(1), &device()).unwrap();
    vit.visit_mut("", &mut |name, param| {
        let factor = if name.ends_with("norm.weight") {
            1.0
        } else {
            6.0
        };
        let value = param.flat();
        let shift = (0..param.len()).map(|i| ((i * 7 + name.len()) % 5) as f32 * 0.02);
        let shift = Tensor::<1>::from_floats(shift.collect::<Vec<_>>().as_slice(), &device());
        param.set_flat(value * factor + shift);
    });
    vit
}

fn near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn layer_scale_starts_smaller_in_deep_networks() {
    let initial = |depth: usize| {
        let config = VitConfig {
            depth,
            ..small(|c| c.layer_scale = true)
        };
        let network = Vit::new(&config, &mut Init::new(0), &device()).unwrap();
        let mut found = Vec::new();
        network.visit("", &mut |name, param| {
            if name.contains(".ls") {
                found.extend(param.to_vec());
            }
        });
        assert_eq!(found.len(), 2 * depth * config.width);
        assert!(found.iter().all(|value| *value == found[0]), "{depth}");
        found[0]
    };
    assert_eq!(
        [1, 18, 19, 24, 25].map(initial),
        [0.1, 0.1, 1e-5, 1e-5, 1e-6]
    );
}

#[test]
fn layer_scale_multiplies_what_each_branch_adds() {
    let scaled = lively(&small(|c| c.layer_scale = true));
    assert_eq!(
        scaled.parameter_count(),
        lively(&small(|_| {})).parameter_count() + 3 * 2 * 24
    );
    // The same network without layer scale, the factors multiplied into the last maps by hand.
    let mut folded = lively(&small(|_| {}));
    let mut theirs = std::collections::BTreeMap::new();
    scaled.visit("", &mut |name, param| {
        theirs.insert(name.to_owned(), param.to_vec());
    });
    folded.visit_mut("", &mut |name, param| {
        let mut values = theirs[name].clone();
        let scale = match name.split('.').collect::<Vec<_>>()[..] {
            ["blocks", i, "attn", "proj", _] => Some(format!("blocks.{i}.ls1.gamma")),
            ["blocks", i, "mlp", "fc2", _] => Some(format!("blocks.{i}.ls2.gamma")),
            _ => None,
        };
        if let Some(scale) = scale {
            let inputs = values.len() / 24;
            for (i, value) in values.iter_mut().enumerate() {
                *value *= theirs[&scale][i / inputs];
            }
        }
        param.set_flat(Tensor::from_floats(values.as_slice(), &device()));
    });
    for (h, w) in [(32, 32), (24, 40)] {
        near(
            &to_host_f32(scaled.forward(images(h, w))),
            &to_host_f32(folded.forward(images(h, w))),
        );
        let [a, b] = [&scaled, &folded].map(|vit| to_host_f32(vit.class_attention(images(h, w))));
        near(&a, &b);
    }
}

#[test]
fn registers_take_part_but_are_in_no_output() {
    let vit = lively(&small(|c| c.registers = 2));
    assert_eq!(vit.config().prefix(), 3);
    let x = images(24, 40);
    let (h, w) = (3, 5);
    let taps = vit.intermediate(x.clone(), 2);
    assert_eq!(taps[1].dims(), [2, 1 + h * w, 24]);
    let cls = to_host_f32(vit.forward(x.clone()));
    near(&to_host_f32(taps[1].clone().narrow(1, 0, 1)), &cls);

    let all = vit.last_attention(x.clone());
    assert_eq!(all.dims(), [2, 3, 3 + h * w, 3 + h * w]);
    let maps = vit.class_attention(x.clone());
    assert_eq!(maps.dims(), [2, 3, h, w]);
    let (maps, rows) = (to_host_f32(maps), to_host_f32(all.narrow(2, 0, 1)));
    for (map, row) in maps.chunks(h * w).zip(rows.chunks(3 + h * w)) {
        assert_eq!(map, &row[3..]);
        let sum: f32 = map.iter().sum::<f32>() + row[..3].iter().sum::<f32>();
        assert!((sum - 1.0).abs() < 1e-5);
    }

    // Of many tokens one row is computed alone.
    let many = lively(&small(|c| (c.registers, c.heads) = (1, 1)));
    let wide = images(8 * 16, 8 * 260).narrow(0, 0, 1);
    let all = to_host_f32(many.last_attention(wide.clone()).narrow(2, 0, 1));
    near(&to_host_f32(many.class_attention(wide)), &all[2..]);

    // Tokens without a place: their order does not matter, their values do.
    let mut other = vit.clone();
    let registers = other.register_tokens.as_mut().unwrap();
    let values = registers.to_vec();
    let swapped = [&values[24..], &values[..24]].concat();
    registers.set_flat(Tensor::from_floats(swapped.as_slice(), &device()));
    near(&to_host_f32(other.forward(x.clone())), &cls);
    let registers = other.register_tokens.as_mut().unwrap();
    let changed: Vec<f32> = values.iter().map(|v| v * 2.0 + 0.5).collect();
    registers.set_flat(Tensor::from_floats(changed.as_slice(), &device()));
    let differ = to_host_f32(other.forward(x))
        .iter()
        .zip(&cls)
        .any(|(a, b)| (a - b).abs() > 1e-3);
    assert!(differ);
}

#[test]
fn the_epsilon_of_normalisation_is_the_configurations() {
    let mut config = small(|_| {});
    config.layer_norm_eps = 0.5;
    let vit = Vit::new(&config, &mut Init::new(0), &device()).unwrap();
    let signs: Vec<f32> = (0..24).map(|i| (1 - 2 * (i % 2)) as f32).collect();
    let token = Tensor::<1>::from_floats(signs.as_slice(), &device()).reshape([1, 1, 24]);
    let expected: Vec<f32> = signs.iter().map(|s| s / 1.5f32.sqrt()).collect();
    near(&to_host_f32(vit.norm.forward(token.clone())), &expected);
    // In every block, too.
    near(&to_host_f32(vit.blocks[1].norm1.forward(token)), &expected);
    let outputs = |eps: f64| {
        let mut config = small(|_| {});
        config.layer_norm_eps = eps;
        let mut vit = lively(&config);
        vit.norm = Vit::new(&small(|_| {}), &mut Init::new(0), &device())
            .unwrap()
            .norm;
        to_host_f32(vit.forward(images(32, 32)))
    };
    let differ = outputs(1e-6)
        .iter()
        .zip(outputs(0.5))
        .any(|(a, b)| (a - b).abs() > 1e-2);
    assert!(differ);
}

#[test]
fn what_the_reference_lacks_is_written_only_where_it_is_there() {
    let plain = small(|_| {});
    let text = serde_json::to_string(&plain).unwrap();
    for name in [
        "registers",
        "layer_scale",
        "layer_norm_eps",
        "mlp_width",
        "gated_mlp",
        "rope",
    ] {
        assert!(!text.contains(name), "{text}");
    }
    assert_eq!(serde_json::from_str::<VitConfig>(&text).unwrap(), plain);
    let later = small(|c| {
        c.registers = 4;
        c.layer_scale = true;
        c.layer_norm_eps = 1e-12;
        c.position_rule = PositionRule::RatioAntialias;
        c.gated_mlp = true;
        c.mlp_width = 24;
        c.rope = Some(Rope {
            rescale: 2.0,
            ..Rope::default()
        });
    });
    let text = serde_json::to_string(&later).unwrap();
    assert_eq!(serde_json::from_str::<VitConfig>(&text).unwrap(), later);
}

proptest! {
    #[test]
    fn weights_of_every_sample_sum_to_one(
        side in 1usize..9, h in 1usize..12, w in 1usize..12, rule in 0usize..3
    ) {
        let rule = [PositionRule::Dino, PositionRule::Ratio, PositionRule::RatioAntialias][rule];
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

/// Keeps the same patches of every image, whatever the size.
struct Keep(Vec<usize>);

impl DropPath for Keep {
    fn factors(&self, _: usize, _: usize) -> Option<Vec<f32>> {
        None
    }

    fn kept_patches(&self, _: usize, images: usize, _: usize) -> Option<Vec<usize>> {
        Some(self.0.repeat(images))
    }
}

#[test]
fn kept_patches_of_a_convolutional_stem_are_those_of_the_whole_image() {
    let vit = lively(&small(|config| config.conv_stem = true));
    let features =
        |images: Tensor<4>, drop: &dyn DropPath| to_host_f32(vit.forward_views(vec![images], drop));
    let picture = images(32, 24);
    let all = features(picture.clone(), &NoDropPath);
    near(&all, &features(picture.clone(), &Keep((0..12).collect())));
    // A stem sees the neighbours of a patch, and nothing beyond them.
    let patch = |value: f32| Tensor::full([2, 3, 8, 8], value, &device());
    let changed = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
        let place = [0..2, 0..3, rows, columns];
        picture.clone().slice_assign(place, patch(1.0))
    };
    let last = Keep(vec![11]);
    let (far, near_by) = (changed(0..8, 0..8), changed(16..24, 16..24));
    let before = features(picture.clone(), &last);
    near(&before, &features(far, &last));
    let after = features(near_by, &last);
    assert!(before.iter().zip(&after).any(|(a, b)| (a - b).abs() > 1e-3));
    // Pixels beyond whole patches count for nothing.
    let larger = Tensor::ones([2, 3, 39, 31], &device());
    let larger = larger.slice_assign([0..2, 0..3, 0..32, 0..24], picture);
    near(&all, &features(larger, &NoDropPath));
}

#[test]
fn dropped_patches_have_no_part_in_the_features() {
    for edit in [|_: &mut VitConfig| (), |c: &mut VitConfig| c.registers = 2] {
        let vit = lively(&small(edit));
        let features = |images: Tensor<4>, drop: &dyn DropPath| {
            to_host_f32(vit.forward_views(vec![images], drop))
        };
        let picture = images(32, 24);
        let all = features(picture.clone(), &Keep((0..12).collect()));
        near(&all, &features(picture.clone(), &NoDropPath));
        // Another first patch, which is seen or not.
        let patch = Tensor::ones([2, 3, 8, 8], &device());
        let changed = picture
            .clone()
            .slice_assign([0..2, 0..3, 0..8, 0..8], patch);
        let kept = Keep(vec![1, 2, 5, 7, 11]);
        near(
            &features(picture.clone(), &kept),
            &features(changed.clone(), &kept),
        );
        let seen = Keep(vec![0, 2, 5, 7, 11]);
        let (before, after) = (features(picture, &seen), features(changed, &seen));
        assert!(before.iter().zip(&after).any(|(a, b)| (a - b).abs() > 1e-2));
    }
}

/// Masks patches of the first size.
struct Mask(Vec<usize>);

impl DropPath for Mask {
    fn factors(&self, _: usize, _: usize) -> Option<Vec<f32>> {
        None
    }

    fn masked_patches(&self, size: usize) -> &[usize] {
        if size == 0 { &self.0 } else { &[] }
    }
}

#[test]
fn masked_patches_have_no_part_in_the_features_and_the_mask_token_has() {
    for edit in [
        |_: &mut VitConfig| (),
        |c: &mut VitConfig| c.registers = 2,
        |c: &mut VitConfig| c.rope = Some(Rope::default()),
    ] {
        let mut vit = lively(&small(edit));
        let plain = to_host_f32(vit.forward(images(32, 24)));
        vit.add_mask_token(&device());
        let tokens = |vit: &Vit, picture: Tensor<4>, places: &[usize], masked: &[usize]| {
            let views = vec![picture, images(16, 16)];
            let (class, patches) = vit.class_and_patches(views, places, &Mask(masked.to_vec()));
            (to_host_f32(class), patches.map(to_host_f32))
        };
        let width = vit.config().width;
        // Two images of twelve patches, and class tokens of the second size behind theirs.
        let (class, all) = tokens(&vit, images(32, 24), &(0..24).collect::<Vec<_>>(), &[]);
        near(&class[..2 * width], &plain);
        let whole = vit.intermediate(images(32, 24), 1).remove(0);
        near(
            &all.unwrap(),
            &to_host_f32(whole.narrow(1, 1, 12).reshape([24, width])),
        );

        // The first patch of the first image, changed and masked, and a place of the other one.
        let patch = Tensor::ones([1, 3, 8, 8], &device());
        let changed = || images(32, 24).slice_assign([0..1, 0..3, 0..8, 0..8], patch.clone());
        let (places, masked) = ([0, 5, 17], [0, 17]);
        let (before, patches) = tokens(&vit, images(32, 24), &places, &masked);
        let (after, patches_after) = tokens(&vit, changed(), &places, &masked);
        let (patches, patches_after) = (patches.unwrap(), patches_after.unwrap());
        near(&before, &after);
        near(&patches, &patches_after);
        assert_eq!(patches.len(), 3 * width);
        let differs = |a: &[f32], b: &[f32]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-3);
        // Seen, it has a part.
        let (seen, _) = tokens(&vit, changed(), &places, &[17]);
        assert!(differs(&seen[..width], &before[..width]));
        near(&seen[width..], &before[width..]);
        // The token has, too, where there is a mask.
        let token = vit.mask_token.as_mut().unwrap();
        let values: Vec<f32> = (0..width).map(|i| (i % 5) as f32 - 2.0).collect();
        token.set_flat(Tensor::from_floats(values.as_slice(), &device()));
        let (other, _) = tokens(&vit, images(32, 24), &places, &[0]);
        let (without, _) = tokens(&vit, images(32, 24), &places, &[]);
        assert!(differs(&other[..width], &before[..width]));
        near(&other[2 * width..], &before[2 * width..]);
        near(&without, &class);
    }
}
