//! Sketched isotropic Gaussian regularisation (SIGReg, Balestriero & LeCun, arXiv 2511.08544).

use burn::tensor::Tensor;
use dinolab_kernels::{self as kernels, EmbeddingShape};

use super::fused;

/// How far the embeddings of each view are from a standard normal distribution.
///
/// `z` `[V·B, d]` are embeddings, view-major with `batch` images; `directions` `[S, d]` are random
/// unit directions. For each view and direction the statistic of Epps and Pulley compares
/// the characteristic function of the `B` projected embeddings with that of a standard normal
/// distribution; see [`dinolab_kernels::sigreg`] for the formula. Returns the mean over views and
/// directions, `[1]`. Gradients reach `z` alone.
pub fn sigreg(z: Tensor<2>, directions: Tensor<2>, batch: usize) -> Tensor<1> {
    if !fused::applies(&z) {
        return composite(z, directions, batch);
    }
    let [rows, width] = z.dims();
    let shape = EmbeddingShape {
        batch,
        views: rows / batch,
        width,
    };
    let directions = fused::plain(directions);
    fused::scalar::scalar(z, move |z| {
        kernels::sigreg(z, fused::values(&directions), shape)
    })
}

/// [`sigreg`] of primitives.
pub fn composite(z: Tensor<2>, directions: Tensor<2>, batch: usize) -> Tensor<1> {
    const KNOTS: usize = 17;
    const STEP: f64 = 3.0 / (KNOTS - 1) as f64;
    let directions = directions.detach();
    let (rows, count) = (z.dims()[0], directions.dims()[0]);
    let views = rows / batch;
    let u = super::matmul(z, directions.transpose()).reshape([views, batch, count]);
    let knots: Vec<f64> = (0..KNOTS).map(|k| k as f64 * STEP).collect();
    let mut total: Option<Tensor<3>> = None;
    // The first knot, 0, contributes nothing.
    for (k, t) in knots.into_iter().enumerate().skip(1) {
        let gaussian = (-0.5 * t * t).exp();
        let half = if k + 1 == KNOTS { 0.5 } else { 1.0 };
        let turned = u.clone() * t;
        let real = turned.clone().cos().mean_dim(1) - gaussian;
        let imaginary = turned.sin().mean_dim(1);
        let distance = real.clone() * real + imaginary.clone() * imaginary;
        // Twice, for the negative half.
        let term = distance * (2.0 * half * STEP * gaussian * batch as f64);
        total = Some(match total {
            Some(total) => total + term,
            None => term,
        });
    }
    let total = total.expect("there are knots");
    // Row sums first: a fixed order of additions, whatever the number of threads.
    total
        .reshape([views, count])
        .sum_dim(1)
        .reshape([views])
        .sum()
        / (views * count) as f64
}
