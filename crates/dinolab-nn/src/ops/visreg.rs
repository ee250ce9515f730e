//! The regulariser of VISReg (arXiv 2606.02572).

use burn::tensor::{Tensor, TensorData};
use dinolab_kernels::normal_quantiles;

use super::fused::{self, Dispatch, visreg::VisRegOp};

/// Added to variances, so that the slope of a standard deviation is finite where rows are equal.
const EPS: f64 = 1e-4;

/// How far the embeddings of each view are from a standard normal distribution: location, scale and
/// shape, `[3]`.
///
/// `z` `[V·B, d]` are embeddings, view-major with `batch` images; `directions` `[S, d]` are random
/// unit directions. The terms are the mean square of the dimensions' means; the mean squared distance of
/// their standard deviations from 1; and the mean squared distance of the sorted values along each
/// direction from normal quantiles, of rows that are standardised. See [`dinolab_kernels::visreg`] for
/// the formulas. Gradients reach `z` alone; those of the shape take the standard deviations as given.
pub fn visreg(z: Tensor<2>, directions: Tensor<2>, batch: usize) -> Tensor<1> {
    if !fused::applies(&z) {
        return composite(z, directions, batch);
    }
    Tensor::from_dispatch(Dispatch::dinolab_visreg(
        z.into_dispatch(),
        directions.into_dispatch(),
        batch,
    ))
}

/// [`visreg`] of primitives.
pub fn composite(z: Tensor<2>, directions: Tensor<2>, batch: usize) -> Tensor<1> {
    let [rows, width] = z.dims();
    let (views, count) = (rows / batch, directions.dims()[0]);
    // Row sums first: a fixed order of additions, whatever the number of threads.
    let total = |squares: Tensor<2>| {
        let rows = squares.dims()[0];
        squares.sum_dim(1).reshape([rows]).sum()
    };
    let square = |x: Tensor<2>| x.clone() * x;
    let z = z.reshape([views, batch, width]);
    let mean = z.clone().mean_dim(1);
    let centred = z - mean.clone();
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    let deviation = (variance + EPS).sqrt();
    let cells = (views * width) as f64;
    let location = total(square(mean.reshape([views, width]))) / cells;
    let scale = total(square(deviation.clone().reshape([views, width]) - 1.0)) / cells;

    let standard = (centred / deviation.detach()).reshape([rows, width]);
    let along = super::matmul(directions.detach(), standard.transpose());
    let along = along.reshape([count * views, batch]);
    let order = along.clone().detach().argsort(1);
    let quantiles = TensorData::new(normal_quantiles(batch), [1, batch]);
    let quantiles: Tensor<2> = Tensor::from_data(quantiles, &along.device());
    let shape = total(square(along.gather(1, order) - quantiles)) / (count * rows) as f64;
    Tensor::cat(vec![location, scale, shape], 0)
}
