//! LeJEPA against numbers derived independently in PyTorch (`fixtures/lejepa/README.md`), and what it
//! does with few and equal images.

use crate::common::device;
use crate::common::golden::*;
use crate::common::joint_embedding::{
    continues_exactly, objective_and_gradient, refuses_micro_batches, six_steps, small,
    stays_finite,
};
use burn::tensor::Tensor;
use dinolab_nn::init::Init;
use dinolab_nn::weights::{LoadOptions, Weights, load};
use dinolab_nn::{Parameters, Projection, ProjectionConfig, ProjectionHead};
use dinolab_train::method::directions;
use dinolab_train::{LeJepa, LeJepaConfig, LeJepaObjective};

fn own() -> LeJepaConfig {
    small(LeJepaObjective {
        sigreg_weight: 0.05,
    })
}

#[test]
fn the_objective_and_its_gradient() {
    objective_and_gradient("lejepa", |case| LeJepaObjective {
        sigreg_weight: number(&case["sigreg_weight"]),
    });
}

#[test]
fn the_projection_and_its_gradients() {
    let golden = json("lejepa/head.json");
    let config = ProjectionConfig {
        hidden_dim: size(&golden["hidden_dim"]),
        out_dim: size(&golden["out_dim"]),
        layers: 3,
    };
    let recording = device().autodiff();
    let mut init = Init::new(0);
    let mut head = Projection::new(&config, size(&golden["width"]), &mut init, &recording).unwrap();
    let parameters = golden["parameters"].as_object().unwrap();
    let weights = Weights {
        arrays: parameters
            .iter()
            .map(|(name, value)| (name.clone(), array(value)))
            .collect(),
        ..Weights::default()
    };
    let report = load(&mut head, "head", &weights, LoadOptions::default()).unwrap();
    assert!(
        report.missing.is_empty() && report.left_over.is_empty(),
        "{report}"
    );
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let input: Tensor<2> = Tensor::from_inner(tensor(&array(&case["input"]), &device()));
        let input = input.require_grad();
        let weights = Tensor::from_inner(tensor::<2>(&array(&case["loss_weights"]), &device()));
        let output = head.forward(input.clone());
        if name == "equal_rows" {
            // Batch normalisation of rows without variance magnifies rounding: finite is all.
            assert!(to_host_f32(output).iter().all(|v| v.is_finite()));
            continue;
        }
        close(
            name,
            &to_host_f32(output.clone()),
            &array(&case["output"]).data,
            1e-4,
            1e-3,
        );
        let mut gradients = (output * weights).sum().backward();
        let found = to_host_f32(input.grad(&gradients).unwrap());
        close(name, &found, &array(&case["input_grad"]).data, 1e-3, 1e-2);
        head.visit("head", &mut |parameter, param| {
            let found = to_host_f32(param.take_grad(&mut gradients).unwrap());
            let expected = array(&case["grads"][parameter]);
            close(
                &format!("{name} {parameter}"),
                &found,
                &expected.data,
                1e-3,
                1e-2,
            );
        });
    }
}

#[test]
fn six_steps_follow_pytorch() {
    six_steps("lejepa", |config| LeJepaObjective {
        sigreg_weight: number(&config["sigreg_weight"]),
    });
}

#[test]
fn one_image_and_equal_images_stay_finite() {
    stays_finite(&own());
}

#[test]
fn a_restored_run_continues_exactly() {
    continues_exactly(&own());
}

#[test]
fn micro_batches_are_refused() {
    refuses_micro_batches(&own());
}

#[test]
fn impossible_settings_are_refused() {
    let refused = |config: LeJepaConfig| LeJepa::new(&config, &device()).err().unwrap().to_string();
    for (config, field) in [
        (
            small(LeJepaObjective { sigreg_weight: 1.5 }),
            "sigreg-weight",
        ),
        (
            LeJepaConfig {
                directions: 0,
                ..own()
            },
            "directions",
        ),
        (
            LeJepaConfig {
                average_momentum: f64::NAN,
                ..own()
            },
            "average-momentum",
        ),
        (
            LeJepaConfig {
                average_momentum_end: -0.1,
                ..own()
            },
            "average-momentum-end",
        ),
        (
            LeJepaConfig {
                head: ProjectionConfig {
                    out_dim: 0,
                    ..own().head
                },
                ..own()
            },
            "proj-dim",
        ),
    ] {
        let error = refused(config);
        assert!(error.starts_with(field), "{error}");
    }
}

#[test]
fn directions_are_unit_vectors_of_their_own() {
    let rows = to_host_f32(directions(1, 2, [50, 7], &device()));
    for row in rows.chunks(7) {
        let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5);
    }
    // Of mean 0: four deviations of the mean of 350 numbers of variance 1/7.
    let mean = rows.iter().sum::<f32>() / rows.len() as f32;
    assert!(mean.abs() < 0.081, "{mean}");
    assert_eq!(rows, to_host_f32(directions(1, 2, [50, 7], &device())));
    assert_ne!(rows, to_host_f32(directions(1, 3, [50, 7], &device())));
    assert_ne!(rows, to_host_f32(directions(2, 2, [50, 7], &device())));
}
