//! Low rank, rates by layer and preserved features together: resuming, starting from weights, refusals.

use std::collections::BTreeMap;

use dinolab_nn::weights::{LoadOptions, NetworkRole, Weights, arrays, read};
use dinolab_train::checkpoint::{Checkpoint, TrainState, save};
use dinolab_train::{AdaptConfig, JointEmbedding, LeJepaObjective, State};

use super::{BACKBONES, Case, at, convnext, low_rank, part, preserving, resnet, take, vit};
use crate::common::device;

#[test]
fn adapted_runs_resume_as_if_unbroken_and_write_plain_networks() {
    let adapt = AdaptConfig {
        layer_decay: 0.8,
        preserve: 0.5,
        ..low_rank(2, 4.0)
    };
    let hp = |step| at(step, 0.01, if step < 2 { 0.0 } else { 0.5 });
    for broken in [1, 2, 3] {
        let all = || Case::of(adapt.clone()).methods().into_iter();
        for ((mut whole, mut first), mut second) in all().zip(all()).zip(all()) {
            let name = whole.name();
            let started = whole.state();
            (0..2).for_each(|step| take(&mut *whole, &hp(step)));
            let prefixes = [&BACKBONES[..], &["student.lora.", "network.lora."]].concat();
            assert_eq!(
                part(&started, &prefixes),
                part(&whole.state(), &prefixes),
                "{name}"
            );
            (2..5).for_each(|step| take(&mut *whole, &hp(step)));
            (0..broken).for_each(|step| take(&mut *first, &hp(step)));

            let folder = tempfile::tempdir().unwrap();
            let position = TrainState {
                config: "a run".into(),
                ..TrainState::default()
            };
            let path = save(folder.path(), &*first, &position, &BTreeMap::new()).unwrap();
            Checkpoint::read(&path)
                .unwrap()
                .restore(&mut *second)
                .unwrap();
            (broken..5).for_each(|step| take(&mut *second, &hp(step)));
            assert_eq!(
                whole.state(),
                State {
                    path: Default::default(),
                    ..second.state()
                },
                "{name}"
            );

            let roles = match name.contains("dino") {
                true => [NetworkRole::Student, NetworkRole::Teacher],
                false => [NetworkRole::Network, NetworkRole::Average],
            };
            for role in roles {
                let weights = read(&path, Some(role)).unwrap();
                let prefix = format!("{}.", role.key());
                let state = first.state();
                for (tensor, array) in &weights.arrays {
                    let parts = ["backbone.", "head.", "ibot_head."];
                    let plain = parts.iter().any(|part| tensor.starts_with(part));
                    assert!(plain, "{name}: {tensor}");
                    let own = state.tensors.get(&format!("{prefix}{tensor}"));
                    assert_eq!(Some(array), own, "{name}: {tensor}");
                }
                assert!(
                    weights
                        .arrays
                        .contains_key("backbone.blocks.1.mlp.fc2.weight")
                );
            }
            let evaluated = read(&path, None).unwrap();
            assert!(evaluated.arrays.contains_key("backbone.norm.weight"));
        }
    }
}

#[test]
fn an_adapted_run_starts_from_given_weights() {
    let adapt = AdaptConfig {
        preserve: 1.0,
        ..low_rank(2, 2.0)
    };
    let given = Case {
        backbone: vit(),
        ..Case::of(AdaptConfig::default())
    };
    let mut given = given.methods().remove(3);
    (0..3).for_each(|step| take(&mut *given, &at(step, 0.02, 1.0)));
    let arrays = arrays(given.learned(), "");
    let weights = Weights {
        arrays: arrays
            .into_iter()
            .filter(|(name, _)| name.starts_with("backbone."))
            .collect(),
        ..Weights::default()
    };
    let options = LoadOptions {
        allow_missing: true,
        ..LoadOptions::default()
    };
    for mut method in Case::of(adapt).methods() {
        let name = method.name();
        method.start_from(&weights, options).unwrap();
        let state = method.state();
        let mut found = 0;
        for (tensor, array) in &state.tensors {
            let local = tensor.split_once('.').map_or("", |(_, local)| local);
            if let Some(expected) = weights.arrays.get(local) {
                assert_eq!(array, expected, "{name}: {tensor}");
                found += 1;
            }
            let base = local
                .strip_prefix("lora.")
                .and_then(|rest| rest.strip_suffix(".base"));
            if let Some(base) = base {
                assert_eq!(
                    array,
                    &weights.arrays[&format!("{base}.weight")],
                    "{name}: {tensor}"
                );
            }
        }
        // The network that learns, its average, and the original.
        assert_eq!(found, 3 * weights.arrays.len(), "{name}");
        take(&mut *method, &at(0, 0.01, 1.0));
        let after = method.state();
        let original = ["original."];
        assert_eq!(part(&state, &original), part(&after, &original));
    }
}

#[test]
fn impossible_changes_are_refused_by_name() {
    let refused = |case: &Case| {
        let lejepa = case.joint(LeJepaObjective {
            sigreg_weight: 0.05,
        });
        JointEmbedding::new(&lejepa, &device())
            .err()
            .unwrap()
            .to_string()
    };
    for (adapt, setting) in [
        (low_rank(9, 9.0), "lora-rank"),
        (low_rank(0, 1.0), "lora-rank"),
        (low_rank(2, 0.0), "lora-alpha"),
        (low_rank(2, f64::NAN), "lora-alpha"),
        (preserving(-1.0), "preserve"),
        (preserving(f64::INFINITY), "preserve"),
    ] {
        let error = refused(&Case::of(adapt));
        assert!(error.contains(setting), "{error}");
    }
    for backbone in [resnet(), convnext()] {
        let convolutional = Case {
            backbone,
            ..Case::of(low_rank(1, 1.0))
        };
        let error = refused(&convolutional);
        assert!(error.contains("transformer"), "{error}");
    }
}
