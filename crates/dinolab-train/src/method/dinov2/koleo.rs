//! KoLeo over all images of a step.

use burn::tensor::Tensor;
use dinolab_nn::ops;

use crate::method::check;
use crate::{Ranks, Result};

/// KoLeo on the student's class tokens of the global views.
pub(super) struct Koleo {
    /// The term, without its weight.
    pub(super) value: f64,
    /// Its weighted gradient by the class tokens of each of this process' shards, `[2·b, D]`.
    gradients: Vec<Tensor<2>>,
}

impl Koleo {
    /// Of the class tokens of the global views of this process' shards, `[2·b, D]` each.
    pub(super) fn of(global: Vec<Tensor<2>>, weight: f64, ranks: &Ranks) -> Result<Self> {
        let all = ranks.gather_recorded(global, 2)?;
        let batch = all.rows.dims()[0] / 2;
        let term = ops::koleo(all.rows.clone(), batch);
        let value = check::scalar(&term);
        let mut gradients = (term * weight).backward();
        Ok(Self {
            value,
            gradients: all.own_gradients(&mut gradients),
        })
    }

    /// What the gradient of KoLeo goes through to the class tokens `[V·b, D]` of all views of a shard.
    pub(super) fn through(&self, shard: usize, class: Tensor<2>) -> Tensor<1> {
        let gradient = self.gradients[shard].clone();
        let global = class.narrow(0, 0, gradient.dims()[0]);
        (global * Tensor::from_inner(gradient)).sum()
    }
}
