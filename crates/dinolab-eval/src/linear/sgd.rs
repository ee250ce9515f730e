//! Stochastic gradient descent of a linear layer.

use std::f64::consts::PI;

use super::LinearClassifier;
use crate::Result;
use crate::cross_entropy::{Targets, cross_entropy};

/// SGD with momentum as in PyTorch: `v ← momentum · v + g`, `w ← w − lr · v`, starting with `v = g`;
/// no weight decay.
#[derive(Clone, Debug)]
pub struct Sgd {
    momentum: f32,
    /// Velocities of weights and bias; empty before the first step.
    velocity: [Vec<f32>; 2],
}

impl Sgd {
    /// Starts without velocity.
    pub fn new(momentum: f64) -> Self {
        Self {
            momentum: momentum as f32,
            velocity: Default::default(),
        }
    }

    /// Takes one step on the mean cross entropy of the rows `[B, D]` and returns that loss.
    ///
    /// # Errors
    /// As [`cross_entropy`]; a length that is not a multiple of the width.
    pub fn step(
        &mut self,
        layer: &mut LinearClassifier,
        rows: &[f32],
        targets: Targets,
        lr: f64,
    ) -> Result<f64> {
        let classes = layer.classes();
        let logits = layer.logits(rows)?;
        let found = cross_entropy(&logits, classes, targets)?;
        let gradients = [
            dinolab_kernels::weight_gradient(&found.gradient, rows, classes, layer.dim),
            dinolab_kernels::bias_gradient(&found.gradient, classes),
        ];
        let values = [&mut layer.weight, &mut layer.bias];
        for ((velocity, values), gradient) in self.velocity.iter_mut().zip(values).zip(gradients) {
            if velocity.is_empty() {
                *velocity = gradient;
            } else {
                for (v, g) in velocity.iter_mut().zip(gradient) {
                    *v = self.momentum * *v + g;
                }
            }
            for (value, v) in values.iter_mut().zip(velocity.iter()) {
                *value -= lr as f32 * v;
            }
        }
        Ok(found.loss)
    }
}

/// Returns the learning rate of epoch `epoch` (from 0) of `epochs`, on a cosine schedule from `lr`
/// to 0.
pub fn cosine(lr: f64, epoch: usize, epochs: usize) -> f64 {
    0.5 * lr * (1.0 + (PI * epoch as f64 / epochs.max(1) as f64).cos())
}
