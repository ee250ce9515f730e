//! The coding rate of features (SimDINO, arXiv 2502.10385).

use burn::tensor::Tensor;
use dinolab_kernels::{self as kernels, EmbeddingShape};

use super::fused;

/// How many directions the features of each view take up.
///
/// `z` `[V·B, d]` are features, view-major with `batch` images. Returns the mean over views of
/// `½ logdet(I + scale · ZᵀZ)`, `[1]`; see [`dinolab_kernels::coding_rate`].
pub fn coding_rate(z: Tensor<2>, batch: usize, scale: f64) -> Tensor<1> {
    if !fused::applies(&z) {
        return composite(z, batch, scale);
    }
    let [rows, width] = z.dims();
    let shape = EmbeddingShape {
        batch,
        views: rows / batch,
        width,
    };
    fused::scalar::scalar(z, move |z| kernels::coding_rate(z, shape, scale))
}

/// [`coding_rate`] of primitives: the pivots of an elimination.
pub fn composite(z: Tensor<2>, batch: usize, scale: f64) -> Tensor<1> {
    let [rows, width] = z.dims();
    let views = rows / batch;
    let mut total: Option<Tensor<2>> = None;
    for view in 0..views {
        let z = z.clone().narrow(0, view * batch, batch);
        // The smaller one of two matrices of the same determinant.
        let a = if batch <= width { z } else { z.transpose() };
        let n = a.dims()[0];
        let own = Tensor::<2>::eye(n, &a.device());
        let mut left = super::matmul(a.clone(), a.transpose()) * scale + own;
        for size in (1..=n).rev() {
            let pivot = left.clone().narrow(0, 0, 1).narrow(1, 0, 1);
            let half = pivot.clone().log() * 0.5;
            total = Some(match total {
                Some(total) => total + half,
                None => half,
            });
            if size > 1 {
                let column = left.clone().narrow(0, 1, size - 1).narrow(1, 0, 1);
                let outer = super::matmul(column.clone(), column.transpose());
                let rest = left.narrow(0, 1, size - 1).narrow(1, 1, size - 1);
                left = rest - outer / pivot;
            }
        }
    }
    total.expect("there are rows").reshape([1]) / views as f64
}
