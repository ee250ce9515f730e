//! Rates by layer.

use std::collections::BTreeSet;

use dinolab_nn::optim::LayerRates;
use dinolab_nn::weights::arrays;
use dinolab_train::{AdaptConfig, JointEmbedding, LeJepaObjective, OptimiserKind};

use super::{Case, at, convnext, resnet, take, vit};
use crate::common::device;

#[test]
fn the_update_of_each_tensor_is_that_of_its_own_rate() {
    let adapt = AdaptConfig {
        layer_decay: 0.7,
        patch_embed_lr_scale: 0.2,
        ..Default::default()
    };
    for optimizer in [
        OptimiserKind::AdamW,
        OptimiserKind::Sgd,
        OptimiserKind::Lars,
        OptimiserKind::Muon,
    ] {
        for backbone in [vit(), resnet(), convnext()] {
            let rates = LayerRates::new(&backbone, 0.7, 0.2);
            let adapted = Case {
                backbone,
                optimizer,
                ..Case::of(adapt.clone())
            };
            let plain = Case {
                adapt: AdaptConfig::default(),
                ..adapted.clone()
            };
            for (place, mut method) in adapted.methods().into_iter().enumerate() {
                take(&mut *method, &at(0, 0.01, 1.0));
                let found = arrays(method.learned(), "");
                let mut factors = BTreeSet::new();
                for name in found.keys() {
                    factors.insert(rates.factor(name).to_bits());
                }
                assert!(factors.len() >= 5, "{factors:?}");
                for bits in factors {
                    let factor = f64::from_bits(bits);
                    let mut other = plain.methods().remove(place);
                    take(&mut *other, &at(0, 0.01 * factor, 1.0));
                    let expected = arrays(other.learned(), "");
                    for (name, array) in &found {
                        if rates.factor(name) == factor {
                            let name = format!("{name} of {} by {optimizer:?}", other.name());
                            assert_eq!(array, &expected[name.split(' ').next().unwrap()], "{name}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn impossible_numbers_are_refused_by_name() {
    for (adapt, setting) in [
        (
            AdaptConfig {
                layer_decay: 0.0,
                ..Default::default()
            },
            "layer-decay",
        ),
        (
            AdaptConfig {
                layer_decay: 1.1,
                ..Default::default()
            },
            "layer-decay",
        ),
        (
            AdaptConfig {
                layer_decay: f64::NAN,
                ..Default::default()
            },
            "layer-decay",
        ),
        (
            AdaptConfig {
                patch_embed_lr_scale: -0.1,
                ..Default::default()
            },
            "patch-embed-lr-scale",
        ),
    ] {
        let lejepa = Case::of(adapt).joint(LeJepaObjective {
            sigreg_weight: 0.05,
        });
        let error = JointEmbedding::new(&lejepa, &device()).err().unwrap();
        assert!(error.to_string().contains(setting), "{error}");
    }
}
