//! The head's weight-normalised prototypes.

use burn::tensor::Tensor;

use super::fused::{self, Dispatch, prototypes::PrototypesOp};
use super::matmul;

/// Similarities of rows to the prototypes `g · v / ‖v‖`: `x` `[R, W]`, directions `v` `[K, W]`,
/// lengths `g` `[K]` → `[R, K]`.
pub fn prototypes(x: Tensor<2>, v: Tensor<2>, g: Tensor<1>) -> Tensor<2> {
    if !fused::applies(&x) {
        return composite(x, v, g);
    }
    Tensor::from_dispatch(Dispatch::dinolab_prototypes(
        x.into_dispatch(),
        v.into_dispatch(),
        g.into_dispatch(),
    ))
}

/// [`prototypes`] of primitives.
pub fn composite(x: Tensor<2>, v: Tensor<2>, g: Tensor<1>) -> Tensor<2> {
    let k = g.dims()[0];
    let length = (v.clone() * v.clone()).sum_dim(1).sqrt();
    matmul(x, (v * (g.reshape([k, 1]) / length)).transpose())
}
