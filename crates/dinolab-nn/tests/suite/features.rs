//! The feature of an image: class token, mean of patches, or both; values and gradients.

use crate::common::device;
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::vit::{DropPath, NoDropPath};
use dinolab_nn::weights::Weights;
use dinolab_nn::{
    Backbone, Feature, Head, HeadConfig, Network, Parameters, Tensor, Vit, VitConfig,
};

fn config(registers: usize) -> VitConfig {
    VitConfig {
        image_size: 32,
        patch_size: 8,
        width: 12,
        depth: 3,
        heads: 3,
        mlp_ratio: 2,
        registers,
        ..VitConfig::default()
    }
}

/// A network with weights large enough for every part to matter.
fn vit(registers: usize) -> Vit {
    let mut vit = Vit::new(&config(registers), &mut Init::new(1), &device()).unwrap();
    let mut init = Init::new(2);
    vit.visit_mut("", &mut |_, param| {
        let values = init.truncated_normal(param.len(), 0.3);
        let value = param.flat() + Tensor::from_floats(values.as_slice(), &device());
        param.set_flat(value);
    });
    vit
}

fn images(count: usize, height: usize, width: usize) -> Tensor<4> {
    let shape = [count, 3, height, width];
    let values = Init::new(7).truncated_normal(shape.iter().product(), 1.0);
    Tensor::<1>::from_floats(values.as_slice(), &device()).reshape(shape)
}

/// Other factors for each block, branch and image.
struct Factors(usize);

impl DropPath for Factors {
    fn factors(&self, block: usize, branch: usize) -> Option<Vec<f32>> {
        let factor = |image: usize| [0.0, 1.25, 1.0, 1.25][(image + 2 * block + branch) % 4];
        Some((0..self.0).map(factor).collect())
    }
}

#[test]
fn the_class_token_is_what_it_was() {
    let vit = vit(0);
    let views = || vec![images(2, 32, 32), images(3, 16, 24)];
    for drop in [&NoDropPath as &dyn DropPath, &Factors(5)] {
        let features = vit.features(views(), Feature::Class, drop);
        assert_eq!(
            to_host_f32(features),
            to_host_f32(vit.forward_views(views(), drop))
        );
    }
}

#[test]
fn features_are_the_tokens_they_say_at_every_size() {
    for registers in [0, 2] {
        let vit = vit(registers);
        let sizes = [(2, 32, 32), (3, 16, 24), (1, 48, 40)];
        let views = || sizes.map(|(b, h, w)| images(b, h, w)).to_vec();
        let mut expected: Vec<Vec<f32>> = Vec::new();
        for view in views() {
            let tokens = to_host_f32(vit.intermediate(view.clone(), 1).remove(0));
            let per_image = tokens.len() / view.dims()[0];
            for image in tokens.chunks(per_image) {
                let (class, patches) = image.split_at(12);
                let count = (patches.len() / 12) as f64;
                let mean = (0..12).map(|d| {
                    let values = patches.iter().skip(d).step_by(12);
                    (values.map(|&v| f64::from(v)).sum::<f64>() / count) as f32
                });
                expected.push(class.iter().copied().chain(mean).collect());
            }
        }
        for feature in Feature::ALL {
            let found = vit.features(views(), feature, &NoDropPath);
            let width = feature.width(12);
            assert_eq!(found.dims(), [6, width], "{feature}");
            let found = to_host_f32(found);
            for (row, expected) in found.chunks(width).zip(&expected) {
                let expected = match feature {
                    Feature::Class => &expected[..12],
                    Feature::Patches => &expected[12..],
                    Feature::Both => &expected[..],
                };
                for (a, b) in row.iter().zip(expected) {
                    assert!((a - b).abs() < 1e-5, "{feature}: {a} {b}");
                }
            }
            // As of a backbone of which nothing else is known.
            let unknown: &dyn Backbone = &vit;
            assert_eq!(
                to_host_f32(unknown.features(views(), feature, &NoDropPath)),
                found
            );
        }
    }
}

/// The derivative along a random direction in all parameters, by differences.
#[test]
fn gradients_reach_every_parameter() {
    for (feature, drop) in Feature::ALL
        .into_iter()
        .flat_map(|feature| [(feature, false), (feature, true)])
    {
        let plain = vit(0);
        let mut recording = plain.clone();
        recording.to_device(&device().autodiff());
        let loss = |vit: &Vit| {
            let on = vit.cls_token.flat().device();
            let views = vec![images(2, 32, 32), images(1, 16, 24)];
            let views = views
                .into_iter()
                .map(|x| Tensor::from_data(x.into_data(), &on));
            let drop: &dyn DropPath = match drop {
                true => &Factors(3),
                false => &NoDropPath,
            };
            let y = vit.features(views.collect(), feature, drop);
            let shape = y.dims();
            let weights = Init::new(9).truncated_normal(shape[0] * shape[1], 1.0);
            let weights = Tensor::<1>::from_data(weights.as_slice(), &on).reshape(shape);
            (y * weights).sum()
        };
        let mut gradients = loss(&recording).backward();
        let (mut seed, mut along, mut silent) = (100, 0.0, Vec::new());
        let mut directions = Vec::new();
        recording.visit("", &mut |name, param| {
            seed += 1;
            let direction = Init::new(seed).truncated_normal(param.len(), 1.0);
            let gradient = to_host_f32(param.take_grad(&mut gradients).unwrap());
            if gradient.iter().all(|&g| g == 0.0) {
                silent.push(name.to_owned());
            }
            let pairs = gradient.iter().zip(&direction);
            along += pairs
                .map(|(g, d)| f64::from(*g) * f64::from(*d))
                .sum::<f64>();
            directions.push(direction);
        });
        assert!(silent.is_empty(), "{feature}: no gradient of {silent:?}");
        let moved = |step: f32| {
            let mut vit = plain.clone();
            let mut directions = directions.iter();
            vit.visit_mut("", &mut |_, param| {
                let direction =
                    Tensor::from_floats(directions.next().unwrap().as_slice(), &device());
                param.set_flat(param.flat() + direction * step);
            });
            f64::from(loss(&vit).into_scalar::<f32>())
        };
        let step = 1e-3;
        let expected = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
        let error = (along - expected).abs() / expected.abs().max(1.0);
        assert!(error < 2e-2, "{feature}, {drop}: {along} {expected}");
    }
}

#[test]
fn the_head_is_as_wide_as_the_feature() {
    let head = HeadConfig {
        out_dim: 8,
        hidden_dim: 6,
        bottleneck_dim: 4,
        ..HeadConfig::default()
    };
    let plain: Network = Network::new(config(0), &head, 3, &device()).unwrap();
    let outputs = to_host_f32(plain.forward(vec![images(2, 32, 32)], &NoDropPath));
    for feature in Feature::ALL {
        let network: Network<Head> =
            Network::of_feature(config(0), feature, &head, 3, &device()).unwrap();
        assert_eq!(network.head.width(), feature.width(12));
        // The backbone does not depend on what is on it.
        let class = |network: &Network| {
            to_host_f32(network.backbone.vit().unwrap().forward(images(1, 32, 32)))
        };
        assert_eq!(class(&network), class(&plain));
        let found = to_host_f32(network.forward(vec![images(2, 32, 32)], &NoDropPath));
        assert_eq!(found.len(), 2 * 8);
        assert_eq!(found == outputs, feature.is_class());
        // What a file says of it.
        let mut weights = Weights {
            arrays: dinolab_nn::weights::arrays(&network, ""),
            ..Weights::default()
        };
        weights.metadata.extend([feature.metadata_entry()]);
        assert_eq!(weights.feature().unwrap(), feature);
        assert_eq!(weights.head_config().unwrap(), head);
        weights.metadata.clear();
        assert_eq!(weights.feature().unwrap(), Feature::Class);
        // Without the note, a wider head belongs to no class token.
        assert_eq!(weights.head_config().is_some(), feature != Feature::Both);
    }
    let mut weights = Weights::default();
    weights.metadata.insert("feature".into(), "mean".into());
    let error = weights.feature().unwrap_err().to_string();
    assert!(
        error.contains("feature mean: one of class, patches, both"),
        "{error}"
    );
}
