//! The gated linear unit with SiLU.

use burn::tensor::activation::sigmoid;
use burn::tensor::{FloatDType, Tensor};

use crate::precision::single;

/// `silu(a) · b` of the first and the second half of `x` `[B, N, 2·I]` → `[B, N, I]` (Shazeer,
/// arXiv 2002.05202). In `f32` inside.
pub fn swiglu(x: Tensor<3>) -> Tensor<3> {
    let dtype = FloatDType::from(x.dtype());
    let x = single(x);
    let inner = x.dims()[2] / 2;
    let (gate, value) = (x.clone().narrow(2, 0, inner), x.narrow(2, inner, inner));
    (gate.clone() * sigmoid(gate) * value).cast(dtype)
}
