//! VISReg against numbers derived independently in PyTorch (`fixtures/visreg/README.md`), and what it
//! does with few and equal images.

use crate::common::device;
use crate::common::golden::number;
use crate::common::joint_embedding::{
    continues_exactly, objective_and_gradient, refuses_micro_batches, six_steps, small,
    stays_finite,
};
use dinolab_train::{VisReg, VisRegObjective};
use serde_json::Value;

fn recorded(settings: &Value) -> VisRegObjective {
    VisRegObjective {
        visreg_weight: number(&settings["visreg_weight"]),
    }
}

fn own(visreg_weight: f64) -> VisRegObjective {
    VisRegObjective { visreg_weight }
}

#[test]
fn the_objective_and_its_gradient() {
    objective_and_gradient("visreg", recorded);
}

#[test]
fn six_steps_follow_pytorch() {
    six_steps("visreg", recorded);
}

#[test]
fn one_image_and_equal_images_stay_finite() {
    stays_finite(&small(own(0.6)));
}

#[test]
fn a_restored_run_continues_exactly() {
    continues_exactly(&small(own(0.6)));
}

#[test]
fn micro_batches_are_refused() {
    refuses_micro_batches(&small(own(0.6)));
}

#[test]
fn an_impossible_weight_is_refused() {
    for weight in [-0.1, 1.5, f64::NAN] {
        let error = VisReg::new(&small(own(weight)), &device()).err().unwrap();
        assert!(error.to_string().starts_with("visreg-weight"), "{error}");
    }
}
