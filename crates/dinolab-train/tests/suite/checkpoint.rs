//! Checkpoints and the log: what is written is what is read, and damage is noticed.

use crate::common;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use dinolab_nn::weights::arrays;
use dinolab_nn::{HeadConfig, VitConfig};
use dinolab_train::checkpoint::{
    Checkpoint, TrainState, file_name, list, prune, save, write_atomically,
};
use dinolab_train::log::{Log, read};
use dinolab_train::{
    Dino, DinoConfig, DinoSchedule, Error, Method, OptimiserKind, Schedule, ScheduleConfig, Views,
};

fn config(optimizer: OptimiserKind) -> DinoConfig {
    DinoConfig {
        backbone: VitConfig {
            image_size: 16,
            patch_size: 8,
            width: 8,
            depth: 2,
            heads: 2,
            ..Default::default()
        }
        .into(),
        head: HeadConfig {
            out_dim: 12,
            hidden_dim: 8,
            bottleneck_dim: 4,
            layers: 3,
            use_bn: true,
            norm_last_layer: false,
        },
        optimizer,
        clip_grad: 1.0,
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
        drop_path: 0.2,
        seed: 4,
        precision: Default::default(),
        ..Default::default()
    }
}

fn dino(optimizer: OptimiserKind, seed: u64) -> Dino {
    let config = DinoConfig {
        seed,
        ..config(optimizer)
    };
    Dino::new(&config, &common::device()).unwrap()
}

fn schedule() -> Schedule {
    Schedule::new(ScheduleConfig {
        epochs: 3.0,
        steps_per_epoch: 2,
        lr: 0.01,
        min_lr: 0.001,
        warmup_epochs: 0.0,
        weight_decay: 0.04,
        weight_decay_end: 0.4,
        freeze_backbone_epochs: 0.0,
    })
}

/// One step on images that depend on its number alone.
fn step(dino: &mut Dino, number: u64) -> f64 {
    let images = |views: usize, side: usize| {
        let n = views * 2 * 3 * side * side;
        let data: Vec<f32> = (0..n)
            .map(|i| ((i as u64 * 7919 + number * 104_729) % 997) as f32 / 500.0 - 1.0)
            .collect();
        Tensor::<4>::from_data(
            TensorData::new(data, [views * 2, 3, side, side]),
            dino.device(),
        )
    };
    let views = Views {
        batch: 2,
        global: images(2, 16),
        local: Some(images(3, 8)),
    };
    dino.step(&[views], &schedule().at(number)).unwrap().loss
}

fn everything(dino: &Dino) -> impl PartialEq + std::fmt::Debug {
    let centre = dino
        .centre
        .as_ref()
        .unwrap()
        .to_data()
        .try_to_vec::<f32>()
        .unwrap();
    (
        arrays(&dino.student, "student"),
        arrays(&dino.teacher, "teacher"),
        centre,
    )
}

fn facts() -> BTreeMap<String, String> {
    BTreeMap::from([("preprocess".to_owned(), "{}".to_owned())])
}

fn position(step: u64) -> TrainState {
    TrainState {
        step,
        observers: BTreeMap::from([("monitor".to_owned(), "{\"seen\":1.5}".to_owned())]),
        config: "seed = 4\n".into(),
        ..TrainState::default()
    }
}

#[test]
fn a_restored_run_goes_on_exactly() {
    for optimizer in [
        OptimiserKind::AdamW,
        OptimiserKind::Sgd,
        OptimiserKind::Lars,
        OptimiserKind::Muon,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut first = dino(optimizer, 4);
        // Past the epoch of frozen prototypes, whose moments begin later than the others'.
        for number in 0..3 {
            step(&mut first, number);
        }
        let path = save(folder.path(), &first, &position(3), &facts()).unwrap();
        assert_eq!(path, folder.path().join(file_name(3)));

        let checkpoint = Checkpoint::read(&path).unwrap();
        assert_eq!(checkpoint.position, position(3));
        // Other weights and no moments: all of them must come from the checkpoint. The seed
        // also draws stochastic depth, and is part of the configuration.
        let mut second = dino(optimizer, 4);
        step(&mut second, 5);
        checkpoint.restore(&mut second).unwrap();
        assert_eq!(everything(&second), everything(&first), "{optimizer:?}");
        for number in 3..6 {
            assert_eq!(
                step(&mut second, number),
                step(&mut first, number),
                "{optimizer:?}"
            );
        }
        assert_eq!(everything(&second), everything(&first), "{optimizer:?}");
    }
}

#[test]
fn a_turned_bit_is_noticed_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut dino = dino(OptimiserKind::AdamW, 4);
    step(&mut dino, 0);
    let path = save(folder.path(), &dino, &position(1), &facts()).unwrap();
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    // Every bit of a byte gets its turn, in what describes and in the values.
    let last = whole.len() - 1;
    for at in (0..header)
        .step_by(17)
        .chain((header..last).step_by(211))
        .chain([last])
    {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        let Err(error) = Checkpoint::read(&path) else {
            // The one thing that may turn unnoticed is blank space.
            assert_eq!(whole[at], b' ', "byte {at} of {header} + values");
            continue;
        };
        assert!(
            matches!(error, Error::BadCheckpoint { .. }),
            "byte {at}: {error}"
        );
        assert!(error.to_string().contains("step-000000001"), "{error}");
    }
    for length in [0, 1, 8, 100, header, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = Checkpoint::read(&path).err().unwrap().to_string();
        assert!(error.contains("damaged"), "cut to {length}: {error}");
    }
    fs::write(&path, &whole).unwrap();
    assert!(Checkpoint::read(&path).is_ok());
}

#[test]
fn the_newest_whole_checkpoint_is_found() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Checkpoint::latest(folder.path()).unwrap().is_none());
    assert!(
        Checkpoint::latest(&folder.path().join("absent"))
            .unwrap()
            .is_none()
    );
    let dino = dino(OptimiserKind::Sgd, 4);
    for step in [2, 10, 9] {
        save(folder.path(), &dino, &position(step), &facts()).unwrap();
    }
    fs::write(
        folder.path().join("step-000000011.part"),
        "half a checkpoint",
    )
    .unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let newest = || {
        Checkpoint::latest(folder.path())
            .unwrap()
            .map(|(c, bad)| (c.position.step, bad.len()))
    };
    assert_eq!(newest(), Some((10, 0)));
    let damage = |step| fs::write(folder.path().join(file_name(step)), "damaged").unwrap();
    damage(10);
    assert_eq!(newest(), Some((9, 1)));
    damage(9);
    damage(2);
    let error = Checkpoint::latest(folder.path()).err().unwrap().to_string();
    assert!(
        error.contains(&file_name(10)),
        "the newest is named: {error}"
    );
}

#[test]
fn old_checkpoints_are_removed_but_the_spared() {
    let folder = tempfile::tempdir().unwrap();
    for step in 1..=9 {
        fs::write(folder.path().join(file_name(step)), "").unwrap();
    }
    fs::write(folder.path().join("latest"), "").unwrap();
    prune(folder.path(), 2, |step| step % 4 == 0);
    let left: Vec<_> = list(folder.path());
    let expected = [9, 8, 4].map(|step| folder.path().join(file_name(step)));
    assert_eq!(left, expected);
    prune(folder.path(), 0, |_| false);
    assert_eq!(
        list(folder.path()),
        expected[..1],
        "the newest always stays"
    );
    assert!(folder.path().join("latest").exists());
}

#[test]
fn a_checkpoint_of_another_network_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(
        folder.path(),
        &dino(OptimiserKind::AdamW, 4),
        &position(0),
        &facts(),
    )
    .unwrap();
    let checkpoint = Checkpoint::read(&path).unwrap();
    let mut config = config(OptimiserKind::AdamW);
    config.head.out_dim = 13;
    let mut other = Dino::new(&config, &common::device()).unwrap();
    let error = checkpoint.restore(&mut other).unwrap_err().to_string();
    assert!(
        error.contains("last_layer") && error.contains("13"),
        "{error}"
    );
    // Weights alone are no training checkpoint.
    let weights = arrays(&other.teacher, "teacher");
    let bytes = dinolab_nn::weights::to_bytes(&weights, &Default::default()).unwrap();
    fs::write(&path, bytes).unwrap();
    let error = Checkpoint::read(&path).err().unwrap().to_string();
    assert!(error.contains("not a training checkpoint"), "{error}");
}

#[test]
fn a_file_is_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.txt");
    write_atomically(&path, b"first").unwrap();
    write_atomically(&path, b"second").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file stays"
    );
    let error = write_atomically(&path.join("below-a-file.txt"), b"").unwrap_err();
    assert!(error.to_string().contains("below-a-file"), "{error}");
}

#[derive(serde::Serialize)]
struct Line {
    loss: f64,
}

fn written(path: &Path, from: u64, steps: std::ops::RangeInclusive<u64>) {
    let mut log = Log::open(path, from).unwrap();
    for step in steps {
        let loss = 1.0 / (step as f64 + 0.3);
        log.write("train", step, &Line { loss }).unwrap();
        if step % 4 == 0 {
            log.write("epoch", step, &Line { loss: loss.sqrt() })
                .unwrap();
        }
    }
    log.sync().unwrap();
}

#[test]
fn a_log_rewinds_to_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    written(&whole, 0, 0..=12);
    let text = fs::read_to_string(&whole).unwrap();
    assert_eq!(text.lines().count(), 13 + 4);
    assert_eq!(read(&whole).unwrap().len(), 17);

    written(&parts, 0, 0..=7);
    // Killed in the middle of a line.
    let torn = fs::read_to_string(&parts).unwrap() + "{\"kind\":\"train\",\"st";
    fs::write(&parts, torn).unwrap();
    assert_eq!(
        read(&parts).unwrap().len(),
        10,
        "what was torn is not there"
    );
    // Lines of a step stay with it, those after it go.
    written(&parts, 4, 5..=12);
    assert_eq!(fs::read_to_string(&parts).unwrap(), text);
    // From the start there is nothing to keep, not even lines of step 0.
    written(&parts, 0, 0..=12);
    assert_eq!(fs::read_to_string(&parts).unwrap(), text);
    assert!(read(&folder.path().join("absent")).unwrap().is_empty());
}
