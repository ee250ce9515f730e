//! The terms beside DINO's loss, and what they refuse.

use crate::common::device;
use crate::common::golden::{array, close, json, near, number, size, tensor, to_host_f32};
use burn::tensor::Tensor;
use dinolab_nn::{HeadConfig, VitConfig, ops};
use dinolab_train::{BatchShape, Centering, Dino, DinoConfig, Method};

#[test]
fn koleo_and_its_gradient() {
    for case in json("dino/terms.json")["koleo"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let x = Tensor::<2>::from_inner(tensor(&array(&case["x"]), &device())).require_grad();
        let value = ops::koleo(x.clone(), size(&case["batch"]));
        near(
            name,
            f64::from(value.clone().into_scalar::<f32>()),
            &case["value"],
            1e-4,
        );
        let found = to_host_f32(x.grad(&value.backward()).unwrap());
        close(name, &found, &array(&case["grad"]).data, 1e-3, 1e-4);
    }
}

#[test]
fn sinkhorn_targets() {
    for case in json("dino/terms.json")["sinkhorn"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let logits = tensor(&array(&case["logits"]), &device());
        let found = to_host_f32(ops::sinkhorn(logits, number(&case["temperature"])));
        close(name, &found, &array(&case["targets"]).data, 1e-4, 0.0);
    }
}

fn config() -> DinoConfig {
    DinoConfig {
        backbone: VitConfig {
            image_size: 16,
            patch_size: 8,
            width: 16,
            depth: 1,
            heads: 2,
            ..VitConfig::default()
        }
        .into(),
        head: HeadConfig {
            out_dim: 8,
            hidden_dim: 16,
            bottleneck_dim: 8,
            ..HeadConfig::default()
        },
        ..DinoConfig::default()
    }
}

#[test]
fn terms_that_see_a_whole_batch_refuse_micro_batches() {
    let check = |config: &DinoConfig, accumulate| {
        let dino = Dino::new(config, &device()).unwrap();
        let shape = BatchShape {
            micro_batch: 4,
            accumulate,
        };
        dino.check(shape).map_err(|error| error.to_string())
    };
    let sinkhorn = DinoConfig {
        centering: Centering::Sinkhorn,
        ..config()
    };
    // All targets of a step are balanced together.
    assert!(check(&sinkhorn, 3).is_ok() && check(&config(), 3).is_ok());
    for (config, name) in [
        (
            DinoConfig {
                koleo_weight: 0.1,
                ..config()
            },
            "KoLeo",
        ),
        (
            DinoConfig {
                sigreg_weight: 0.1,
                ..config()
            },
            "SIGReg",
        ),
    ] {
        assert!(check(&config, 1).is_ok());
        let refused = check(&config, 3).unwrap_err();
        assert!(refused.contains(name), "{refused}");
    }
}

#[test]
fn impossible_weights_are_refused_by_name() {
    for (field, config) in [
        (
            "koleo-weight",
            DinoConfig {
                koleo_weight: f64::NAN,
                ..config()
            },
        ),
        (
            "sigreg-weight",
            DinoConfig {
                sigreg_weight: -0.1,
                ..config()
            },
        ),
        (
            "directions",
            DinoConfig {
                sigreg_weight: 0.1,
                sigreg_directions: 0,
                ..config()
            },
        ),
    ] {
        let Err(error) = Dino::new(&config, &device()) else {
            panic!("{field} taken");
        };
        assert!(error.to_string().contains(field), "{error}");
    }
}
