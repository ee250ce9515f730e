//! A backbone that is frozen while the head warms up.

use dinolab_train::{AdaptConfig, AverageSchedule};

use super::{BACKBONES, Case, at, convnext, part, resnet, take, vit};

/// Whether a parameter is one of a head.
fn of_head(name: &str) -> bool {
    name.starts_with("head.") || name.starts_with("ibot_head.")
}

#[test]
fn a_frozen_backbone_and_its_averages_stay_to_the_bit_and_learn_thereafter() {
    for backbone in [vit(), resnet(), convnext()] {
        for average in [
            None,
            Some(AverageSchedule {
                momentum: 0.9,
                momentum_end: 0.99,
            }),
        ] {
            let case = Case {
                backbone: backbone.clone(),
                average,
                ..Case::of(AdaptConfig::default())
            };
            for mut method in case.methods() {
                let name = method.name();
                let all = method.trained_names();
                let before = method.state();
                for step in 0..3 {
                    take(&mut *method, &at(step, 0.01, 0.0));
                }
                let frozen = method.state();
                assert_eq!(
                    part(&before, &BACKBONES),
                    part(&frozen, &BACKBONES),
                    "{name}"
                );
                let heads = [
                    "student.head.",
                    "network.head.",
                    "teacher.head.",
                    "student.ibot_head.",
                ];
                for (tensor, values) in part(&frozen, &heads) {
                    let moved = values != before.tensors[&tensor].data;
                    assert!(moved, "{name}: {tensor} has not learned");
                }
                assert!(frozen.steps.keys().all(|name| of_head(name)));
                let names = method.trained_names();
                assert!(names.iter().all(|name| of_head(name)));

                for step in 3..5 {
                    take(&mut *method, &at(step, 0.01, 1.0));
                }
                assert_eq!(method.trained_names(), all, "{name}");
                let learned = method.state();
                for (tensor, values) in part(&learned, &BACKBONES) {
                    let moved = values != frozen.tensors[&tensor].data;
                    assert!(moved, "{name}: {tensor} is still frozen");
                }
            }
        }
    }
}

#[test]
fn a_run_resumed_before_and_after_the_thaw_is_the_unbroken_one() {
    let case = Case {
        average: Some(AverageSchedule {
            momentum: 0.5,
            momentum_end: 0.9,
        }),
        ..Case::of(AdaptConfig {
            layer_decay: 0.8,
            patch_embed_lr_scale: 0.2,
            ..Default::default()
        })
    };
    let hp = |step| at(step, 0.01, if step < 3 { 0.0 } else { 0.5 });
    for broken in [2, 3, 4] {
        let (whole, first, second) = (case.methods(), case.methods(), case.methods());
        for ((mut whole, mut first), mut second) in whole.into_iter().zip(first).zip(second) {
            (0..6).for_each(|step| take(&mut *whole, &hp(step)));
            (0..broken).for_each(|step| take(&mut *first, &hp(step)));
            second.restore(&first.state()).unwrap();
            (broken..6).for_each(|step| take(&mut *second, &hp(step)));
            assert_eq!(whole.state(), second.state(), "{}", whole.name());
        }
    }
}
