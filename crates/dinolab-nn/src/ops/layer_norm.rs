//! Layer normalisation.

use burn::tensor::Tensor;

use super::fused::{self, Dispatch, layer_norm::LayerNormOp};
use crate::precision::single;

/// Normalises the last dimension of `x` `[B, N, D]` to mean 0 and variance 1 (biased,
/// `eps` added to the variance), then scales by `gamma` and shifts by `beta`, both `[D]`.
pub fn layer_norm(x: Tensor<3>, gamma: Tensor<1>, beta: Tensor<1>, eps: f64) -> Tensor<3> {
    if !fused::applies(&x) {
        return of_device(x, gamma, beta, eps);
    }
    Tensor::from_dispatch(Dispatch::dinolab_layer_norm(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        eps,
    ))
}

/// [`layer_norm`] by the kernel of a GPU, or of primitives.
pub(super) fn of_device(x: Tensor<3>, gamma: Tensor<1>, beta: Tensor<1>, eps: f64) -> Tensor<3> {
    #[cfg(all(feature = "gpu", not(feature = "fusion")))]
    if super::gpu::applies(&x) {
        use super::gpu::layer_norm::GpuLayerNormOp;
        return Tensor::from_dispatch(Dispatch::dinolab_gpu_layer_norm(
            x.into_dispatch(),
            gamma.into_dispatch(),
            beta.into_dispatch(),
            eps,
        ));
    }
    composite(x, gamma, beta, eps)
}

/// [`layer_norm`] of primitives; in `f32`, as is its result.
pub fn composite(x: Tensor<3>, gamma: Tensor<1>, beta: Tensor<1>, eps: f64) -> Tensor<3> {
    let d = gamma.dims()[0];
    let x = single(x);
    let centred = x.clone() - x.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let normalised = centred / (variance + eps).sqrt();
    normalised * gamma.reshape([1, 1, d]) + beta.reshape([1, 1, d])
}
