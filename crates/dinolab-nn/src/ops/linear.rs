//! Linear maps.

use burn::tensor::Tensor;

use super::fused::{self, Dispatch, linear::LinearOp};

/// `x · weightᵀ + bias` over the last dimension.
///
/// `x` `[B, N, I]`, `weight` `[O, I]`, `bias` `[O]` → `[B, N, O]`. The tokens of all
/// images go through one matrix product.
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    if !fused::applies(&x) {
        return composite(x, weight, bias);
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::dinolab_linear(x, weight, bias.into_dispatch()),
        None => Dispatch::dinolab_product(x, weight),
    })
}

/// [`linear`] followed by the exact [`gelu`](super::gelu()).
pub fn linear_gelu(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    match bias {
        Some(bias) if fused::applies(&x) => Tensor::from_dispatch(Dispatch::dinolab_linear_gelu(
            x.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
        )),
        bias => super::gelu(linear(x, weight, bias)),
    }
}

/// [`linear`] of primitives.
pub fn composite(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let [b, n, i] = x.dims();
    let [o, _] = weight.dims();
    let y = x.reshape([b * n, i]).matmul(weight.transpose());
    let y = match bias {
        Some(bias) => y + bias.reshape([1, o]),
        None => y,
    };
    y.reshape([b, n, o])
}

/// [`linear_gelu`] of primitives.
pub fn composite_gelu(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    super::gelu::composite(composite(x, weight, bias))
}
