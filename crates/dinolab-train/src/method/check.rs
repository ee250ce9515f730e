//! What methods refuse alike.

use burn::tensor::Tensor;

use crate::{Error, Result};

/// Refuses what is not between 0 and 1.
pub(super) fn share(field: &'static str, value: f64) -> Result<()> {
    match (0.0..=1.0).contains(&value) {
        true => Ok(()),
        false => Err(bad(field, "must be between 0 and 1")),
    }
}

/// Refuses what is below 0 or no number.
pub(super) fn weight(field: &'static str, value: f64) -> Result<()> {
    match value >= 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(bad(field, "must not be below 0")),
    }
}

/// Refuses 0.
pub(super) fn count(field: &'static str, value: usize) -> Result<()> {
    match value > 0 {
        true => Ok(()),
        false => Err(bad(field, "must be at least 1")),
    }
}

/// A setting that is refused.
pub(super) fn bad(field: &'static str, reason: impl Into<String>) -> Error {
    let reason = reason.into();
    Error::BadSetting { field, reason }
}

/// Refuses a loss of a step that is not finite.
pub(super) fn finite(loss: f64, step: u64) -> Result<()> {
    match loss.is_finite() {
        true => Ok(()),
        false => Err(Error::NonFiniteLoss { step, loss }),
    }
}

/// The value of a tensor of one number.
pub(super) fn scalar(x: &Tensor<1>) -> f64 {
    f64::from(x.clone().into_scalar::<f32>())
}
