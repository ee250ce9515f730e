//! Clipping, optimisers and the moving average, on flat parameters.
//!
//! All tensors are `[n]` and outside of any gradient graph. The arithmetic and its order
//! follow PyTorch's, so that trajectories stay comparable.

use burn::tensor::Tensor;
use dinolab_kernels::AdamWStep;

use super::fused;

/// The Euclidean norm, `[1]`. Its order of additions does not depend on the number of threads.
pub fn norm(x: &Tensor<1>) -> Tensor<1> {
    if fused::applies(x) && !x.is_autodiff() {
        return fused::update::scalar(fused::update::norm(x));
    }
    #[cfg(all(feature = "gpu", not(feature = "fusion")))]
    if super::gpu::applies(x) && !x.is_autodiff() {
        return super::gpu::update::norm(x);
    }
    ordered_sum(x.clone() * x.clone()).sqrt()
}

/// A sum in rows of fixed length: a plain sum of a long tensor may be split by threads.
fn ordered_sum(x: Tensor<1>) -> Tensor<1> {
    const ROW: usize = 1024;
    let n = x.dims()[0];
    let rows = n / ROW;
    if rows == 0 {
        return x.sum();
    }
    let whole = x
        .clone()
        .narrow(0, 0, rows * ROW)
        .reshape([rows, ROW])
        .sum_dim(1)
        .reshape([rows]);
    let sum = ordered_sum(whole);
    if rows * ROW == n {
        sum
    } else {
        sum + x.narrow(0, rows * ROW, n - rows * ROW).sum()
    }
}

/// What a gradient is multiplied by so that its norm does not exceed `clip`:
/// `min(1, clip / (norm + 1e-6))`, `[1]`; `None` for no limit (`clip` 0).
fn clip_factor(norm: &Tensor<1>, clip: f64) -> Option<Tensor<1>> {
    (clip > 0.0).then(|| ((norm.clone() + 1e-6).recip() * clip).clamp_max(1.0))
}

/// One parameter that an optimiser step updates in place, and its moving average if it has one.
pub struct ParamUpdate<'a> {
    /// The values.
    pub value: &'a mut Tensor<1>,
    /// Their exponential moving average, updated with the new values.
    pub average: Option<Average<'a>>,
    /// Largest norm of the gradient; 0 disables clipping.
    pub clip: f64,
}

/// An exponential moving average of a parameter: `average ← momentum · average + (1 − momentum) · value`.
pub struct Average<'a> {
    /// The averaged values.
    pub value: &'a mut Tensor<1>,
    /// The weight of the average before the step, in 0–1.
    pub momentum: f64,
}

impl ParamUpdate<'_> {
    /// Clips `grad`, sets the value to `new` of it, and updates the average. Returns the
    /// gradient's norm before clipping, `[1]`.
    pub(super) fn update(
        self,
        grad: Tensor<1>,
        new: impl FnOnce(&Tensor<1>, Tensor<1>) -> Tensor<1>,
    ) -> Tensor<1> {
        let norm = norm(&grad);
        let grad = match clip_factor(&norm, self.clip) {
            Some(factor) => grad * factor,
            None => grad,
        };
        *self.value = new(self.value, grad);
        if let Some(average) = self.average {
            ema(average.value, self.value, average.momentum);
        }
        norm
    }
}

/// `average ← momentum · average + (1 − momentum) · value`.
pub fn ema(average: &mut Tensor<1>, value: &Tensor<1>, momentum: f64) {
    if fused::applies(average) && !average.is_autodiff() {
        return fused::update::ema(average, value, momentum);
    }
    *average = average.clone() * momentum + value.clone() * (1.0 - momentum);
}

/// AdamW (Loshchilov & Hutter): decay decoupled from the gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
        }
    }
}

impl AdamW {
    /// One step of one parameter; `step` counts this parameter's own steps from 1.
    /// `m` and `v` are the first and second moment, updated in place. Returns the gradient's
    /// norm before clipping, `[1]`.
    pub fn update(
        &self,
        param: ParamUpdate,
        grad: Tensor<1>,
        [m, v]: [&mut Tensor<1>; 2],
        step: u64,
        lr: f64,
        weight_decay: f64,
    ) -> Tensor<1> {
        let correction1 = 1.0 - self.beta1.powi(step as i32);
        let correction2 = 1.0 - self.beta2.powi(step as i32);
        let numbers = AdamWStep {
            clip: 1.0,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            decay: 1.0 - lr * weight_decay,
            rate: lr / correction1,
            root_correction2: correction2.sqrt(),
        };
        if fused::applies(param.value) && !param.value.is_autodiff() {
            let norm = fused::update::norm(&grad);
            let numbers = AdamWStep {
                clip: fused::update::clip(norm, param.clip),
                ..numbers
            };
            match param.average {
                Some(average) => {
                    let places = [param.value, average.value, m, v];
                    fused::update::adamw_and_ema(places, grad, &numbers, average.momentum);
                }
                None => fused::update::adamw([param.value, m, v], grad, &numbers),
            }
            return fused::update::scalar(norm);
        }
        #[cfg(all(feature = "gpu", not(feature = "fusion")))]
        if super::gpu::applies(param.value) && !param.value.is_autodiff() {
            let average = param
                .average
                .map(|average| (average.value, average.momentum));
            let places = [param.value, m, v];
            return super::gpu::update::adamw_step(places, average, grad, param.clip, &numbers);
        }
        param.update(grad, |value, grad| {
            *m = m.clone() * self.beta1 + grad.clone() * (1.0 - self.beta1);
            *v = v.clone() * self.beta2 + grad.clone() * grad * (1.0 - self.beta2);
            let denominator = v.clone().sqrt() / correction2.sqrt() + self.eps;
            value.clone() * (1.0 - lr * weight_decay) - m.clone() / denominator * (lr / correction1)
        })
    }
}

/// Stochastic gradient descent with momentum; decay is added to the gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Momentum factor.
    pub momentum: f64,
}

impl Sgd {
    /// One step of one parameter; the first step's gradient starts the momentum `buffer`.
    /// Returns the gradient's norm before clipping, `[1]`.
    pub fn update(
        &self,
        param: ParamUpdate,
        grad: Tensor<1>,
        buffer: &mut Tensor<1>,
        step: u64,
        lr: f64,
        weight_decay: f64,
    ) -> Tensor<1> {
        param.update(grad, |value, grad| {
            let grad = if weight_decay == 0.0 {
                grad
            } else {
                grad + value.clone() * weight_decay
            };
            *buffer = if step == 1 {
                grad
            } else {
                buffer.clone() * self.momentum + grad
            };
            value.clone() - buffer.clone() * lr
        })
    }
}

/// Layer-wise adaptive rate scaling (You et al.), as the reference has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lars {
    /// Trust coefficient.
    pub eta: f64,
    /// Momentum factor.
    pub momentum: f64,
}

impl Lars {
    /// One step of one parameter. `adapt` is true for tensors of more than one dimension,
    /// which alone get decay and the layer-wise rate. Returns the gradient's norm before
    /// clipping, `[1]`.
    pub fn update(
        &self,
        param: ParamUpdate,
        grad: Tensor<1>,
        buffer: &mut Tensor<1>,
        adapt: bool,
        lr: f64,
        weight_decay: f64,
    ) -> Tensor<1> {
        param.update(grad, |value, grad| {
            let grad = if adapt {
                let grad = grad + value.clone() * weight_decay;
                let (p, g) = (norm(value), norm(&grad));
                // Where either norm is 0 the rate stays 1.
                let usable = (p.clone() * g.clone()).greater_scalar(0.0).float();
                let ratio = p * self.eta / (g + (usable.clone() * -1.0 + 1.0));
                let rate = ratio * usable.clone() + (usable * -1.0 + 1.0);
                grad * rate
            } else {
                grad
            };
            *buffer = buffer.clone() * self.momentum + grad;
            value.clone() - buffer.clone() * lr
        })
    }
}
