//! The plain step of DINO, without a mistake, is that of the method.

use dinolab_nn::device::{by_name, to_host_f32};
use dinolab_nn::{HeadConfig, Parameters, Tensor, VitConfig};
use dinolab_run::mistakes::Mistake;
use dinolab_run::mistakes::step::{PlainDino, STUDENT_TEMP};
use dinolab_train::{Dino, DinoConfig, DinoSchedule, Method, Schedule, ScheduleConfig, Views};

/// Losses of six steps, and the teacher after them: of the method, and of the plain step.
fn both(mistake: Option<Mistake>) -> [(Vec<f64>, Vec<f32>); 2] {
    let device = by_name("cpu").unwrap();
    let vit = VitConfig {
        image_size: 16,
        patch_size: 8,
        width: 32,
        depth: 2,
        heads: 2,
        ..VitConfig::default()
    };
    let head = HeadConfig {
        out_dim: 24,
        hidden_dim: 32,
        bottleneck_dim: 16,
        ..HeadConfig::default()
    };
    let of_teacher = DinoSchedule {
        momentum_teacher: 0.9,
        ..DinoSchedule::default()
    };
    let config = DinoConfig {
        backbone: (&vit).into(),
        head: head.clone(),
        freeze_last_layer: 0,
        student_temp: STUDENT_TEMP,
        schedule: of_teacher.clone(),
        drop_path: 0.0,
        seed: 3,
        ..DinoConfig::default()
    };
    let schedule = Schedule::new(ScheduleConfig {
        epochs: 1.0,
        steps_per_epoch: 6,
        lr: 1e-3,
        warmup_epochs: 0.0,
        ..ScheduleConfig::default()
    });
    let views = |step: u64| {
        let image = |rows: usize, side: usize| {
            let values = (0..rows * 3 * side * side)
                .map(|i| ((i as f64 * 0.37 + step as f64).sin() * 1.5) as f32)
                .collect::<Vec<_>>();
            Tensor::<1>::from_floats(&values[..], &device).reshape([rows, 3, side, side])
        };
        Views {
            batch: 5,
            global: image(2 * 5, 16),
            local: Some(image(2 * 5, 8)),
        }
    };
    let mut method = Dino::new(&config, &device).unwrap();
    let mut plain = PlainDino::new(&vit, &head, &of_teacher, mistake, 3, &device).unwrap();
    let mut losses = [Vec::new(), Vec::new()];
    for step in 0..6 {
        let hp = schedule.at(step);
        losses[0].push(method.step(&[views(step)], &hp).unwrap().loss);
        let taken = plain.step(&views(step), &hp).unwrap();
        let measured = taken.invariants.cross_entropy.unwrap();
        if mistake.is_none() {
            assert!(
                (taken.loss - measured).abs() < 1e-5,
                "{} {measured}",
                taken.loss
            );
        }
        losses[1].push(taken.loss);
    }
    let weights = |network: &dyn Parameters| {
        let mut all = Vec::new();
        network.visit("", &mut |_, param| all.extend(to_host_f32(param.flat())));
        all
    };
    let [of_method, of_plain] = losses;
    [
        (of_method, weights(&method.teacher)),
        (of_plain, weights(plain.teacher())),
    ]
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn the_plain_step_is_that_of_the_method() {
    let [(of_method, teacher), (losses, plain_teacher)] = both(None);
    for (a, b) in of_method.iter().zip(&losses) {
        assert!((a - b).abs() < 1e-4, "{of_method:?} {losses:?}");
    }
    let apart = furthest(&teacher, &plain_teacher);
    assert!(apart < 1e-4, "{apart}");
}

#[test]
fn a_mistake_makes_it_another() {
    for mistake in [
        Mistake::SameView,
        Mistake::SoftmaxTwice,
        Mistake::NoCentring,
    ] {
        let [(of_method, _), (losses, _)] = both(Some(mistake));
        let apart = of_method.iter().zip(&losses).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f64::max) > 1e-3, "{mistake}");
    }
}
