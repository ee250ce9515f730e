//! LeJEPA against numbers derived independently in PyTorch (`fixtures/lejepa/README.md`), and what it
//! does with few and equal images.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use common::device;
use dinolab_nn::init::Init;
use dinolab_nn::weights::{Array, LoadOptions, Weights, file_arrays, load};
use dinolab_nn::{Parameters, Projection, ProjectionConfig, ProjectionHead, VitConfig, ops};
use dinolab_train::checkpoint::{Checkpoint, TrainState, save};
use dinolab_train::method::directions;
use dinolab_train::method::lejepa::invariance;
use dinolab_train::{
    BatchShape, LeJepa, LeJepaConfig, Method, OptimiserKind, Schedule, ScheduleConfig,
    StepHyperparams, StepReport, Views,
};
use serde_json::Value;

type Arrays = BTreeMap<String, Array>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn arrays(name: &str) -> Arrays {
    let path = fixture(name);
    file_arrays(&path, &std::fs::read(&path).unwrap())
        .unwrap()
        .0
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn array(value: &Value) -> Array {
    let list = |value: &Value| value.as_array().unwrap().clone();
    Array {
        shape: list(&value["shape"]).iter().map(size).collect(),
        data: list(&value["data"])
            .iter()
            .map(|v| number(v) as f32)
            .collect(),
    }
}

fn tensor<const D: usize>(array: &Array, device: &Device) -> Tensor<D> {
    let shape: [usize; D] = array.shape.as_slice().try_into().unwrap();
    Tensor::from_data(TensorData::new(array.data.clone(), shape), device)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.without_autodiff().into_data().convert::<f32>();
    data.try_to_vec().unwrap()
}

/// ‖a − b‖ ≤ tolerance · max(‖b‖, floor).
#[track_caller]
fn close(what: &str, a: &[f32], b: &[f32], tolerance: f64, floor: f64) {
    assert_eq!(a.len(), b.len(), "{what}");
    let norm = |x: &dyn Fn(usize) -> f64| (0..a.len()).map(|i| x(i).powi(2)).sum::<f64>().sqrt();
    let difference = norm(&|i| f64::from(a[i]) - f64::from(b[i]));
    let length = norm(&|i| f64::from(b[i])).max(floor);
    assert!(
        difference <= tolerance * length,
        "{what}: {difference} of {length}"
    );
}

#[track_caller]
fn near(what: &str, found: f64, expected: &Value, tolerance: f64) {
    let expected = number(expected);
    let error = (found - expected).abs() / expected.abs().max(1e-3);
    assert!(error <= tolerance, "{what}: {found} {expected}");
}

#[test]
fn the_objective_and_its_gradient() {
    let device = device();
    for case in json("lejepa/objective.json")["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let (batch, weight) = (size(&case["batch"]), number(&case["sigreg_weight"]));
        let z = Tensor::<2>::from_inner(tensor(&array(&case["z"]), &device)).require_grad();
        let a = Tensor::from_inner(tensor::<2>(&array(&case["directions"]), &device));
        let (drawn, regular) = (
            invariance(z.clone(), batch),
            ops::sigreg(z.clone(), a, batch),
        );
        let value = |x: &Tensor<1>| f64::from(x.clone().into_scalar::<f32>());
        near(name, value(&drawn), &case["invariance"], 1e-5);
        near(name, value(&regular), &case["sigreg"], 1e-4);
        let loss = drawn * (1.0 - weight) + regular * weight;
        near(name, value(&loss), &case["loss"], 1e-4);
        let found = host(z.grad(&loss.backward()).unwrap());
        close(name, &found, &array(&case["grad"]).data, 1e-3, 1e-4);
    }
}

#[test]
fn the_projection_and_its_gradients() {
    let golden = json("lejepa/head.json");
    let config = ProjectionConfig {
        hidden_dim: size(&golden["hidden_dim"]),
        out_dim: size(&golden["out_dim"]),
        layers: 3,
    };
    let recording = device().autodiff();
    let mut init = Init::new(0);
    let mut head = Projection::new(&config, size(&golden["width"]), &mut init, &recording).unwrap();
    let parameters = golden["parameters"].as_object().unwrap();
    let weights = Weights {
        arrays: parameters
            .iter()
            .map(|(name, value)| (name.clone(), array(value)))
            .collect(),
        ..Weights::default()
    };
    let report = load(&mut head, "head", &weights, LoadOptions::default()).unwrap();
    assert!(
        report.missing.is_empty() && report.left_over.is_empty(),
        "{report}"
    );
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let input: Tensor<2> = Tensor::from_inner(tensor(&array(&case["input"]), &device()));
        let input = input.require_grad();
        let weights = Tensor::from_inner(tensor::<2>(&array(&case["loss_weights"]), &device()));
        let output = head.forward(input.clone());
        if name == "equal_rows" {
            // Batch normalisation of rows without variance magnifies rounding: finite is all.
            assert!(host(output).iter().all(|v| v.is_finite()));
            continue;
        }
        close(
            name,
            &host(output.clone()),
            &array(&case["output"]).data,
            1e-4,
            1e-3,
        );
        let mut gradients = (output * weights).sum().backward();
        let found = host(input.grad(&gradients).unwrap());
        close(name, &found, &array(&case["input_grad"]).data, 1e-3, 1e-2);
        head.visit("head", &mut |parameter, param| {
            let found = host(param.take_grad(&mut gradients).unwrap());
            let expected = array(&case["grads"][parameter]);
            close(
                &format!("{name} {parameter}"),
                &found,
                &expected.data,
                1e-3,
                1e-2,
            );
        });
    }
}

#[test]
fn six_steps_follow_pytorch() {
    let log = json("lejepa/steps.json");
    let golden = arrays("lejepa/steps.safetensors");
    let inputs = arrays("training/inputs.safetensors");
    let c = &log["config"];
    let config = LeJepaConfig {
        vit: VitConfig {
            image_size: size(&c["img_size"]),
            patch_size: size(&c["patch_size"]),
            width: size(&c["embed_dim"]),
            depth: size(&c["depth"]),
            heads: size(&c["num_heads"]),
            ..Default::default()
        },
        head: ProjectionConfig {
            hidden_dim: size(&c["head_hidden_dim"]),
            out_dim: size(&c["out_dim"]),
            layers: 3,
        },
        optimizer: OptimiserKind::AdamW,
        clip_grad: number(&c["clip_grad"]),
        sigreg_weight: number(&c["sigreg_weight"]),
        sigreg_directions: size(&c["directions"]),
        average_momentum: number(&c["average_momentum"]),
        average_momentum_end: number(&c["average_momentum"]),
        drop_path: 0.0,
        patch_drop: 0.0,
        seed: 0,
        precision: Default::default(),
        feature: Default::default(),
    };
    let schedule = Schedule::new(ScheduleConfig {
        epochs: number(&c["epochs"]),
        steps_per_epoch: c["iters_per_epoch"].as_u64().unwrap(),
        lr: number(&c["base_lr"]),
        min_lr: number(&c["min_lr"]),
        warmup_epochs: number(&c["warmup_epochs"]),
        weight_decay: number(&c["weight_decay"]),
        weight_decay_end: number(&c["weight_decay"]),
    });
    let mut method = LeJepa::new(&config, &device()).unwrap();
    let initial = |from: &Arrays, prefix: &str| -> Vec<(String, Array)> {
        from.iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, array)| {
                (
                    name[name.find('.').unwrap() + 1..].to_owned(),
                    array.clone(),
                )
            })
            .collect()
    };
    let mut start: Arrays = initial(&golden, "init.head.").into_iter().collect();
    for (name, array) in initial(&inputs, "init.student.backbone.") {
        start.insert(name.strip_prefix("student.").unwrap().to_owned(), array);
    }
    let weights = Weights {
        arrays: start.clone(),
        ..Weights::default()
    };
    let report = load(&mut method.network, "", &weights, LoadOptions::default()).unwrap();
    assert!(
        report.missing.is_empty() && report.left_over.is_empty(),
        "{report}"
    );
    method.start_from(&weights, LoadOptions::default()).unwrap();

    for (step, expected) in log["log"].as_array().unwrap().iter().enumerate() {
        let crop = |j: usize| tensor::<4>(&inputs[&format!("step{step}.crop{j}")], &device());
        let views = Views {
            batch: size(&c["batch"]),
            global: Tensor::cat(vec![crop(0), crop(1)], 0),
            local: Some(Tensor::cat((2..6).map(crop).collect(), 0)),
        };
        let hp = schedule.at(step as u64);
        assert!(
            (hp.lr - number(&expected["lr"])).abs() < 1e-12,
            "rate of step {step}"
        );
        let along = tensor(&golden[&format!("step{step}.directions")], &device());
        let report = method.step_along(&views, &hp, along).unwrap();
        if step == 0 {
            let outputs = host(report.outputs.embeddings.unwrap());
            close(
                "outputs",
                &outputs,
                &golden["step0.outputs"].data,
                1e-4,
                0.0,
            );
        }
        near("loss", report.loss, &expected["loss"], 1e-4);
        for (name, value) in &report.terms {
            near(name, *value, &expected[*name], 1e-4);
        }
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
    // Whole tensors, by their change; whose gradients vanish but for rounding are left out.
    let vanishing: Vec<&str> = log["without_gradient"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let state = method.state();
    let mut compared = 0;
    for (name, expected) in golden.iter().filter(|(name, _)| name.starts_with("final.")) {
        let name = name.strip_prefix("final.").unwrap();
        let (which, parameter) = name.split_once('.').unwrap();
        // The projection is not averaged here.
        if vanishing.contains(&parameter) || (which == "average" && parameter.starts_with("head."))
        {
            continue;
        }
        let change = |array: &Array| -> Vec<f32> {
            let initial = &start[parameter].data;
            array.data.iter().zip(initial).map(|(a, b)| a - b).collect()
        };
        let (ours, theirs) = (change(&state.tensors[name]), change(expected));
        close(name, &ours, &theirs, 0.02, 0.0);
        compared += 1;
    }
    assert!(compared > 15, "{compared} compared");
    // All others by the norm of their change.
    for which in ["network", "average"] {
        for (parameter, expected) in log["final"][which].as_object().unwrap() {
            let own = format!("{which}.{parameter}");
            let skipped = vanishing.contains(&parameter.as_str())
                || parameter.ends_with("attn.qkv.bias")
                || !state.tensors.contains_key(&own);
            if !skipped {
                let array = &state.tensors[&own];
                let norm = array
                    .data
                    .iter()
                    .zip(&start[parameter].data)
                    .map(|(a, b)| f64::from(a - b).powi(2))
                    .sum::<f64>()
                    .sqrt();
                near(&own, norm, &expected["change_norm"], 0.02);
            }
        }
    }
}

fn small() -> LeJepaConfig {
    LeJepaConfig {
        vit: VitConfig {
            image_size: 16,
            patch_size: 8,
            width: 8,
            depth: 2,
            heads: 2,
            ..Default::default()
        },
        head: ProjectionConfig {
            hidden_dim: 16,
            out_dim: 6,
            layers: 3,
        },
        optimizer: OptimiserKind::AdamW,
        clip_grad: 3.0,
        sigreg_weight: 0.05,
        sigreg_directions: 32,
        average_momentum: 0.9,
        average_momentum_end: 0.99,
        drop_path: 0.2,
        patch_drop: 0.3,
        seed: 4,
        precision: Default::default(),
        feature: Default::default(),
    }
}

fn views(batch: usize, value: impl Fn(usize) -> f32) -> Views {
    let images = |views: usize, side: usize| {
        let n = views * batch * 3 * side * side;
        let data: Vec<f32> = (0..n).map(&value).collect();
        Tensor::from_data(
            TensorData::new(data, [views * batch, 3, side, side]),
            &device(),
        )
    };
    Views {
        batch,
        global: images(2, 16),
        local: Some(images(3, 8)),
    }
}

fn varied(number: u64) -> impl Fn(usize) -> f32 {
    move |i| ((i as u64 * 7919 + number * 104_729) % 997) as f32 / 500.0 - 1.0
}

fn take(method: &mut LeJepa, views: Views, step: u64) -> StepReport {
    let hp = StepHyperparams {
        step,
        epoch: step / 4,
        steps: 20,
        lr: 0.01,
        weight_decay: 0.05,
    };
    method.step(&[views], &hp).unwrap()
}

#[test]
fn one_image_and_equal_images_stay_finite() {
    for (batch, equal) in [(1, false), (4, true)] {
        let mut method = LeJepa::new(&small(), &device()).unwrap();
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
    let mut first = LeJepa::new(&small(), &device()).unwrap();
    for step in 0..3 {
        take(&mut first, views(3, varied(step)), step);
    }
    let position = TrainState::default();
    let path = save(folder.path(), &first, &position, &BTreeMap::new()).unwrap();
    let mut second = LeJepa::new(&small(), &device()).unwrap();
    take(&mut second, views(3, varied(9)), 9);
    let checkpoint = Checkpoint::read(&path).unwrap();
    assert_eq!(checkpoint.method(), "lejepa");
    checkpoint.restore(&mut second).unwrap();
    assert_eq!(second.state(), first.state());
    for step in 3..6 {
        let losses =
            [&mut first, &mut second].map(|method| take(method, views(3, varied(step)), step).loss);
        assert_eq!(losses[0], losses[1]);
    }
    assert_eq!(second.state(), first.state());
}

#[test]
fn micro_batches_are_refused() {
    let mut method = LeJepa::new(&small(), &device()).unwrap();
    let shape = |accumulate| BatchShape {
        micro_batch: 4,
        accumulate,
    };
    assert!(method.check(shape(1)).is_ok());
    let error = method.check(shape(2)).unwrap_err().to_string();
    assert!(
        error.contains("accumulate") && error.contains("2 micro-batches"),
        "{error}"
    );
    let hp = Schedule::new(ScheduleConfig {
        epochs: 1.0,
        steps_per_epoch: 1,
        lr: 0.1,
        min_lr: 0.0,
        warmup_epochs: 0.0,
        weight_decay: 0.0,
        weight_decay_end: 0.0,
    })
    .at(0);
    let two = [views(1, varied(0)), views(1, varied(1))];
    assert!(method.step(&two, &hp).is_err());
}

#[test]
fn impossible_settings_are_refused() {
    let refused = |config: LeJepaConfig| LeJepa::new(&config, &device()).err().unwrap().to_string();
    for (config, field) in [
        (
            LeJepaConfig {
                sigreg_weight: 1.5,
                ..small()
            },
            "sigreg-weight",
        ),
        (
            LeJepaConfig {
                sigreg_directions: 0,
                ..small()
            },
            "sigreg-directions",
        ),
        (
            LeJepaConfig {
                average_momentum: f64::NAN,
                ..small()
            },
            "average-momentum",
        ),
        (
            LeJepaConfig {
                average_momentum_end: -0.1,
                ..small()
            },
            "average-momentum-end",
        ),
        (
            LeJepaConfig {
                head: ProjectionConfig {
                    out_dim: 0,
                    ..small().head
                },
                ..small()
            },
            "proj-dim",
        ),
    ] {
        let error = refused(config);
        assert!(error.starts_with(field), "{error}");
    }
}

#[test]
fn directions_are_unit_vectors_of_their_own() {
    let rows = host(directions(1, 2, [50, 7], &device()));
    for row in rows.chunks(7) {
        let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5);
    }
    // Of mean 0: four deviations of the mean of 350 numbers of variance 1/7.
    let mean = rows.iter().sum::<f32>() / rows.len() as f32;
    assert!(mean.abs() < 0.081, "{mean}");
    assert_eq!(rows, host(directions(1, 2, [50, 7], &device())));
    assert_ne!(rows, host(directions(1, 3, [50, 7], &device())));
    assert_ne!(rows, host(directions(2, 2, [50, 7], &device())));
}
