//! Batch normalisation (Ioffe & Szegedy, arXiv 1502.03167) with running statistics.

use std::sync::{PoisonError, RwLock};

use burn::tensor::{Device, Tensor};

use crate::ops::conv::{Moments, vector};
use crate::param::{Param, Parameters, join, parameters};

/// PyTorch's default epsilon.
pub(crate) const EPS: f64 = 1e-5;
/// PyTorch's default share of a forward pass in the running statistics.
const MOMENTUM: f64 = 0.1;

/// What batch normalisation normalises by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// The running statistics: when a network is used.
    Running,
    /// The statistics of the batch, which are added to the running ones: while a network learns.
    OfBatch,
}

/// Batch normalisation of channels.
#[derive(Clone, Debug)]
pub(crate) struct BatchNorm {
    /// Scale, `[C]`.
    pub weight: Param,
    /// Shift, `[C]`.
    pub bias: Param,
    running: Running,
}

/// Running mean and variance, each `[C]`. A forward pass changes them, hence the lock.
#[derive(Debug)]
struct Running(RwLock<Moving>);

#[derive(Clone, Debug)]
struct Moving {
    running_mean: Param,
    running_var: Param,
}
parameters!(Moving {
    running_mean,
    running_var
});

impl Clone for Running {
    fn clone(&self) -> Self {
        Self(RwLock::new(self.get(Moving::clone)))
    }
}

impl Running {
    fn get<R>(&self, f: impl FnOnce(&Moving) -> R) -> R {
        f(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Parameters for BatchNorm {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        self.weight.visit(&join(prefix, "weight"), f);
        self.bias.visit(&join(prefix, "bias"), f);
        self.running.get(|moving| moving.visit(prefix, f));
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        self.weight.visit_mut(&join(prefix, "weight"), f);
        self.bias.visit_mut(&join(prefix, "bias"), f);
        let moving = self.running.0.get_mut();
        moving
            .unwrap_or_else(PoisonError::into_inner)
            .visit_mut(prefix, f);
    }
}

impl BatchNorm {
    pub fn new(channels: usize, device: &Device) -> Self {
        let vector = |value: f32, trainable| {
            Param::new(vec![value; channels], &[channels], trainable, device)
        };
        Self {
            weight: vector(1.0, true),
            bias: vector(0.0, true),
            running: Running(RwLock::new(Moving {
                running_mean: vector(0.0, false),
                running_var: vector(1.0, false),
            })),
        }
    }

    /// Factor and shift of each channel by the running statistics.
    pub fn affine(&self) -> [Tensor<1>; 2] {
        let (mean, variance) = self.running.get(|moving| {
            let Moving {
                running_mean,
                running_var,
            } = moving;
            (running_mean.get::<1>(), running_var.get::<1>())
        });
        let scale = self.weight.get::<1>() / (variance + EPS).sqrt();
        let shift = self.bias.get::<1>() - mean * scale.clone();
        [scale, shift]
    }

    /// Moves the running statistics towards those of a batch; the variance is unbiased, as PyTorch's.
    pub fn follow(&self, batch: &Moments) {
        let count = batch.count as f64;
        let unbiased = count / (count - 1.0).max(1.0);
        let mut moving = self
            .running
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let towards = |param: &mut Param, values: &[f32], factor: f64| {
            let old = param.to_vec();
            let pairs = old.iter().zip(values);
            let new = pairs.map(|(&old, &value)| {
                ((1.0 - MOMENTUM) * f64::from(old) + MOMENTUM * factor * f64::from(value)) as f32
            });
            let new = vector(new.collect(), &param.flat());
            param.set_flat(new);
        };
        towards(&mut moving.running_mean, &batch.mean, 1.0);
        towards(&mut moving.running_var, &batch.variance, unbiased);
    }
}
