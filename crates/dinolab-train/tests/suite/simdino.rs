//! SimDINO against numbers derived independently in PyTorch (`fixtures/simdino/README.md`), and what it
//! does with few and equal images.

use std::collections::BTreeMap;

use crate::common::device;
use crate::common::golden::*;
use crate::common::joint_embedding::{take, varied, views};
use burn::tensor::Tensor;
use dinolab_nn::weights::{LoadOptions, Weights, load};
use dinolab_nn::{BottleneckConfig, Parameters, VitConfig, ops};
use dinolab_train::checkpoint::{Checkpoint, TrainState, save};
use dinolab_train::method::simdino::similarity;
use dinolab_train::{
    BatchShape, Method, OptimiserKind, Schedule, ScheduleConfig, SimDino, SimDinoConfig, Views,
};

fn small() -> SimDinoConfig {
    SimDinoConfig {
        backbone: VitConfig {
            image_size: 16,
            patch_size: 8,
            width: 8,
            depth: 2,
            heads: 2,
            ..Default::default()
        }
        .into(),
        feature: Default::default(),
        head: BottleneckConfig {
            hidden_dim: 16,
            out_dim: 6,
            layers: 3,
        },
        optimizer: OptimiserKind::AdamW,
        clip_grad: 3.0,
        coding_rate_weight: 0.5,
        coding_rate_epsilon: 0.5,
        momentum_teacher: 0.9,
        momentum_teacher_end: 1.0,
        average: None,
        drop_path: 0.2,
        patch_drop: 0.3,
        seed: 4,
        precision: Default::default(),
        adapt: Default::default(),
    }
}

#[test]
fn the_terms_and_their_gradients() {
    for case in json("simdino/terms.json")["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let (batch, epsilon) = (size(&case["batch"]), number(&case["epsilon"]));
        let taught = || Tensor::<2>::from_inner(tensor(&array(&case["teacher"]), &device()));
        let student =
            || Tensor::<2>::from_inner(tensor(&array(&case["student"]), &device())).require_grad();
        let value = |x: &Tensor<1>| f64::from(x.clone().into_scalar::<f32>());

        let z = student();
        let found = similarity(z.clone(), taught(), batch);
        near(name, value(&found), &case["similarity"], 1e-4);
        let gradient = to_host_f32(z.grad(&found.backward()).unwrap());
        close(
            name,
            &gradient,
            &array(&case["similarity_grad"]).data,
            1e-4,
            1e-4,
        );

        let z = student();
        let scale = z.dims()[1] as f64 / (batch as f64 * epsilon);
        let mean = (z.clone().narrow(0, 0, 2 * batch) + taught()) / 2.0;
        let found = ops::coding_rate(mean, batch, scale);
        near(name, value(&found), &case["coding_rate"], 1e-4);
        let gradient = to_host_f32(z.grad(&found.backward()).unwrap());
        close(
            name,
            &gradient,
            &array(&case["coding_rate_grad"]).data,
            1e-3,
            1e-4,
        );
    }
}

#[test]
fn six_steps_follow_pytorch() {
    let log = json("simdino/steps.json");
    let inputs = arrays("training/inputs.safetensors");
    let c = &log["config"];
    let config = SimDinoConfig {
        backbone: VitConfig {
            image_size: size(&c["img_size"]),
            patch_size: size(&c["patch_size"]),
            width: size(&c["embed_dim"]),
            depth: size(&c["depth"]),
            heads: size(&c["num_heads"]),
            ..Default::default()
        }
        .into(),
        head: BottleneckConfig {
            hidden_dim: size(&c["head_hidden_dim"]),
            out_dim: size(&c["bottleneck_dim"]),
            layers: 3,
        },
        clip_grad: number(&c["clip_grad"]),
        coding_rate_weight: number(&c["coding_rate_weight"]),
        coding_rate_epsilon: number(&c["coding_rate_epsilon"]),
        momentum_teacher: number(&c["momentum_teacher"]),
        momentum_teacher_end: number(&c["momentum_teacher_end"]),
        drop_path: 0.0,
        patch_drop: 0.0,
        ..small()
    };
    let schedule = Schedule::new(ScheduleConfig {
        epochs: number(&c["epochs"]),
        steps_per_epoch: c["iters_per_epoch"].as_u64().unwrap(),
        lr: number(&c["base_lr"]),
        min_lr: number(&c["min_lr"]),
        warmup_epochs: number(&c["warmup_epochs"]),
        weight_decay: number(&c["weight_decay"]),
        weight_decay_end: number(&c["weight_decay_end"]),
        freeze_backbone_epochs: 0.0,
    });
    let mut method = SimDino::new(&config, &device()).unwrap();
    let start: Arrays = inputs
        .iter()
        .filter(|(name, _)| !name.contains("last_layer"))
        .filter_map(|(name, array)| {
            Some((
                name.strip_prefix("init.student.")?.to_owned(),
                array.clone(),
            ))
        })
        .collect();
    let weights = Weights {
        arrays: start.clone(),
        ..Weights::default()
    };
    for network in [&mut method.student, &mut method.teacher] {
        let report = load(network, "", &weights, LoadOptions::default()).unwrap();
        assert!(
            report.left_over.is_empty() && report.missing.is_empty(),
            "{report}"
        );
    }
    for (step, expected) in log["log"].as_array().unwrap().iter().enumerate() {
        let hp = schedule.at(step as u64);
        let crop = |j: usize| tensor::<4>(&inputs[&format!("step{step}.crop{j}")], &device());
        let views = Views {
            batch: size(&c["batch"]),
            global: Tensor::cat(vec![crop(0), crop(1)], 0),
            local: Some(Tensor::cat((2..6).map(crop).collect(), 0)),
        };
        let report = method.step(&[views], &hp).unwrap();
        near("loss", report.loss, &expected["loss"], 1e-4);
        for (name, value) in &report.terms {
            near(name, *value, &expected[*name], 1e-4);
        }
        let (name, momentum) = report.scheduled[0];
        assert_eq!(name, "momentum");
        near(name, momentum, &expected["teacher_momentum"], 1e-9);
        let norms = expected["grad_norms"].as_array().unwrap();
        assert_eq!(norms.len(), report.grad_norms.len());
        for (place, (ours, theirs)) in report.grad_norms.iter().zip(norms).enumerate() {
            let (ours, theirs) = (f64::from(*ours), number(theirs));
            assert!(
                (ours - theirs).abs() <= 2e-3 * theirs + 1e-5,
                "step {step}, {place}: {ours} {theirs}"
            );
        }
    }
    for (who, network) in [("student", &method.student), ("teacher", &method.teacher)] {
        network.visit("", &mut |name, param| {
            // Softmax cancels the keys' bias: Adam scales rounding up to steps.
            if name.ends_with("attn.qkv.bias") {
                return;
            }
            let golden = &log["final"][who][name];
            let values = param.to_vec();
            let change: Vec<f64> = values
                .iter()
                .zip(&start[name].data)
                .map(|(a, b)| f64::from(a - b))
                .collect();
            let norm = change.iter().map(|v| v * v).sum::<f64>().sqrt();
            near(name, norm, &golden["change_norm"], 2e-3);
            // A pattern in which misplaced values show.
            let places = change.iter().enumerate();
            let pattern: f64 = places.map(|(i, v)| (1.0 + i as f64).cos() * v).sum();
            let error = (pattern - number(&golden["change_cos"])).abs();
            assert!(
                error <= 5e-3 * number(&golden["change_norm"]) + 1e-7,
                "{who} {name}: {pattern} {golden}"
            );
        });
    }
}

#[test]
fn one_image_and_equal_images_stay_finite() {
    for (batch, equal) in [(1, false), (4, true)] {
        let mut method = SimDino::new(&small(), &device()).unwrap();
        for step in 0..10 {
            let views = match equal {
                true => views(batch, |_| 0.25),
                false => views(batch, varied(step)),
            };
            let report = take(&mut method, views, step);
            assert!(report.loss.is_finite());
            assert!(report.grad_norms.iter().all(|norm| norm.is_finite()));
        }
        assert_eq!(method.state().not_finite(), None);
    }
}

#[test]
fn a_restored_run_continues_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = SimDino::new(&small(), &device()).unwrap();
    for step in 0..3 {
        take(&mut first, views(3, varied(step)), step);
    }
    let position = TrainState::default();
    let path = save(folder.path(), &first, &position, &BTreeMap::new()).unwrap();
    let mut second = SimDino::new(&small(), &device()).unwrap();
    take(&mut second, views(3, varied(9)), 9);
    let checkpoint = Checkpoint::read(&path).unwrap();
    assert_eq!(checkpoint.method(), "simdino");
    checkpoint.restore(&mut second).unwrap();
    for step in 3..6 {
        let losses =
            [&mut first, &mut second].map(|method| take(method, views(3, varied(step)), step).loss);
        assert_eq!(losses[0], losses[1]);
    }
    assert_eq!(second.state(), first.state());
}

#[test]
fn what_it_cannot_do_is_refused() {
    let method = SimDino::new(&small(), &device()).unwrap();
    let shape = |accumulate| BatchShape {
        micro_batch: 4,
        accumulate,
    };
    assert!(method.check(shape(1)).is_ok());
    let error = method.check(shape(2)).unwrap_err().to_string();
    assert!(
        error.contains("accumulate") && error.contains("SimDINO"),
        "{error}"
    );
    let weight = SimDinoConfig {
        coding_rate_weight: -1.0,
        ..small()
    };
    let epsilon = SimDinoConfig {
        coding_rate_epsilon: 0.0,
        ..small()
    };
    let momentum = SimDinoConfig {
        momentum_teacher: f64::NAN,
        ..small()
    };
    for (config, field) in [
        (weight, "coding-rate-weight"),
        (epsilon, "coding-rate-epsilon"),
        (momentum, "momentum-teacher"),
    ] {
        let error = SimDino::new(&config, &device()).err().unwrap().to_string();
        assert!(error.starts_with(field), "{error}");
    }
}
