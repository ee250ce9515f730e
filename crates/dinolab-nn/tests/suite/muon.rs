//! Muon against PyTorch's, by golden numbers of `benches/peers/muon.py`, and its iteration against the composite one.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::device;
use burn::tensor::{Tensor, TensorData};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::ops::{Average, ParamUpdate, composite, newton_schulz};
use dinolab_nn::optim::{Optimiser, OptimiserKind, Rates};
use dinolab_nn::weights::{self, Array};

fn golden() -> BTreeMap<String, Array> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/muon/steps.safetensors");
    weights::read_arrays(&path).unwrap().0
}

fn flat(array: &Array) -> Tensor<1> {
    Tensor::from_data(
        TensorData::new(array.data.clone(), [array.data.len()]),
        &device(),
    )
}

#[test]
fn four_steps_are_those_of_pytorch() {
    let golden = golden();
    let names: Vec<&str> = golden
        .keys()
        .filter_map(|name| name.strip_prefix("start."))
        .collect();
    assert_eq!(names.len(), 9);
    let mut optimiser = Optimiser::new(OptimiserKind::Muon, names.len());
    for (place, name) in names.iter().enumerate() {
        let start = &golden[&format!("start.{name}")];
        let mut value = flat(start);
        for step in 0..4 {
            let param = ParamUpdate {
                value: &mut value,
                average: None,
                clip: 0.0,
            };
            let grad = flat(&golden[&format!("gradient.{step}.{name}")]);
            let rates = Rates {
                lr: 0.02,
                weight_decay: 0.1,
            };
            optimiser.update(place, name, &start.shape, param, grad, rates);
        }
        let expected = &golden[&format!("end.{name}")].data;
        let moved = |value: f32, start: f32| f64::from(value - start);
        let way = |values: &[f32]| -> Vec<f64> {
            let pairs = values.iter().zip(&start.data);
            pairs.map(|(&value, &start)| moved(value, start)).collect()
        };
        let (ours, theirs) = (way(&to_host_f32(value)), way(expected));
        let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let apart: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
        let error = length(&apart) / length(&theirs);
        assert!(error < 1e-3, "{name}: {error}");
    }
    // A matrix has a buffer, all else the moments of AdamW.
    let slots = optimiser.states().iter().zip(&names).map(|(state, name)| {
        let state = state.as_ref().unwrap();
        assert_eq!(state.steps, 4);
        (state.slots.len(), *name)
    });
    let matrices = slots.filter(|&(slots, _)| slots == 1).count();
    assert_eq!(matrices, 4);
}

#[test]
fn the_composite_iteration_is_the_kernels() {
    for shape in [[1, 1, 1], [2, 3, 20], [3, 20, 3], [1, 17, 19]] {
        let distribution = burn::tensor::Distribution::Normal(0.0, 1.0);
        let x = Tensor::<3>::random(shape, distribution, &device());
        let (ours, theirs) = (
            to_host_f32(newton_schulz(x.clone())),
            to_host_f32(composite::newton_schulz(x)),
        );
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() < 2e-3, "{shape:?}: {a} {b}");
        }
    }
}

#[test]
fn gradients_are_clipped_and_the_average_follows() {
    let shape = [12, 5];
    let name = "backbone.blocks.0.mlp.fc1.weight";
    let random = || {
        let distribution = burn::tensor::Distribution::Normal(0.0, 1.0);
        Tensor::<1>::random([shape[0] * shape[1]], distribution, &device())
    };
    let (start, first, second) = (random(), random(), random());
    // Two steps, as the direction alone does not tell the length of one gradient.
    let run = |scale: f64, clip: f64, average: Option<&mut Tensor<1>>| {
        let mut average = average;
        let mut optimiser = Optimiser::new(OptimiserKind::Muon, 1);
        let mut value = start.clone();
        let (mut norms, mut values) = (Vec::new(), Vec::new());
        for grad in [first.clone() * scale, second.clone()] {
            let average = average.as_deref_mut();
            let param = ParamUpdate {
                value: &mut value,
                average: average.map(|value| Average {
                    value,
                    momentum: 0.75,
                }),
                clip,
            };
            let rates = Rates {
                lr: 0.1,
                weight_decay: 0.1,
            };
            let norm = optimiser.update(0, name, &shape, param, grad, rates);
            norms.push(to_host_f32(norm)[0]);
            values.push(to_host_f32(value.clone()));
        }
        (values, norms)
    };
    let mut average = start.clone();
    let (clipped, norms) = run(100.0, 1.0, Some(&mut average));
    // Both gradients have the norm of 1 after clipping.
    let (plain, _) = run(f64::from(norms[1] * 100.0 / norms[0]), 0.0, None);
    let (other, _) = run(100.0, 0.0, None);
    let apart = |a: &[f32], b: &[f32]| {
        let pairs = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        pairs.fold(0.0_f32, f32::max)
    };
    assert!(norms[0] > 50.0 * norms[1], "{norms:?}");
    let ends = [&clipped, &plain, &other].map(|values| &values[1]);
    assert!(
        apart(ends[0], ends[1]) < 1e-3,
        "{}",
        apart(ends[0], ends[1])
    );
    assert!(apart(ends[0], ends[2]) > 1e-2);
    let mut expected = to_host_f32(start.clone());
    for value in &clipped {
        for (average, value) in expected.iter_mut().zip(value) {
            *average = 0.75 * *average + 0.25 * value;
        }
    }
    assert!(apart(&to_host_f32(average), &expected) < 1e-6);
}
