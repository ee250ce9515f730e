//! Which checkpoints are worth going back to.

use crate::common;
use std::fs;

use burn::tensor::Tensor;
use dinolab_nn::{HeadConfig, Parameters, VitConfig};
use dinolab_train::checkpoint::{
    Change, Checkpoint, TrainState, aside, file_name, list, save, set_aside,
};
use dinolab_train::soundness::{CALM_STEPS, FIRST_STEPS, Soundness, WINDOW};
use dinolab_train::{Dino, DinoConfig, DinoSchedule, Error, OptimiserKind};

const K: usize = 12;

/// ln K.
fn guessing() -> Option<f64> {
    Some((K as f64).ln())
}

fn dino() -> Dino {
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
            out_dim: K,
            hidden_dim: 8,
            bottleneck_dim: 4,
            layers: 3,
            use_bn: false,
            norm_last_layer: true,
        },
        optimizer: OptimiserKind::Sgd,
        clip_grad: 0.0,
        freeze_last_layer: 0,
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
        seed: 4,
        precision: Default::default(),
        ..Default::default()
    };
    Dino::new(&config, &common::device()).unwrap()
}

/// All the student's weights times `factor`.
fn scaled(mut dino: Dino, factor: f64) -> Dino {
    dino.student.visit_mut("", &mut |_, param| {
        let value: Tensor<1> = param.take_flat();
        param.set_flat(value * factor);
    });
    dino
}

/// Ordinary steps, whose gradients vary by two.
fn calm(soundness: &mut Soundness, steps: usize) {
    for step in 0..steps {
        soundness.step(2.0, &[1.0 + (step % 3) as f32 / 2.0, 0.5], guessing());
    }
}

#[test]
fn unusual_steps_are_doubted_until_enough_ordinary_ones_follow() {
    let dino = dino();
    let mut soundness = Soundness::of(&dino);
    assert_eq!(soundness.doubt(&dino), None, "as it begins");
    // Without others to compare with, a gradient is not judged.
    soundness.step(2.0, &[100.0], guessing());
    assert_eq!(soundness.doubt(&dino), None);
    calm(&mut soundness, 30);
    soundness.step(2.0, &[9.0], guessing());
    assert_eq!(soundness.doubt(&dino), None, "nine times is not unusual");
    soundness.step(2.0, &[40.0], guessing());
    let doubt = soundness.doubt(&dino).unwrap();
    assert!(doubt.contains("times its usual size"), "{doubt}");
    calm(&mut soundness, CALM_STEPS as usize - 1);
    assert!(soundness.doubt(&dino).is_some());
    calm(&mut soundness, 1);
    assert_eq!(soundness.doubt(&dino), None);

    soundness.step(2.0 * (K as f64).ln() + 0.1, &[1.0], guessing());
    assert!(soundness.doubt(&dino).unwrap().contains("loss"));
    // A larger gradient that lasts becomes the usual one.
    let mut rising = Soundness::of(&dino);
    calm(&mut rising, FIRST_STEPS);
    for _ in 0..WINDOW + CALM_STEPS as usize {
        rising.step(2.0, &[30.0], guessing());
    }
    assert_eq!(rising.doubt(&dino), None);
}

#[test]
fn weights_out_of_all_proportion_are_not_sound() {
    for factor in [11.0, 1e15, 1e30, f64::NAN] {
        let mut soundness = Soundness::of(&dino());
        assert_eq!(soundness.doubt(&scaled(dino(), 5.0)), None);
        let doubt = soundness.doubt(&scaled(dino(), factor)).unwrap();
        assert!(doubt.contains("weights"), "{doubt}");
        // Nor are those that shrank since.
        assert_eq!(soundness.doubt(&dino()), Some(doubt));
    }
}

#[test]
fn the_record_survives_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let dino = dino();
    let mut soundness = Soundness::of(&dino);
    for step in 0..150 {
        soundness.step(
            2.0 + 1.0 / (step + 3) as f64,
            &[0.1 + step as f32, 1.0 / 3.0],
            guessing(),
        );
    }
    soundness.found_sound(140);
    let position = TrainState {
        step: 150,
        config: "lr = 1\n".into(),
        soundness: Some(soundness),
        changes: vec![Change {
            step: 7,
            setting: "lr".into(),
            from: "2".into(),
            to: "1".into(),
        }],
        ..TrainState::default()
    };
    let path = save(folder.path(), &dino, &position, &Default::default()).unwrap();
    let mut read = Checkpoint::read(&path).unwrap();
    assert_eq!(read.position, position);
    // Written again with another configuration, it is otherwise the same.
    let change = Change {
        step: 150,
        from: "1".into(),
        to: "0.5".into(),
        ..position.changes[0].clone()
    };
    let config = "lr = 0.5\n";
    read.reconfigure(config, vec![change.clone()], &Default::default())
        .unwrap();
    let again = Checkpoint::read(&path).unwrap();
    assert_eq!(again.position.config, config);
    assert_eq!(again.position.changes[1], change);
    assert_eq!(again.position.soundness, position.soundness);
    again.restore(&mut self::dino()).unwrap();
    // One of a program without such a record, and with a single observer.
    let old: TrainState =
        serde_json::from_str(r#"{"step":3,"observers":"","config":"lr = 1"}"#).unwrap();
    assert_eq!((old.soundness, old.changes.len()), (None, 0));
    assert!(old.observers.is_empty());
    let old: TrainState =
        serde_json::from_str(r#"{"step":3,"observers":"seen","config":"lr = 1"}"#).unwrap();
    assert_eq!(old.observers["monitor"], "seen");
}

#[test]
fn values_that_are_not_finite_are_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let position = |step| TrainState {
        step,
        ..TrainState::default()
    };
    save(folder.path(), &dino(), &position(1), &Default::default()).unwrap();
    let ruined = scaled(dino(), f64::INFINITY);
    let error = save(folder.path(), &ruined, &position(2), &Default::default()).unwrap_err();
    assert!(error.is_divergence());
    let Error::NonFiniteValues { step: 2, tensor } = error else {
        panic!("{error}");
    };
    assert!(tensor.starts_with("student."), "{tensor}");
    assert_eq!(list(folder.path()).len(), 1);
    let latest = fs::read_to_string(folder.path().join("latest")).unwrap();
    assert_eq!(latest, file_name(1));
}

#[test]
fn checkpoints_are_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = |step| folder.path().join(file_name(step));
    for step in 1..=5 {
        fs::write(path(step), "").unwrap();
    }
    let renamed = set_aside(folder.path(), Some(3)).unwrap();
    assert_eq!(list(folder.path()), [path(3), path(2), path(1)]);
    assert_eq!(renamed, aside(folder.path()));
    assert!(renamed[0].ends_with("unsound-step-000000004.safetensors"));
    let latest = || fs::read_to_string(folder.path().join("latest"));
    assert_eq!(latest().unwrap(), file_name(3));
    assert_eq!(set_aside(folder.path(), None).unwrap().len(), 3);
    assert!(list(folder.path()).is_empty() && latest().is_err());
    assert_eq!(aside(folder.path()).len(), 5);
}
