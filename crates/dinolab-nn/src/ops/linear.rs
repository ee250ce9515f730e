//! Linear maps.

use burn::tensor::Tensor;

use super::gelu;

/// `x · weightᵀ + bias` over the last dimension.
///
/// `x` `[B, N, I]`, `weight` `[O, I]`, `bias` `[O]` → `[B, N, O]`. The tokens of all
/// images go through one matrix product.
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let [b, n, i] = x.dims();
    let [o, _] = weight.dims();
    let y = x.reshape([b * n, i]).matmul(weight.transpose());
    let y = match bias {
        Some(bias) => y + bias.reshape([1, o]),
        None => y,
    };
    y.reshape([b, n, o])
}

/// [`linear`] followed by the exact [`gelu`].
pub fn linear_gelu(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    gelu(linear(x, weight, bias))
}
