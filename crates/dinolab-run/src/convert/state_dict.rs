//! A backbone's arrays in memory, by the names of another program.

use std::collections::BTreeMap;
use std::path::Path;

use dinolab_nn::weights::{Array, Backbone, NetworkRole};

use super::{WeightFormat, convolutional, load};
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::hub;
use crate::weights::read;

/// The arrays of the backbone of `W` by the names of a format: what [`convert`](super::convert) writes to a
/// file of this format, without writing one. `role` chooses among the networks of a checkpoint, by default
/// the one that the run evaluates; `heads` is for files that do not record it.
///
/// # Errors
/// Weights that cannot be read, or a format that has no names for them.
pub fn state_dict(
    env: &Environment<'_>,
    w: &Path,
    to: WeightFormat,
    role: Option<NetworkRole>,
    heads: Option<usize>,
) -> Result<BTreeMap<String, Array>> {
    let weights = read(&hub::local(env, w)?, role)?;
    if weights.convolutional_config()?.is_some() {
        return convolutional::named(&weights, to);
    }
    let config = weights.vit_config(heads)?;
    let (vit, _) = load(&weights, &config).with_context(|| weights.path.display().to_string())?;
    let mask_token = weights.arrays.get("backbone.mask_token");
    let backbone = Backbone::new(&vit, &weights.metadata, mask_token);
    Ok(backbone.named(to.naming(&config)))
}
