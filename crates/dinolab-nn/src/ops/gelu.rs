//! The exact Gaussian error linear unit.

use burn::tensor::{FloatDType, Tensor};

use super::fused::{self, Dispatch, gelu::GeluOp};
use crate::precision::single;

/// `x · Φ(x)` with Φ the normal distribution function (erf form, no tanh approximation).
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if !fused::applies(&x) {
        return of_device(x);
    }
    Tensor::from_dispatch(Dispatch::dinolab_gelu(x.into_dispatch()))
}

/// [`gelu`] by the kernel of a GPU, or of primitives.
pub(super) fn of_device<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(all(feature = "gpu", not(feature = "fusion")))]
    if super::gpu::applies(&x) {
        use super::gpu::gelu::GpuGeluOp;
        return Tensor::from_dispatch(Dispatch::dinolab_gpu_gelu(x.into_dispatch()));
    }
    composite(x)
}

/// [`gelu`] written out of primitives, because the framework's own activation
/// differentiates the tanh approximation. In `f32` inside: rounding Φ would count twice.
pub fn composite<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let dtype = FloatDType::from(x.dtype());
    let x = single(x);
    let phi = (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
    (x * phi * 0.5).cast(dtype)
}
