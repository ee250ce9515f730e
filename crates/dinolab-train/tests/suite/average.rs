//! The average that is evaluated apart from a teacher.

use crate::common::device;
use crate::common::joint_embedding::{take, varied, views};
use dinolab_nn::{BottleneckConfig, HeadConfig, VitConfig};
use dinolab_train::{
    AverageSchedule, Dino, DinoConfig, Method, OptimiserKind, SimDino, SimDinoConfig, State,
};

fn vit() -> VitConfig {
    VitConfig {
        image_size: 16,
        patch_size: 8,
        width: 8,
        depth: 2,
        heads: 2,
        ..Default::default()
    }
}

/// Both methods that have a teacher, which follows with a momentum from 0.9 to 1.
fn methods(average: Option<AverageSchedule>) -> [Box<dyn Method>; 2] {
    let mut dino = DinoConfig {
        backbone: vit().into(),
        head: HeadConfig {
            out_dim: 12,
            hidden_dim: 16,
            bottleneck_dim: 6,
            ..Default::default()
        },
        freeze_last_layer: 0,
        average,
        ..Default::default()
    };
    dino.schedule.momentum_teacher = 0.9;
    let simdino = SimDinoConfig {
        backbone: vit().into(),
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
        average,
        drop_path: 0.1,
        patch_drop: 0.0,
        seed: 0,
        precision: Default::default(),
        adapt: Default::default(),
    };
    [
        Box::new(Dino::new(&dino, &device()).unwrap()),
        Box::new(SimDino::new(&simdino, &device()).unwrap()),
    ]
}

fn average(momentum: f64, momentum_end: f64) -> Option<AverageSchedule> {
    Some(AverageSchedule {
        momentum,
        momentum_end,
    })
}

/// The backbone that is evaluated.
fn evaluated(method: &dyn Method) -> Vec<(String, Vec<f32>)> {
    let mut values = Vec::new();
    method.backbone().visit("backbone", &mut |name, param| {
        let data = param.flat().into_data().convert::<f32>();
        values.push((name.to_owned(), data.try_to_vec().unwrap()));
    });
    values
}

/// A network's part of a state, under the names of its backbone.
fn part(state: &State, network: &str) -> Vec<(String, Vec<f32>)> {
    let prefix = format!("{network}.");
    let arrays = state.tensors.iter().filter_map(|(name, array)| {
        let name = name.strip_prefix(&prefix)?;
        Some((name.to_owned(), array.data.clone()))
    });
    let backbone = arrays.filter(|(name, _)| name.starts_with("backbone."));
    backbone.collect()
}

fn sorted(mut values: Vec<(String, Vec<f32>)>) -> Vec<(String, Vec<f32>)> {
    values.sort_by(|a, b| a.0.cmp(&b.0));
    values
}

fn train(method: &mut dyn Method, steps: std::ops::Range<u64>) {
    for step in steps {
        take(method, views(4, varied(step)), step);
    }
}

#[test]
fn an_average_on_the_teachers_schedule_is_the_teachers_backbone() {
    for mut method in methods(average(0.9, 1.0)) {
        train(&mut *method, 0..4);
        let state = method.state();
        let (teacher, average) = (part(&state, "teacher"), part(&state, "average"));
        assert!(!teacher.is_empty(), "{}", method.name());
        assert_eq!(sorted(teacher), sorted(average), "{}", method.name());
    }
}

#[test]
fn it_has_its_own_schedule_and_changes_nothing_of_training() {
    let (without, with) = (methods(None), methods(average(0.0, 0.0)));
    for (mut without, mut with) in without.into_iter().zip(with) {
        train(&mut *without, 0..4);
        train(&mut *with, 0..4);
        let name = with.name();
        let (a, b) = (without.state(), with.state());
        for network in ["student", "teacher"] {
            assert_eq!(part(&a, network), part(&b, network), "{name}: {network}");
        }
        // Without memory, it is the student; without an average, the teacher is evaluated.
        let student = sorted(part(&b, "student"));
        assert_ne!(student, sorted(part(&b, "teacher")), "{name}");
        assert_eq!(sorted(evaluated(&*with)), student, "{name}");
        assert_eq!(sorted(evaluated(&*without)), sorted(part(&a, "teacher")));
        assert!(part(&a, "average").is_empty());
        let said = |method: &dyn Method| method.metadata()["evaluated"].clone();
        assert_eq!(
            (said(&*without), said(&*with)),
            ("teacher".into(), "average".into())
        );
    }
}

#[test]
fn a_restored_method_goes_on_as_if_unbroken() {
    let (whole, first, second) = (
        methods(average(0.5, 0.9)),
        methods(average(0.5, 0.9)),
        methods(average(0.5, 0.9)),
    );
    for ((mut whole, mut first), mut second) in whole.into_iter().zip(first).zip(second) {
        train(&mut *whole, 0..4);
        train(&mut *first, 0..2);
        second.restore(&first.state()).unwrap();
        train(&mut *second, 2..4);
        assert_eq!(evaluated(&*whole), evaluated(&*second), "{}", whole.name());
    }
}

#[test]
fn a_momentum_out_of_its_range_is_refused() {
    let dino = DinoConfig {
        average: average(1.5, 1.0),
        ..Default::default()
    };
    let error = Dino::new(&dino, &device()).err().unwrap().to_string();
    assert!(error.contains("average-momentum"), "{error}");
}
