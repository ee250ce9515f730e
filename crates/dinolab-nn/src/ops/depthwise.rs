//! Depthwise convolutions over images with channels last.

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use super::fused::{self, Dispatch, depthwise::DepthwiseOp};
use crate::precision::{as_of, single};

/// Side of the kernel.
const SIDE: usize = 7;

/// Each channel convolved with a 7×7 kernel of its own, at stride 1 and with three zeros on each side:
/// `x` `[B, H, W, C]`, `weight` `[C, 7·7]` and `bias` `[C]` → `[B, H, W, C]`.
pub fn depthwise_conv(x: Tensor<4>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<4> {
    if !fused::applies(&x) || !fused::applies(&weight) {
        return composite(x, weight, bias);
    }
    Tensor::from_dispatch(Dispatch::dinolab_depthwise_conv(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ))
}

/// [`depthwise_conv`] of primitives, in the numbers of the weight; the bias and the result in `f32`.
pub fn composite(x: Tensor<4>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<4> {
    let x = as_of(x, &weight).permute([0, 3, 1, 2]);
    let channels = x.dims()[1];
    let weight = weight.reshape([channels, 1, SIDE, SIDE]);
    let options = ConvOptions::new([1; 2], [SIDE / 2; 2], [1; 2], channels);
    let y = conv2d(x, weight, None, options).permute([0, 2, 3, 1]);
    single(y) + bias.reshape([1, 1, 1, channels])
}
