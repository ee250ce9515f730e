//! Schedules against values worked out by hand.

use dinolab_train::trainer::{Cadence, steps_per_epoch};
use dinolab_train::{DinoSchedule, Schedule, ScheduleConfig};
use proptest::prelude::*;

fn config() -> ScheduleConfig {
    ScheduleConfig {
        epochs: 4.0,
        steps_per_epoch: 5,
        lr: 0.5,
        min_lr: 0.1,
        warmup_epochs: 1.0,
        weight_decay: 0.04,
        weight_decay_end: 0.4,
        freeze_backbone_epochs: 0.0,
    }
}

fn dino() -> DinoSchedule {
    DinoSchedule {
        momentum_teacher: 0.996,
        warmup_teacher_temp: 0.04,
        teacher_temp: 0.07,
        warmup_teacher_temp_epochs: 3,
        ..Default::default()
    }
}

fn near(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() < 1e-12,
        "{what}: {found} {expected}"
    );
}

#[test]
fn learning_rate_warms_up_and_falls() {
    let schedule = Schedule::new(config());
    assert_eq!(schedule.steps(), 20);
    // Both ends of the warm-up are included; the cosine then runs over the other 15 steps and
    // would reach its end at the 16th.
    let root2 = std::f64::consts::SQRT_2;
    for (step, lr) in [
        (0, 0.0),
        (1, 0.125),
        (2, 0.25),
        (3, 0.375),
        (4, 0.5),
        (5, 0.5),
        (10, 0.4),
        (15, 0.2),
        (19, 0.1 + 0.2 * (1.0 - (std::f64::consts::PI / 15.0).cos())),
    ] {
        near(schedule.at(step).lr, lr, &format!("rate of step {step}"));
    }
    // Decay and momentum run over all 20 steps, without warm-up.
    for (step, part) in [
        (0, 0.0),
        (5, 0.5 - root2 / 4.0),
        (10, 0.5),
        (15, 0.5 + root2 / 4.0),
    ] {
        let now = schedule.at(step);
        near(now.weight_decay, 0.04 + 0.36 * part, "weight decay");
        near(dino().at(&now).0, 0.996 + 0.004 * part, "momentum");
    }
    assert!(dino().at(&schedule.at(19)).0 < 1.0);
}

#[test]
fn teacher_temperature_goes_by_epochs() {
    let schedule = Schedule::new(config());
    for (epoch, temperature) in [(0, 0.04), (1, 0.055), (2, 0.07), (3, 0.07)] {
        for step in [5 * epoch, 5 * epoch + 4] {
            let now = schedule.at(step);
            assert_eq!(now.epoch, epoch);
            near(dino().at(&now).1, temperature, "temperature");
        }
    }
    let warming = |epochs| DinoSchedule {
        warmup_teacher_temp_epochs: epochs,
        ..dino()
    };
    let at = |epochs, step| warming(epochs).at(&schedule.at(step)).1;
    near(at(0, 0), 0.07, "without warm-up");
    near(at(1, 0), 0.04, "one epoch of warm-up");
    near(at(1, 5), 0.07, "and after it");
}

#[test]
fn what_is_due_when() {
    let schedule = Schedule::new(ScheduleConfig {
        epochs: 2.4,
        ..config()
    });
    let cadence = Cadence {
        log_every: 4,
        evaluate_every: 2,
        checkpoint_every: 2,
        checkpoint_every_steps: 3,
    };
    // 12 steps, 5 in an epoch; the last epoch is short.
    let when = |what: &dyn Fn(u64) -> bool| (1..=12).filter(|&done| what(done)).collect::<Vec<_>>();
    let due = |done, last| cadence.due(&schedule, done, last);
    assert_eq!(when(&|done| due(done, 12).log), [4, 8, 12]);
    assert_eq!(when(&|done| due(done, 12).epoch_end), [5, 10, 12]);
    assert_eq!(when(&|done| due(done, 12).evaluate), [10, 12]);
    assert_eq!(when(&|done| due(done, 12).save), [3, 6, 9, 10, 12]);
    assert!(due(7, 7).save, "a planned stop within an epoch");
    let never = Cadence {
        log_every: 0,
        evaluate_every: 0,
        checkpoint_every: 0,
        checkpoint_every_steps: 0,
    };
    assert_eq!(
        when(&|done| never.due(&schedule, done, 12).save),
        [5, 10, 12]
    );
    assert!(when(&|done| never.due(&schedule, done, 12).evaluate).is_empty());
}

#[test]
fn fractions_of_an_epoch() {
    let of = |epochs, warmup_epochs| {
        Schedule::new(ScheduleConfig {
            epochs,
            warmup_epochs,
            ..config()
        })
    };
    assert_eq!(of(0.5, 0.0).steps(), 3, "two and a half steps");
    assert_eq!(of(0.2, 0.0).steps(), 1);
    assert_eq!(of(0.001, 0.0).steps(), 1, "never none");
    assert_eq!(of(2.4, 0.0).steps(), 12);
    let short = of(2.4, 0.4);
    near(short.at(0).lr, 0.0, "warm-up of two steps");
    near(short.at(1).lr, 0.5, "warm-up of two steps");
    near(short.at(2).lr, 0.5, "start of the cosine");
    near(short.at(7).lr, 0.3, "half of the ten steps left");
    near(of(1.0, 0.0).at(0).lr, 0.5, "no warm-up");
    // A warm-up of one step has only its first value; one as long as the run never falls.
    near(of(1.0, 0.2).at(0).lr, 0.0, "one step");
    near(of(1.0, 9.0).at(4).lr, 0.5, "all of the run");
}

#[test]
fn an_epoch_needs_a_step() {
    assert_eq!(steps_per_epoch(32, 8, 1).unwrap(), 4);
    assert_eq!(steps_per_epoch(33, 8, 2).unwrap(), 2);
    let error = steps_per_epoch(7, 8, 1).unwrap_err().to_string();
    assert!(
        error.contains("batch-size") && error.contains("only 7"),
        "{error}"
    );
    let error = steps_per_epoch(15, 8, 2).unwrap_err().to_string();
    assert!(
        error.contains("accumulate") && error.contains("16"),
        "{error}"
    );
}

#[test]
fn a_frozen_backbone_has_a_warm_up_of_its_own() {
    let rates = |freeze: f64, warmup: f64| -> Vec<f64> {
        let schedule = Schedule::new(ScheduleConfig {
            freeze_backbone_epochs: freeze,
            warmup_epochs: warmup,
            ..config()
        });
        (0..10)
            .map(|step| schedule.at(step).backbone_rate)
            .collect()
    };
    assert_eq!(rates(0.0, 1.0), [1.0; 10]);
    let frozen = [0.0, 0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0];
    for (found, expected) in rates(0.6, 1.0).into_iter().zip(frozen) {
        near(found, expected, "rate of the backbone");
    }
    let at_once = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    assert_eq!(rates(1.0, 0.0), at_once);
    let schedule = Schedule::new(ScheduleConfig {
        freeze_backbone_epochs: 0.6,
        ..config()
    });
    assert!(schedule.at(2).backbone_frozen() && !schedule.at(3).backbone_frozen());
    assert_eq!(schedule.thaws_at(), 3);
}

proptest! {
    #[test]
    fn every_value_stays_between_its_ends(epochs in 0.1f64..30.0, warmup in 0.0f64..30.0, per_epoch in 1u64..40) {
        let config = ScheduleConfig {
            epochs, warmup_epochs: warmup, steps_per_epoch: per_epoch, ..config()
        };
        let schedule = Schedule::new(config);
        for step in 0..schedule.steps() {
            let now = schedule.at(step);
            prop_assert!((0.0..=0.5).contains(&now.lr));
            prop_assert!((0.04 - 1e-12..=0.4).contains(&now.weight_decay));
            let (momentum, teacher_temp) = dino().at(&now);
            prop_assert!((0.996 - 1e-12..=1.0).contains(&momentum));
            prop_assert!((0.04..=0.07 + 1e-12).contains(&teacher_temp));
        }
    }
}
