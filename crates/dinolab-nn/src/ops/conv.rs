//! Convolutions over images with channels last, and what follows them in a residual network.

use std::sync::{Arc, OnceLock};

use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Tensor, TensorData};
pub use dinolab_kernels::Moments;
use dinolab_kernels::{self as kernels, ConvEpilogue, ConvShape};

use super::fused::{self, Dispatch, conv::ConvOp};
use crate::device::to_host_f32;
use crate::precision::{as_of, single};

/// A square kernel: of a convolution, or of pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its side, `k`.
    pub side: usize,
    /// Distance of the windows.
    pub stride: usize,
    /// Zeros around an image, on each side.
    pub padding: usize,
}

impl Kernel {
    /// The sizes of a convolution of images `[B, H, W, I]` to `outputs` channels.
    pub(super) fn shape(
        self,
        [images, height, width, inputs]: [usize; 4],
        outputs: usize,
    ) -> ConvShape {
        ConvShape {
            images,
            height,
            width,
            inputs,
            outputs,
            kernel: self.side,
            stride: self.stride,
            padding: self.padding,
        }
    }
}

/// Parameters of a convolution that batch normalisation follows.
#[derive(Clone, Debug)]
pub struct ConvNormParams {
    /// Weights, `[O, I·k·k]`, in the order of `[O, I, k, k]`.
    pub weight: Tensor<2>,
    /// Scale of the normalisation, `[O]`.
    pub gamma: Tensor<1>,
    /// Its shift, `[O]`.
    pub beta: Tensor<1>,
    /// Added to the variance.
    pub eps: f64,
}

/// What follows the normalisation.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    /// Added to the result, `[B, H', W', O]`.
    pub residual: Option<Tensor<4>>,
    /// Whether negative values become 0.
    pub relu: bool,
}

/// Images `[B, C, H, W]` as `[B, H, W, C]`.
pub fn channels_last(x: Tensor<4>) -> Tensor<4> {
    if !fused::applies(&x) || x.is_autodiff() {
        return x.permute([0, 2, 3, 1]);
    }
    let [b, c, h, w] = x.dims();
    let x = fused::plain(x);
    let y = kernels::channels_last(fused::values(&x), c, h * w);
    fused::of_values(y, [b, h, w, c])
}

/// A convolution, normalised by the mean and the variance of each channel over all pixels of all
/// images, and its tail: `x` `[B, H, W, I]` → `[B, H', W', O]`, and those moments.
pub fn conv_norm(
    x: Tensor<4>,
    params: ConvNormParams,
    kernel: Kernel,
    tail: Tail,
) -> (Tensor<4>, Moments) {
    if !fused::applies(&x) || !fused::applies(&params.weight) {
        return composite_norm(x, params, kernel, tail);
    }
    let ConvNormParams {
        weight,
        gamma,
        beta,
        eps,
    } = params;
    let moments = Arc::new(OnceLock::new());
    let operands = (
        x.into_dispatch(),
        weight.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
    );
    let (x, weight, gamma, beta) = operands;
    let (found, relu) = (moments.clone(), tail.relu);
    let y = Tensor::from_dispatch(match tail.residual {
        Some(residual) => Dispatch::dinolab_conv_norm_add(
            x,
            weight,
            gamma,
            beta,
            residual.into_dispatch(),
            kernel,
            eps,
            relu,
            found,
        ),
        None => Dispatch::dinolab_conv_norm(x, weight, gamma, beta, kernel, eps, relu, found),
    });
    let moments = moments.get().expect("the operation has run");
    (y, moments.clone())
}

/// A convolution whose channels are then multiplied by `scale` and shifted by `shift`, both `[O]`,
/// and its tail: `x` `[B, H, W, I]` and `weight` `[O, I·k·k]` → `[B, H', W', O]`.
pub fn conv_affine(
    x: Tensor<4>,
    weight: Tensor<2>,
    [scale, shift]: [Tensor<1>; 2],
    kernel: Kernel,
    tail: Tail,
) -> Tensor<4> {
    let residual = || tail.residual.iter();
    let recorded = x.is_autodiff() || weight.is_autodiff() || residual().any(Tensor::is_autodiff);
    if recorded || !fused::applies(&x) || !fused::applies(&weight) {
        let y = conv(x, weight, kernel);
        return with_tail(scaled(y, [scale, shift]), tail);
    }
    let shape = kernel.shape(x.dims(), weight.dims()[0]);
    let (height, width) = shape.output_size();
    let [x, weight] = [fused::plain(x), fused::plain(weight)];
    let [scale, shift] = [scale, shift].map(fused::plain);
    let residual = tail.residual.map(fused::plain);
    let epilogue = ConvEpilogue {
        scale: fused::values(&scale),
        shift: fused::values(&shift),
        residual: residual.as_ref().map(fused::values),
        relu: tail.relu,
    };
    let (x, weight) = (fused::values(&x), fused::values(&weight));
    let y = kernels::conv_with_epilogue(x, weight, &epilogue, &shape);
    fused::of_values(y, [shape.images, height, width, shape.outputs])
}

/// A convolution with a bias `[O]`: `x` `[B, H, W, I]` and `weight` `[O, I·k·k]` → `[B, H', W', O]`.
pub fn conv_bias(x: Tensor<4>, weight: Tensor<2>, bias: Tensor<1>, kernel: Kernel) -> Tensor<4> {
    if x.is_autodiff() || weight.is_autodiff() {
        let y = single(conv(x, weight, kernel));
        let [b, h, w, o] = y.dims();
        let rows = y.reshape([b * h * w, o]) + bias.reshape([1, o]);
        return rows.reshape([b, h, w, o]);
    }
    let ones = Tensor::ones(bias.dims(), &bias.device());
    conv_affine(x, weight, [ones, bias], kernel, Tail::default())
}

/// A convolution: `x` `[B, H, W, I]` and `weight` `[O, I·k·k]` → `[B, H', W', O]`.
pub fn conv(x: Tensor<4>, weight: Tensor<2>, kernel: Kernel) -> Tensor<4> {
    if !fused::applies(&x) || !fused::applies(&weight) {
        return composite(x, weight, kernel);
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(Dispatch::dinolab_conv(x, weight, kernel))
}

/// The largest value of each window: `x` `[B, H, W, C]` → `[B, H', W', C]`.
pub fn max_pool(x: Tensor<4>, kernel: Kernel) -> Tensor<4> {
    if !fused::applies(&x) {
        return composite_pool(x, kernel);
    }
    Tensor::from_dispatch(Dispatch::dinolab_max_pool(x.into_dispatch(), kernel))
}

/// [`conv`] of primitives, in the numbers of the weight.
pub fn composite(x: Tensor<4>, weight: Tensor<2>, kernel: Kernel) -> Tensor<4> {
    let x = as_of(x, &weight).permute([0, 3, 1, 2]);
    let (inputs, outputs) = (x.dims()[1], weight.dims()[0]);
    let weight = weight.reshape([outputs, inputs, kernel.side, kernel.side]);
    let options = ConvOptions::new([kernel.stride; 2], [kernel.padding; 2], [1; 2], 1);
    conv2d(x, weight, None, options).permute([0, 2, 3, 1])
}

/// [`max_pool`] of primitives.
pub fn composite_pool(x: Tensor<4>, kernel: Kernel) -> Tensor<4> {
    let options = MaxPoolOptions {
        kernel_size: [kernel.side; 2],
        stride: [kernel.stride; 2],
        padding: [(kernel.padding, kernel.padding); 2],
        dilation: [1; 2],
        ceil_mode: false,
    };
    max_pool2d(x.permute([0, 3, 1, 2]), options).permute([0, 2, 3, 1])
}

/// [`conv_norm`] of primitives; the normalisation in `f32`, as is its result.
pub fn composite_norm(
    x: Tensor<4>,
    params: ConvNormParams,
    kernel: Kernel,
    tail: Tail,
) -> (Tensor<4>, Moments) {
    let y = single(composite(x, params.weight, kernel));
    let [b, h, w, c] = y.dims();
    let rows = y.reshape([b * h * w, c]);
    let mean = rows.clone().mean_dim(0);
    let centred = rows - mean.clone();
    let variance = (centred.clone() * centred.clone()).mean_dim(0);
    let moments = Moments {
        count: b * h * w,
        mean: to_host_f32(mean.without_autodiff()),
        variance: to_host_f32(variance.clone().without_autodiff()),
    };
    let y = centred / (variance + params.eps).sqrt() * params.gamma.reshape([1, c])
        + params.beta.reshape([1, c]);
    (with_tail(y.reshape([b, h, w, c]), tail), moments)
}

fn scaled(y: Tensor<4>, vectors: [Tensor<1>; 2]) -> Tensor<4> {
    let y = single(y);
    let c = y.dims()[3];
    let [scale, shift] = vectors.map(|vector| vector.reshape([1, 1, 1, c]));
    y * scale + shift
}

fn with_tail(y: Tensor<4>, tail: Tail) -> Tensor<4> {
    let y = match tail.residual {
        Some(residual) => y + residual,
        None => y,
    };
    match tail.relu {
        true => y.clamp_min(0.0),
        false => y,
    }
}

/// A vector on the device of a tensor.
pub(crate) fn vector<const D: usize>(values: Vec<f32>, beside: &Tensor<D>) -> Tensor<1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), &beside.device())
}
