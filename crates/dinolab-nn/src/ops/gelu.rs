//! The exact Gaussian error linear unit.

use burn::tensor::Tensor;

use super::fused::{self, Dispatch, gelu::GeluOp};

/// `x · Φ(x)` with Φ the normal distribution function (erf form, no tanh approximation).
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if !fused::applies(&x) {
        return composite(x);
    }
    Tensor::from_dispatch(Dispatch::dinolab_gelu(x.into_dispatch()))
}

/// [`gelu`] written out of primitives, because the framework's own activation
/// differentiates the tanh approximation.
pub fn composite<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let phi = (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
    x * phi * 0.5
}
