//! Six steps of training against the numbers of the reference implementation.
//!
//! The fixtures hold initial weights, crops and, per optimiser, the log of each step and the
//! final weights as half-precision changes from the initial ones (exact to 4e-5 relative).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::device;
use burn::tensor::{DType, Device, Tensor, TensorData};
use dinolab_nn::weights::{Array, LoadOptions, Weights, file_arrays, load};
use dinolab_nn::{HeadConfig, Network, Parameters, Precision, VitConfig};
use dinolab_train::{
    Centering, Dino, DinoConfig, DinoSchedule, Method, OptimiserKind, Schedule, ScheduleConfig,
    Views,
};
use serde_json::Value;

type Arrays = BTreeMap<String, Array>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/training")
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

/// ‖a − b‖ / ‖b‖.
fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum = |f: &dyn Fn(usize) -> f64| (0..a.len()).map(f).sum::<f64>();
    let difference = sum(&|i| (a[i] as f64 - b[i] as f64).powi(2)).sqrt();
    let length = sum(&|i| (b[i] as f64).powi(2)).sqrt();
    if length > 0.0 {
        difference / length
    } else {
        difference
    }
}

/// A learner set up as the log's configuration says, with the fixtures' initial weights.
fn learner(log: &Value, inputs: &Arrays) -> (Dino, Schedule) {
    let c = &log["config"];
    let int = |key: &str| c[key].as_u64().unwrap();
    let float = |key: &str| c[key].as_f64().unwrap();
    let size = |key: &str| int(key) as usize;
    let or = |key: &str, otherwise: f64| c[key].as_f64().unwrap_or(otherwise);
    let config = DinoConfig {
        backbone: VitConfig {
            image_size: size("img_size"),
            patch_size: size("patch_size"),
            width: size("embed_dim"),
            depth: size("depth"),
            heads: size("num_heads"),
            ..Default::default()
        }
        .into(),
        head: HeadConfig {
            out_dim: size("out_dim"),
            hidden_dim: size("head_hidden_dim"),
            bottleneck_dim: size("bottleneck_dim"),
            layers: 3,
            use_bn: false,
            norm_last_layer: c["norm_last_layer"].as_bool().unwrap(),
        },
        optimizer: match c["optimizer"].as_str().unwrap() {
            "adamw" => OptimiserKind::AdamW,
            "sgd" => OptimiserKind::Sgd,
            "lars" => OptimiserKind::Lars,
            other => panic!("optimiser {other}"),
        },
        clip_grad: float("clip_grad"),
        adapt: Default::default(),
        freeze_last_layer: int("freeze_last_layer"),
        student_temp: float("student_temp"),
        centering: match c["centering"].as_str() {
            Some("sinkhorn") => Centering::Sinkhorn,
            _ => Centering::Centre,
        },
        center_momentum: float("center_momentum"),
        koleo_weight: or("koleo_weight", 0.0),
        sigreg_weight: or("sigreg_weight", 0.0),
        sigreg_directions: or("sigreg_directions", 0.0) as usize,
        schedule: DinoSchedule {
            momentum_teacher: float("momentum_teacher"),
            momentum_teacher_end: or("momentum_teacher_end", 1.0),
            warmup_teacher_temp: float("warmup_teacher_temp"),
            teacher_temp: float("teacher_temp"),
            warmup_teacher_temp_epochs: int("warmup_teacher_temp_epochs"),
        },
        average: None,
        drop_path: 0.0,
        patch_drop: 0.0,
        seed: 0,
        precision: Default::default(),
        feature: Default::default(),
    };
    let schedule = Schedule::new(ScheduleConfig {
        epochs: float("epochs"),
        steps_per_epoch: int("iters_per_epoch"),
        lr: float("base_lr"),
        min_lr: float("min_lr"),
        warmup_epochs: float("warmup_epochs"),
        weight_decay: float("weight_decay"),
        weight_decay_end: float("weight_decay_end"),
        freeze_backbone_epochs: 0.0,
    });
    let mut dino = Dino::new(&config, &device()).unwrap();
    let initial = inputs
        .iter()
        .filter_map(|(k, v)| Some((k.strip_prefix("init.student.")?.to_owned(), v.clone())))
        .collect();
    let weights = Weights {
        arrays: initial,
        ..Weights::default()
    };
    for network in [&mut dino.student, &mut dino.teacher] {
        let report = load(network, "", &weights, LoadOptions::default()).unwrap();
        assert!(
            report.left_over.is_empty() && report.missing.is_empty(),
            "{report}"
        );
    }
    (dino, schedule)
}

fn tensor(array: &Array, device: &Device) -> Tensor<4> {
    let shape: [usize; 4] = array.shape.as_slice().try_into().unwrap();
    Tensor::from_data(TensorData::new(array.data.clone(), shape), device)
}

fn views(inputs: &Arrays, step: usize, device: &Device) -> Views {
    let crop = |j: usize| tensor(&inputs[&format!("step{step}.crop{j}")], device);
    Views {
        batch: inputs["step0.crop0"].shape[0],
        global: Tensor::cat(vec![crop(0), crop(1)], 0),
        local: Some(Tensor::cat((2..6).map(crop).collect(), 0)),
    }
}

/// One image of each view of a batch of two.
fn half(views: &Views, image: usize) -> Views {
    let pick = |all: &Tensor<4>| {
        let count = all.dims()[0] / 2;
        Tensor::cat(
            (0..count)
                .map(|v| all.clone().narrow(0, 2 * v + image, 1))
                .collect(),
            0,
        )
    };
    Views {
        batch: 1,
        global: pick(&views.global),
        local: views.local.as_ref().map(pick),
    }
}

fn check_final(network: &Network, who: &str, golden: &Arrays, inputs: &Arrays) {
    network.visit("", &mut |name, param| {
        let change = &golden[&format!("change.{who}.{name}")].data;
        let scale = golden[&format!("scale.{who}.{name}")].data[0];
        let start = &inputs[&format!("init.student.{name}")].data;
        let expected: Vec<f32> = start
            .iter()
            .zip(change)
            .map(|(s, c)| s + c * scale)
            .collect();
        let error = relative(&param.to_vec(), &expected);
        assert!(error < 1e-3, "{who} {name}: {error}");
        // The change itself, not only the weights it is small against. Adam divides by the
        // gradient's size, so that tiny gradients turn rounding into visible differences.
        let change: Vec<f32> = change.iter().map(|c| c * scale).collect();
        let moved: Vec<f32> = param
            .to_vec()
            .iter()
            .zip(start)
            .map(|(p, s)| p - s)
            .collect();
        if change.iter().any(|&c| c != 0.0) {
            let error = relative(&moved, &change);
            assert!(error < 0.05, "change of {who} {name}: {error}");
        }
    });
}

fn six_steps(optimiser: &str, cut: bool) {
    let (inputs, golden) = (
        arrays("inputs.safetensors"),
        arrays(&format!("{optimiser}.safetensors")),
    );
    let log = json(&format!("{optimiser}.json"));
    let (mut dino, schedule) = learner(&log, &inputs);
    for (step, expected) in log["log"].as_array().unwrap().iter().enumerate() {
        let hp = schedule.at(step as u64);
        let (momentum, teacher_temp) = dino.config().schedule.at(&hp);
        for (name, value) in [
            ("lr", hp.lr),
            ("weight_decay", hp.weight_decay),
            ("teacher_momentum", momentum),
            ("teacher_temp", teacher_temp),
        ] {
            let expected = expected[name].as_f64().unwrap();
            assert!(
                (value - expected).abs() < 1e-9,
                "step {step} {name}: {value} {expected}"
            );
        }
        let batch = views(&inputs, step, dino.device());
        let batches = if cut {
            vec![half(&batch, 0), half(&batch, 1)]
        } else {
            vec![batch]
        };
        let report = dino.step(&batches, &hp).unwrap();
        let loss = expected["loss"].as_f64().unwrap();
        assert!(
            (report.loss - loss).abs() < 1e-4,
            "step {step} loss: {} {loss}",
            report.loss
        );
        let norms: Vec<f32> = expected["grad_norms"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap() as f32)
            .collect();
        assert_eq!(norms.len(), report.grad_norms.len());
        for (i, (ours, theirs)) in report.grad_norms.iter().zip(&norms).enumerate() {
            assert!(
                (ours - theirs).abs() <= 2e-3 * theirs + 1e-6,
                "step {step} norm {i}: {ours} {theirs}"
            );
        }
        let centre = dino
            .centre
            .as_ref()
            .unwrap()
            .to_data()
            .convert::<f32>()
            .try_to_vec::<f32>()
            .unwrap();
        let error = relative(&centre, &golden[&format!("step{step}.center_after")].data);
        assert!(error < 1e-3, "step {step} centre: {error}");
    }
    check_final(&dino.student, "student", &golden, &inputs);
    check_final(&dino.teacher, "teacher", &golden, &inputs);
}

#[test]
fn adamw_follows_the_reference() {
    six_steps("adamw", false);
}

#[test]
fn sgd_follows_the_reference() {
    six_steps("sgd", false);
}

#[test]
fn lars_follows_the_reference() {
    six_steps("lars", false);
}

#[test]
fn accumulated_micro_batches_equal_the_large_batch() {
    // One centre and one teacher update per step: anything else leaves the reference's path.
    six_steps("adamw", true);
}

/// The terms beside DINO's loss, against numbers derived independently in PyTorch
/// (`fixtures/dino/README.md`).
#[test]
fn sinkhorn_koleo_and_sigreg_follow_pytorch() {
    let inputs = arrays("inputs.safetensors");
    let log = json("../dino/steps.json");
    let (mut dino, schedule) = learner(&log, &inputs);
    assert!(dino.centre.is_none());
    for (step, expected) in log["log"].as_array().unwrap().iter().enumerate() {
        let hp = schedule.at(step as u64);
        let number = |key: &str| expected[key].as_f64().unwrap();
        let numbers = |value: &Value| -> Vec<f32> {
            let list = value.as_array().unwrap().iter();
            list.map(|v| v.as_f64().unwrap() as f32).collect()
        };
        let momentum = dino.config().schedule.at(&hp).0;
        assert!((momentum - number("teacher_momentum")).abs() < 1e-9);
        let directions = numbers(&expected["directions"]["data"]);
        let size = [12, directions.len() / 12];
        let along = Tensor::from_data(TensorData::new(directions, size), dino.device());
        let batch = views(&inputs, step, dino.device());
        let report = dino.step_along(&[batch], &hp, Some(along)).unwrap();
        let found = [&[("loss", report.loss)], &report.terms[..]].concat();
        assert_eq!(found.len(), 4);
        for (name, value) in found {
            let error = (value - number(name)).abs();
            assert!(error < 1e-4, "step {step} {name}: {value} {error}");
        }
        let norms = numbers(&expected["grad_norms"]);
        assert_eq!(norms.len(), report.grad_norms.len());
        for (i, (ours, theirs)) in report.grad_norms.iter().zip(&norms).enumerate() {
            assert!(
                (ours - theirs).abs() <= 2e-3 * theirs + 1e-6,
                "step {step} norm {i}: {ours} {theirs}"
            );
        }
    }
    for (who, network) in [("student", &dino.student), ("teacher", &dino.teacher)] {
        network.visit("", &mut |name, param| {
            let golden = &log["final"][who][name];
            let expected = |key: &str| golden[key].as_f64().unwrap();
            let values = param.to_vec();
            let start = &inputs[&format!("init.student.{name}")].data;
            let change = || values.iter().zip(start).map(|(a, b)| f64::from(a - b));
            let norm = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
            let moved = change().map(|v| v.powi(2)).sum::<f64>().sqrt();
            // A pattern in which misplaced values show.
            let pattern = change()
                .enumerate()
                .map(|(i, v)| (1.0 + i as f64).cos() * v);
            let pairs = [
                ("norm", norm.sqrt(), 1e-3 * expected("norm")),
                ("change_norm", moved, 0.05 * expected("change_norm")),
                ("change_cos", pattern.sum(), 0.05 * expected("change_norm")),
            ];
            for (key, value, tolerance) in pairs {
                let error = (value - expected(key)).abs();
                assert!(
                    error <= tolerance + 1e-9,
                    "{who} {name} {key}: {value} {golden}"
                );
            }
        });
    }
}

/// All images of a step are balanced together, however it is cut.
#[test]
fn sinkhorn_of_micro_batches_equals_that_of_the_large_batch() {
    let inputs = arrays("inputs.safetensors");
    let mut log = json("../dino/steps.json");
    for weight in ["koleo_weight", "sigreg_weight"] {
        log["config"][weight] = 0.0.into();
    }
    let (mut whole, schedule) = learner(&log, &inputs);
    let (mut cut, _) = learner(&log, &inputs);
    for step in 0..3 {
        let hp = schedule.at(step);
        let batch = views(&inputs, step as usize, whole.device());
        let halves = [half(&batch, 0), half(&batch, 1)];
        let apart = cut.step(&halves, &hp).unwrap().loss;
        let together = whole.step(&[batch], &hp).unwrap().loss;
        assert!((apart - together).abs() < 1e-5, "{apart} {together}");
    }
    let mut weights = Vec::new();
    whole
        .student
        .visit("", &mut |_, param| weights.push(param.to_vec()));
    cut.student.visit("", &mut |name, param| {
        let error = relative(&param.to_vec(), &weights.remove(0));
        assert!(error < 1e-4, "{name}: {error}");
    });
}

#[test]
fn logits_and_raw_gradients_of_the_first_step() {
    let (inputs, log) = (arrays("inputs.safetensors"), json("adamw.json"));
    let (dino, _) = learner(&log, &inputs);
    let batch = views(&inputs, 0, dino.device());
    let logits = |network: &Network, autodiff: bool| {
        let lift = |t: Tensor<4>| if autodiff { Tensor::from_inner(t) } else { t };
        let mut sizes = vec![lift(batch.global.clone())];
        if autodiff {
            sizes.push(lift(batch.local.clone().unwrap()));
        }
        network.forward(sizes, &dinolab_nn::vit::NoDropPath)
    };
    let teacher = logits(&dino.teacher, false);
    let student = logits(&dino.student, true);
    let to_host_f32 = |t: &Tensor<2>| {
        t.clone()
            .without_autodiff()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap()
    };
    assert!(relative(&to_host_f32(&teacher), &inputs["step0.teacher_logits"].data) < 1e-4);
    assert!(relative(&to_host_f32(&student), &inputs["step0.student_logits"].data) < 1e-4);

    let targets =
        dinolab_nn::ops::teacher_probabilities(teacher, dino.centre.clone().unwrap(), 0.04);
    let loss = dinolab_nn::ops::dino_loss(student, Tensor::from_inner(targets), batch.batch, 0.1);
    let mut grads = loss.backward();
    let mut checked = 0;
    dino.student.visit("", &mut |name, param| {
        let Some(expected) = inputs.get(&format!("step0.grad.{name}")) else {
            assert!(!param.trainable(), "no golden gradient of {name}");
            return;
        };
        let grad = param
            .take_grad(&mut grads)
            .unwrap()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        // The fixture's gradients are stored in half precision.
        let error = relative(&grad, &expected.data);
        assert!(error < 1e-3, "{name}: {error}");
        checked += 1;
    });
    assert_eq!(checked, 49);
}

#[test]
fn training_in_bf16_stays_near_the_reference() {
    if Precision::Bf16.check(&device()).is_err() {
        return;
    }
    let (inputs, log) = (arrays("inputs.safetensors"), json("adamw.json"));
    let (mut dino, schedule) = learner(&log, &inputs);
    for network in [&mut dino.student, &mut dino.teacher] {
        network.set_precision(Precision::Bf16);
    }
    for (step, expected) in log["log"].as_array().unwrap().iter().enumerate() {
        let batch = views(&inputs, step, dino.device());
        let report = dino.step(&[batch], &schedule.at(step as u64)).unwrap();
        let loss = expected["loss"].as_f64().unwrap();
        println!("step {step} loss: {} {loss}", report.loss);
        assert!(
            (report.loss - loss).abs() < 0.01,
            "step {step} loss: {} {loss}",
            report.loss
        );
    }
    // Masters and moments are of single precision: rounded to bf16, they would not be moved by
    // updates of a thousandth of their size.
    for network in [&dino.student, &dino.teacher] {
        network.visit("", &mut |name, param| {
            assert_eq!(param.flat().dtype(), DType::F32, "{name}");
        });
    }
    assert_eq!(dino.centre.as_ref().unwrap().dtype(), DType::F32);
}
