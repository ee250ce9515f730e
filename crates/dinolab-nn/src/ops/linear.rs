//! Linear maps.

use burn::tensor::Tensor;

use super::fused::{self, Dispatch, linear::LinearOp};
use super::matmul;
use crate::precision::as_of;

/// `x · weightᵀ + bias` over the last dimension.
///
/// `x` `[B, N, I]`, `weight` `[O, I]`, `bias` `[O]` → `[B, N, O]`. The tokens of all
/// images go through one matrix multiplication, in the numbers that `weight` has; so is the result.
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    if !fused::applies(&x) || !fused::applies(&weight) {
        return of_device(x, weight, bias);
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
        Some(bias) if fused::applies(&x) && fused::applies(&weight) => {
            Tensor::from_dispatch(Dispatch::dinolab_linear_gelu(
                x.into_dispatch(),
                weight.into_dispatch(),
                bias.into_dispatch(),
            ))
        }
        bias => super::gelu(linear(x, weight, bias)),
    }
}

/// [`linear`] of primitives.
pub fn composite(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let [b, n, i] = x.dims();
    let [o, _] = weight.dims();
    let x = as_of(x.reshape([b * n, i]), &weight);
    let y = matmul(x, weight.transpose());
    let y = match bias {
        Some(bias) => {
            let bias = as_of(bias.reshape([1, o]), &y);
            y + bias
        }
        None => y,
    };
    y.reshape([b, n, o])
}

/// [`linear`] with the bias of a GPU, or of primitives.
pub(super) fn of_device(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    #[cfg(all(feature = "gpu", not(feature = "fusion")))]
    if let Some(bias) = bias.clone().filter(super::gpu::applies) {
        use super::gpu::bias::GpuBiasOp;
        let [b, n, _] = x.dims();
        let [o, _] = weight.dims();
        let y = composite(x, weight, None).reshape([b * n, o]);
        let (y, bias) = (y.into_dispatch(), bias.into_dispatch());
        return Tensor::<2>::from_dispatch(Dispatch::dinolab_gpu_bias(y, bias)).reshape([b, n, o]);
    }
    composite(x, weight, bias)
}

/// [`linear_gelu`] of primitives.
pub fn composite_gelu(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    super::gelu::composite(composite(x, weight, bias))
}
