//! The Kozachenko–Leonenko regulariser (KoLeo; Sablayrolles et al., arXiv 1806.03198; DINOv2).

use burn::tensor::Tensor;
use dinolab_kernels::{self as kernels, KoLeoShape};

use super::fused;

/// How close the features of each view lie to their nearest neighbours.
///
/// `x` `[V·B, D]` are features, view-major with `batch` images. See [`dinolab_kernels::koleo`] for
/// the formula. Returns the mean over views and images, `[1]`, and 0 for a single image.
pub fn koleo(x: Tensor<2>, batch: usize) -> Tensor<1> {
    if !fused::applies(&x) {
        return composite(x, batch);
    }
    let [rows, width] = x.dims();
    let shape = KoLeoShape {
        batch,
        views: rows / batch,
        width,
    };
    fused::scalar::scalar(x, move |x| kernels::koleo(x, shape))
}

/// [`koleo`] of primitives.
pub fn composite(x: Tensor<2>, batch: usize) -> Tensor<1> {
    let [rows, width] = x.dims();
    let views = rows / batch;
    if batch == 1 {
        return x.sum() * 0.0;
    }
    let length = (x.clone() * x.clone()).sum_dim(1).sqrt();
    let y = x / length.clamp_min(1e-12);
    let mut total: Option<Tensor<1>> = None;
    for view in 0..views {
        let y = y.clone().narrow(0, view * batch, batch);
        let plain = y.clone().detach();
        // No row is its own neighbour: its product with itself, 1, is taken below all others.
        let own = Tensor::<2>::eye(batch, &plain.device()) * 3.0;
        let nearest = super::matmul(plain.clone(), plain.transpose()) - own;
        let places = nearest.argmax(1).reshape([batch]);
        let difference = y.clone() - y.select(0, places);
        let squares = (difference.clone() * difference)
            .sum_dim(1)
            .reshape([batch]);
        // Rounding has no direction, and the root of 0 no slope.
        let apart = squares.clone().greater_elem(1e-12);
        let distance = squares.clamp_min(1e-12).sqrt();
        let distance = distance.clone().zeros_like().mask_where(apart, distance);
        let sum = (distance + 1e-8).log().sum();
        total = Some(match total {
            Some(total) => total + sum,
            None => sum,
        });
    }
    assert_eq!(rows, views * batch, "rows of width {width}");
    total.expect("there are views") / -((views * batch) as f64)
}
