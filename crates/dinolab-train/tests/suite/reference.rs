//! Checkpoints in the reference's layout.

use crate::common;
use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use dinolab_nn::weights::{Array, Value, arrays};
use dinolab_nn::{HeadConfig, VitConfig};
use dinolab_train::checkpoint::{Checkpoint, TrainState, save, save_weights};
use dinolab_train::reference::{Group, checkpoint};
use dinolab_train::{
    Dino, DinoConfig, DinoSchedule, Method, OptimiserKind, StepHyperparams, Views,
};

/// After one step of the first epoch, in which the prototypes are frozen.
fn trained(optimizer: OptimiserKind) -> Dino {
    let config = DinoConfig {
        backbone: VitConfig {
            image_size: 16,
            patch_size: 8,
            width: 8,
            depth: 1,
            heads: 2,
            ..Default::default()
        }
        .into(),
        head: HeadConfig {
            out_dim: 6,
            hidden_dim: 8,
            bottleneck_dim: 4,
            ..HeadConfig::default()
        },
        optimizer,
        clip_grad: 0.0,
        freeze_last_layer: 1,
        student_temp: 0.1,
        center_momentum: 0.9,
        schedule: DinoSchedule {
            momentum_teacher: 0.9,
            warmup_teacher_temp: 0.04,
            teacher_temp: 0.04,
            warmup_teacher_temp_epochs: 0,
            ..Default::default()
        },
        drop_path: 0.0,
        seed: 1,
        precision: Default::default(),
        ..Default::default()
    };
    let mut dino = Dino::new(&config, &common::device()).unwrap();
    let pixels: Vec<f32> = (0..4 * 3 * 16 * 16)
        .map(|i| (i % 13) as f32 * 0.1)
        .collect();
    let global = TensorData::new(pixels, [4, 3, 16, 16]);
    let views = Views {
        batch: 2,
        global: Tensor::from_data(global, dino.device()),
        local: None,
    };
    let hp = StepHyperparams {
        step: 0,
        epoch: 0,
        steps: 10,
        lr: 0.01,
        weight_decay: 0.04,
        backbone_rate: 1.0,
    };
    dino.step(&[views], &hp).unwrap();
    dino
}

fn get<'a>(value: &'a Value, key: &str) -> &'a Value {
    let Value::Dict(items) = value else {
        panic!("{key} of {value:?}")
    };
    let found = items.iter().find(|(k, _)| *k == Value::Text(key.into()));
    &found.unwrap_or_else(|| panic!("no {key}")).1
}

fn tensor(value: &Value) -> &Array {
    match value {
        Value::Tensor(array) => array,
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_is_where_the_reference_looks_for_it() {
    for (kind, slots) in [
        (OptimiserKind::AdamW, &["exp_avg", "exp_avg_sq"][..]),
        (OptimiserKind::Sgd, &["momentum_buffer"]),
        (OptimiserKind::Lars, &["mu"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let dino = trained(kind);
        let position = TrainState {
            step: 1,
            config: "seed = 1".into(),
            ..TrainState::default()
        };
        let facts = BTreeMap::from([("epoch".to_owned(), "1".to_owned())]);
        let saved = Checkpoint::read(&save(folder.path(), &dino, &position, &facts).unwrap());
        let saved = saved.unwrap();
        let group = Group {
            kind,
            lr: 0.5,
            weight_decay: 0.04,
        };
        let args = vec![("arch".to_owned(), Value::Text("custom".into()))];
        let value = checkpoint(&saved, &dino.student, group, args).unwrap();

        assert_eq!(get(&value, "epoch"), &Value::Int(1));
        assert_eq!(
            get(get(&value, "args"), "arch"),
            &Value::Text("custom".into())
        );
        let centre = tensor(get(get(&value, "dino_loss"), "center"));
        assert_eq!(centre.shape, [1, 6]);
        for (name, array) in arrays(&dino.student, "module") {
            assert_eq!(tensor(get(get(&value, "student"), &name)), &array, "{name}");
        }
        for (name, array) in arrays(&dino.teacher, "") {
            assert_eq!(tensor(get(get(&value, "teacher"), &name)), &array, "{name}");
        }

        // The reference's groups: in order, what decays first. The lengths of prototypes are
        // frozen and in neither.
        let (mut decayed, mut plain) = (Vec::new(), Vec::new());
        for (name, array) in arrays(&dino.student, "") {
            let is_plain = name.ends_with(".bias") || array.shape.len() == 1;
            if !name.ends_with("weight_g") {
                if is_plain { &mut plain } else { &mut decayed }.push(name);
            }
        }
        let optimizer = get(&value, "optimizer");
        let Value::List(groups) = get(optimizer, "param_groups") else {
            panic!("no list")
        };
        let numbers = |group: &Value| match get(group, "params") {
            Value::List(numbers) => numbers.clone(),
            other => panic!("{other:?}"),
        };
        let (first, second) = (numbers(&groups[0]), numbers(&groups[1]));
        assert_eq!((first.len(), second.len()), (decayed.len(), plain.len()));
        let all: Vec<Value> = first.into_iter().chain(second).collect();
        assert!(
            all.iter()
                .enumerate()
                .all(|(i, n)| *n == Value::Int(i as i64))
        );
        assert_eq!(get(&groups[0], "weight_decay"), &Value::Float(0.04));
        assert_eq!(get(&groups[1], "weight_decay"), &Value::Float(0.0));
        assert_eq!(get(&groups[0], "lr"), &Value::Float(0.5));

        // The class token is the first parameter and decays; frozen prototypes have no state.
        let Value::Dict(state) = get(optimizer, "state") else {
            panic!("no state")
        };
        assert_eq!(state.len(), all.len() - 1);
        let (number, of_token) = &state[0];
        assert_eq!(*number, Value::Int(0));
        for slot in slots {
            let array = tensor(get(of_token, slot));
            assert_eq!(array.shape, [1, 1, 8]);
            assert!(array.data.iter().any(|&v| v != 0.0), "{slot}");
        }
        if kind == OptimiserKind::AdamW {
            let steps = tensor(get(of_token, "step"));
            assert_eq!((steps.shape.len(), steps.data[0]), (0, 1.0));
        }
    }
}

#[test]
fn what_the_reference_does_not_have_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dino = trained(OptimiserKind::Muon);
    let (position, facts) = (TrainState::default(), BTreeMap::new());
    let path = save(folder.path(), &dino, &position, &facts).unwrap();
    let group = Group {
        kind: OptimiserKind::Muon,
        lr: 0.5,
        weight_decay: 0.04,
    };
    let saved = Checkpoint::read(&path).unwrap();
    let error = checkpoint(&saved, &dino.student, group, Vec::new()).unwrap_err();
    assert!(error.to_string().contains("optimizer"), "{error}");
}

#[test]
fn weights_from_elsewhere_are_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let dino = trained(OptimiserKind::AdamW);
    let given = arrays(&dino.teacher, "teacher");
    let facts = BTreeMap::from([("vit".to_owned(), "{}".to_owned())]);
    save_weights(folder.path(), &given, &facts).unwrap();
    let (saved, damaged) = Checkpoint::latest(folder.path()).unwrap().unwrap();
    assert!(damaged.is_empty());
    assert!(!saved.position.is_resumable());
    assert_eq!(saved.epoch, None);
    let mut other = trained(OptimiserKind::AdamW);
    assert!(
        saved.restore(&mut other).is_err(),
        "there is no student in it"
    );
}
