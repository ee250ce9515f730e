//! Changes of low rank.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::weights::Array;
use dinolab_nn::{Backbone, Network, Parameters, Projection};
use dinolab_train::{JointEmbedding, LeJepaObjective};

use super::{Case, at, low_rank, preserving, take};
use crate::common::device;
use crate::common::golden::to_host_f32;
use crate::common::joint_embedding::{varied, views};

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
