//! Heads of weights that a run starts from.

use std::borrow::Cow;

use dinolab_nn::weights::Weights;
use dinolab_nn::{Head, Parameters};

/// Weights without those heads that have other sizes than the network's, which start from random weights
/// then.
pub(crate) fn with_heads_of<'w>(weights: &'w Weights, heads: &[(&str, &Head)]) -> Cow<'w, Weights> {
    let mut kept = Cow::Borrowed(weights);
    for (name, head) in heads {
        let mut fits = true;
        head.visit(name, &mut |name, param| {
            let shape = weights.arrays.get(name).map(|array| &array.shape[..]);
            fits &= shape.is_none_or(|shape| shape == param.shape());
        });
        let prefix = format!("{name}.");
        if !fits {
            let arrays = &mut kept.to_mut().arrays;
            arrays.retain(|name, _| !name.starts_with(&prefix));
        }
    }
    kept
}
