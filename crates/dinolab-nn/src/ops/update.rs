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

/// Scales `grad` by `min(1, clip / (‖grad‖ + 1e-6))` and returns it with its norm before
/// clipping, `[1]`. `clip` 0 leaves it as it is.
pub fn clip_by_norm(grad: Tensor<1>, clip: f64) -> (Tensor<1>, Tensor<1>) {
    if fused::applies(&grad) && !grad.is_autodiff() {
        let norm = fused::update::norm(&grad);
        let factor = clip as f32 / (norm + 1e-6);
        // A factor of 1 would be a pass over memory for nothing. NaN goes through.
        let whole = clip <= 0.0 || factor >= 1.0;
        let grad = if whole {
            grad
        } else {
            fused::update::scale(grad, factor)
        };
        return (grad, fused::update::scalar(norm));
    }
    let norm = norm(&grad);
    if clip <= 0.0 {
        return (grad, norm);
    }
    let factor = ((norm.clone() + 1e-6).recip() * clip).clamp_max(1.0);
    (grad * factor, norm)
}

/// `momentum · teacher + (1 − momentum) · student`.
pub fn ema(teacher: Tensor<1>, student: Tensor<1>, momentum: f64) -> Tensor<1> {
    if fused::applies(&teacher) && !teacher.is_autodiff() {
        return fused::update::ema(teacher, student, momentum);
    }
    teacher * momentum + student * (1.0 - momentum)
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
    /// `m` and `v` are the first and second moment, updated in place. Returns the new values.
    pub fn update(
        &self,
        value: Tensor<1>,
        grad: Tensor<1>,
        [m, v]: [&mut Tensor<1>; 2],
        step: u64,
        lr: f64,
        weight_decay: f64,
    ) -> Tensor<1> {
        let correction1 = 1.0 - self.beta1.powi(step as i32);
        let correction2 = 1.0 - self.beta2.powi(step as i32);
        if fused::applies(&value) && !value.is_autodiff() {
            let numbers = AdamWStep {
                beta1: self.beta1,
                beta2: self.beta2,
                eps: self.eps,
                decay: 1.0 - lr * weight_decay,
                rate: lr / correction1,
                root_correction2: correction2.sqrt(),
            };
            return fused::update::adamw(value, grad, [m, v], &numbers);
        }
        *m = m.clone() * self.beta1 + grad.clone() * (1.0 - self.beta1);
        *v = v.clone() * self.beta2 + grad.clone() * grad * (1.0 - self.beta2);
        let denominator = v.clone().sqrt() / correction2.sqrt() + self.eps;
        value * (1.0 - lr * weight_decay) - m.clone() / denominator * (lr / correction1)
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
    pub fn update(
        &self,
        value: Tensor<1>,
        grad: Tensor<1>,
        buffer: &mut Tensor<1>,
        step: u64,
        lr: f64,
        weight_decay: f64,
    ) -> Tensor<1> {
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
        value - buffer.clone() * lr
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
    /// which alone get decay and the layer-wise rate.
    pub fn update(
        &self,
        value: Tensor<1>,
        grad: Tensor<1>,
        buffer: &mut Tensor<1>,
        adapt: bool,
        lr: f64,
        weight_decay: f64,
    ) -> Tensor<1> {
        let grad = if adapt {
            let grad = grad + value.clone() * weight_decay;
            let (p, g) = (norm(&value), norm(&grad));
            // Where either norm is 0 the rate stays 1.
            let usable = (p.clone() * g.clone()).greater_scalar(0.0).float();
            let ratio = p * self.eta / (g + (usable.clone() * -1.0 + 1.0));
            let rate = ratio * usable.clone() + (usable * -1.0 + 1.0);
            grad * rate
        } else {
            grad
        };
        *buffer = buffer.clone() * self.momentum + grad;
        value - buffer.clone() * lr
    }
}
