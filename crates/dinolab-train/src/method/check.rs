//! What methods refuse alike.

use burn::tensor::Tensor;
use dinolab_nn::ops::sums_batches;
use dinolab_nn::{BackboneConfig, HeadConfig, Parameters};

use crate::{Error, Ranks, Result};

/// Refuses what is not between 0 and 1.
pub(crate) fn share(field: &'static str, value: f64) -> Result<()> {
    match (0.0..=1.0).contains(&value) {
        true => Ok(()),
        false => Err(bad(field, "must be between 0 and 1")),
    }
}

/// Refuses what is below 0 or no number.
pub(crate) fn weight(field: &'static str, value: f64) -> Result<()> {
    match value >= 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(bad(field, "must not be below 0")),
    }
}

/// Refuses 0.
pub(crate) fn count(field: &'static str, value: usize) -> Result<()> {
    match value > 0 {
        true => Ok(()),
        false => Err(bad(field, "must be at least 1")),
    }
}

/// Refuses micro-batches of a backbone with batch normalisation, which sees each by itself.
pub(crate) fn batch_norm_alone(backbone: &BackboneConfig, accumulate: usize) -> Result<()> {
    match accumulate > 1 && backbone.has_batch_norm() {
        false => Ok(()),
        true => {
            let reason = format!(
                "{accumulate} micro-batches do not equal a large batch, since the backbone's batch \
                 normalisation sees each by itself; a residual network takes 1"
            );
            Err(bad("accumulate", reason))
        }
    }
}

/// Refuses parts of a batch of which batch normalisation of the backbone would not see the whole.
pub(crate) fn batch_norm_of_whole(
    backbone: &BackboneConfig,
    network: &dyn Parameters,
    ranks: &Ranks,
) -> Result<()> {
    match backbone.has_batch_norm() {
        true => sums_of_parts(network, ranks, "arch", "a residual network"),
        false => Ok(()),
    }
}

/// [`batch_norm_of_whole`] of DINO's head.
pub(crate) fn head_norm_of_whole(
    head: &HeadConfig,
    network: &dyn Parameters,
    ranks: &Ranks,
) -> Result<()> {
    let with_norm = "with batch normalisation in the head";
    match head.use_bn {
        true => sums_of_parts(network, ranks, "use-bn-in-head", with_norm),
        false => Ok(()),
    }
}

/// Refuses parts of a batch that a process computes one after the other, and those of processes whose operations
/// are not the fused ones. What is trained is named by `field` and described by `with`.
fn sums_of_parts(
    network: &dyn Parameters,
    ranks: &Ranks,
    field: &'static str,
    with: &str,
) -> Result<()> {
    let reason = match ranks.own_shards() {
        _ if ranks.is_whole() => return Ok(()),
        1 if sums_batches(network) => return Ok(()),
        1 => format!(
            "has batch normalisation, whose statistics several processes sum on the CPU and in single precision \
             only; train {with} in one process"
        ),
        own => format!(
            "has batch normalisation, which would see each of the {own} parts of a batch of this process by \
             itself; start {} processes, or train {with} without `reproducible-ranks`",
            ranks.shards()
        ),
    };
    Err(bad(field, reason))
}

/// A setting that is refused.
pub(crate) fn bad(field: &'static str, reason: impl Into<String>) -> Error {
    let reason = reason.into();
    Error::BadSetting { field, reason }
}

/// Refuses a loss of a step that is not finite.
pub(crate) fn finite(loss: f64, step: u64) -> Result<()> {
    match loss.is_finite() {
        true => Ok(()),
        false => Err(Error::NonFiniteLoss { step, loss }),
    }
}

/// The value of a tensor of one number.
pub(crate) fn scalar(x: &Tensor<1>) -> f64 {
    f64::from(x.clone().into_scalar::<f32>())
}
