//! What is tested of every method without a teacher.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use dinolab_nn::weights::{Array, LoadOptions, Weights, load};
use dinolab_nn::{ProjectionConfig, VitConfig};
use dinolab_train::checkpoint::{Checkpoint, TrainState, save};
use dinolab_train::method::joint_embedding::Objective;
use dinolab_train::{
    BatchShape, JointEmbedding, JointEmbeddingConfig, Method, OptimiserKind, Schedule,
    ScheduleConfig, StepHyperparams, StepReport, Views,
};
use serde_json::Value;

use super::device;
use super::golden::*;

/// The terms of an objective and the gradient of the loss, on recorded embeddings.
pub fn objective_and_gradient<O: Objective>(folder: &str, objective: impl Fn(&Value) -> O) {
    let device = device();
    let golden = json(&format!("{folder}/objective.json"));
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let z = Tensor::<2>::from_inner(tensor(&array(&case["z"]), &device)).require_grad();
        let a = Tensor::from_inner(tensor::<2>(&array(&case["directions"]), &device));
        let value = |x: &Tensor<1>| f64::from(x.clone().into_scalar::<f32>());
        let terms = objective(case).terms(z.clone(), a, size(&case["batch"]));
        let mut loss: Option<Tensor<1>> = None;
        for term in terms {
            near(name, value(&term.value), &case[term.name], 1e-4);
            let weighted = term.value * term.weight;
            loss = Some(match loss {
                Some(loss) => loss + weighted,
                None => weighted,
            });
        }
        let loss = loss.unwrap();
        near(name, value(&loss), &case["loss"], 1e-4);
        let found = to_host_f32(z.grad(&loss.backward()).unwrap());
        close(name, &found, &array(&case["grad"]).data, 1e-3, 1e-4);
    }
}

/// Six steps on recorded crops, from recorded weights. `objective` is that of the configuration.
pub fn six_steps<O: Objective>(folder: &str, objective: impl Fn(&Value) -> O) {
    let log = json(&format!("{folder}/steps.json"));
    let golden = arrays(&format!("{folder}/steps.safetensors"));
    let inputs = arrays("training/inputs.safetensors");
    let c = &log["config"];
    // A batch has the images of so many recorded steps.
    let joined_steps = c["joined_steps"].as_u64().unwrap_or(1) as usize;
    let config = JointEmbeddingConfig {
        backbone: VitConfig {
            image_size: size(&c["img_size"]),
            patch_size: size(&c["patch_size"]),
            width: size(&c["embed_dim"]),
            depth: size(&c["depth"]),
            heads: size(&c["num_heads"]),
            ..Default::default()
        }
        .into(),
        head: ProjectionConfig {
            hidden_dim: size(&c["head_hidden_dim"]),
            out_dim: size(&c["out_dim"]),
            layers: 3,
        },
        optimizer: OptimiserKind::AdamW,
        clip_grad: number(&c["clip_grad"]),
        objective: objective(c),
        directions: size(&c["directions"]),
        average_momentum: number(&c["average_momentum"]),
        average_momentum_end: number(&c["average_momentum"]),
        drop_path: 0.0,
        patch_drop: 0.0,
        feature: Default::default(),
        seed: 0,
        precision: Default::default(),
        adapt: Default::default(),
    };
    let schedule = Schedule::new(ScheduleConfig {
        epochs: number(&c["epochs"]),
        steps_per_epoch: c["iters_per_epoch"].as_u64().unwrap(),
        lr: number(&c["base_lr"]),
        min_lr: number(&c["min_lr"]),
        warmup_epochs: number(&c["warmup_epochs"]),
        weight_decay: number(&c["weight_decay"]),
        weight_decay_end: number(&c["weight_decay"]),
        freeze_backbone_epochs: 0.0,
    });
    let mut method = JointEmbedding::new(&config, &device()).unwrap();
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
        let joined =
            (step..step + joined_steps).map(|step| step % log["log"].as_array().unwrap().len());
        let crop = |j: usize| {
            let of_step = |step| tensor::<4>(&inputs[&format!("step{step}.crop{j}")], &device());
            Tensor::cat(joined.clone().map(of_step).collect(), 0)
        };
        let views = Views {
            batch: size(&c["batch"]) * joined_steps,
            global: Tensor::cat(vec![crop(0), crop(1)], 0),
            local: Some(Tensor::cat((2..6).map(crop).collect(), 0)),
        };
        let hp = schedule.at(step as u64);
        assert!(
            (hp.lr - number(&expected["lr"])).abs() < 1e-12,
            "rate of step {step}"
        );
        let along = tensor(&golden[&format!("step{step}.directions")], &device());
        let report = method.step_along(&[views], &hp, along).unwrap();
        if step == 0 {
            let outputs = to_host_f32(report.outputs.embeddings.unwrap());
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
    // The average's change is small against its values, which single precision rounds.
    let tolerance = |which: &str| if which == "average" { 2e-3 } else { 1e-3 };
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
        close(name, &ours, &theirs, tolerance(which), 0.0);
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
                near(&own, norm, &expected["change_norm"], tolerance(which));
            }
        }
    }
}

/// A small network.
pub fn small<O>(objective: O) -> JointEmbeddingConfig<O> {
    JointEmbeddingConfig {
        backbone: VitConfig {
            image_size: 16,
            patch_size: 8,
            width: 8,
            depth: 2,
            heads: 2,
            ..Default::default()
        }
        .into(),
        head: ProjectionConfig {
            hidden_dim: 16,
            out_dim: 6,
            layers: 3,
        },
        optimizer: OptimiserKind::AdamW,
        clip_grad: 3.0,
        objective,
        directions: 32,
        average_momentum: 0.9,
        average_momentum_end: 0.99,
        drop_path: 0.2,
        patch_drop: 0.3,
        feature: Default::default(),
        seed: 4,
        precision: Default::default(),
        adapt: Default::default(),
    }
}

pub fn views(batch: usize, value: impl Fn(usize) -> f32) -> Views {
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

pub fn varied(number: u64) -> impl Fn(usize) -> f32 {
    move |i| ((i as u64 * 7919 + number * 104_729) % 997) as f32 / 500.0 - 1.0
}

pub fn take(method: &mut dyn Method, views: Views, step: u64) -> StepReport {
    let hp = StepHyperparams {
        step,
        epoch: step / 4,
        steps: 20,
        lr: 0.01,
        weight_decay: 0.05,
        backbone_rate: 1.0,
    };
    method.step(&[views], &hp).unwrap()
}

/// Batches of one image and of equal images.
pub fn stays_finite<O: Objective>(config: &JointEmbeddingConfig<O>) {
    for (batch, equal) in [(1, false), (4, true)] {
        let mut method = JointEmbedding::new(config, &device()).unwrap();
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

/// A method that is restored from a checkpoint takes the same steps.
pub fn continues_exactly<O: Objective>(config: &JointEmbeddingConfig<O>) {
    let folder = tempfile::tempdir().unwrap();
    let mut first = JointEmbedding::new(config, &device()).unwrap();
    for step in 0..3 {
        take(&mut first, views(3, varied(step)), step);
    }
    let position = TrainState::default();
    let path = save(folder.path(), &first, &position, &BTreeMap::new()).unwrap();
    let mut second = JointEmbedding::new(config, &device()).unwrap();
    take(&mut second, views(3, varied(9)), 9);
    let checkpoint = Checkpoint::read(&path).unwrap();
    assert_eq!(checkpoint.method(), O::METHOD);
    checkpoint.restore(&mut second).unwrap();
    assert_eq!(second.state(), first.state());
    for step in 3..6 {
        let losses =
            [&mut first, &mut second].map(|method| take(method, views(3, varied(step)), step).loss);
        assert_eq!(losses[0], losses[1]);
    }
    assert_eq!(second.state(), first.state());
}

/// Micro-batches do not equal a large batch.
pub fn refuses_micro_batches<O: Objective>(config: &JointEmbeddingConfig<O>) {
    let mut method = JointEmbedding::new(config, &device()).unwrap();
    let shape = |accumulate| BatchShape {
        micro_batch: 4,
        accumulate,
    };
    assert!(method.check(shape(1)).is_ok());
    let error = method.check(shape(2)).unwrap_err().to_string();
    assert!(
        error.contains("accumulate")
            && error.contains("2 micro-batches")
            && error.contains(O::TITLE),
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
        freeze_backbone_epochs: 0.0,
    })
    .at(0);
    let two = [views(1, varied(0)), views(1, varied(1))];
    assert!(method.step(&two, &hp).is_err());
}
