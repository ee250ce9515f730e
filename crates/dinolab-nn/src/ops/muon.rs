//! Muon: momentum whose singular values are brought near to 1.

use burn::tensor::Tensor;
use dinolab_kernels::{self as kernels, Matrices, MuonStep};

use super::fused;
use super::update::ParamUpdate;

/// Muon (Keller Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024), at the scale of AdamW's
/// updates (Liu et al., arXiv 2502.16982, §2.2), so that learning rate and weight decay mean what they mean there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// Momentum factor.
    pub momentum: f64,
}

impl Default for Muon {
    fn default() -> Self {
        Self { momentum: 0.95 }
    }
}

impl Muon {
    /// One step of one parameter. Returns the gradient's norm before clipping, `[1]`.
    pub fn update(
        &self,
        param: ParamUpdate,
        grad: Tensor<1>,
        buffer: &mut Tensor<1>,
        matrices: Matrices,
        lr: f64,
        weight_decay: f64,
    ) -> Tensor<1> {
        let Matrices {
            count,
            rows,
            columns,
        } = matrices;
        let numbers = MuonStep {
            clip: 1.0,
            momentum: self.momentum,
            decay: 1.0 - lr * weight_decay,
            rate: lr * 0.2 * (rows.max(columns) as f64).sqrt(),
        };
        if fused::applies(param.value) && !param.value.is_autodiff() {
            let norm = fused::update::norm(&grad);
            let numbers = MuonStep {
                clip: fused::update::clip(norm, param.clip),
                ..numbers
            };
            let average = param
                .average
                .map(|average| (average.value, average.momentum));
            fused::update::muon([param.value, buffer], average, grad, &numbers, matrices);
            return fused::update::scalar(norm);
        }
        param.update(grad, |value, grad| {
            let own = 1.0 - self.momentum;
            *buffer = buffer.clone() * self.momentum + grad.clone() * own;
            // Nesterov's look ahead.
            let direction = grad * own + buffer.clone() * self.momentum;
            let direction = newton_schulz(direction.reshape([count, rows, columns]));
            let direction = direction.reshape([count * rows * columns]);
            value.clone() * numbers.decay - direction * numbers.rate
        })
    }
}

/// Each matrix of `x` `[M, R, C]` with singular values of about 1; see [`dinolab_kernels::newton_schulz`].
pub fn newton_schulz(x: Tensor<3>) -> Tensor<3> {
    if !fused::applies(&x) || x.is_autodiff() {
        return composite(x);
    }
    let [count, rows, columns] = x.dims();
    let x = fused::plain(x);
    let matrices = fused::values(&x).chunks_exact(rows * columns);
    let all = matrices.flat_map(|x| kernels::newton_schulz(x, rows, columns));
    fused::of_values(all.collect(), [count, rows, columns])
}

/// [`newton_schulz`] of primitives.
pub fn composite(x: Tensor<3>) -> Tensor<3> {
    let [_, rows, columns] = x.dims();
    if rows > columns {
        return composite(x.swap_dims(1, 2)).swap_dims(1, 2);
    }
    let lengths = (x.clone() * x.clone()).sum_dim(2).sum_dim(1).sqrt();
    let mut x = x / lengths.clamp_min(1e-7);
    for _ in 0..5 {
        let gram = super::matmul_f32(x.clone(), x.clone().swap_dims(1, 2));
        let squared = super::matmul_f32(gram.clone(), gram.clone());
        let factor = gram * -4.775 + squared * 2.0315;
        x = x.clone() * 3.4445 + super::matmul_f32(factor, x);
    }
    x
}
