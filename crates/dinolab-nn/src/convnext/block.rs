//! The block: a depthwise 7×7 convolution, and an MLP at each position.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::init::{self, Init};
use crate::ops;
use crate::ops::branch::{MlpActivation, TokenGroup, TokenLayout};
use crate::param::{Param, parameters};
use crate::vit::{LayerNorm, Linear, branch_params};

/// The number of the residual branch for stochastic depth, as of a transformer's MLP.
pub(super) const MLP: usize = 1;
/// Side of the depthwise convolution's kernel.
pub(super) const SIDE: usize = 7;
/// Width of an MLP's hidden layer, in widths of its tokens.
pub(super) const RATIO: usize = 4;
/// Added to variances, but for the final norm's.
pub(super) const EPS: f64 = 1e-6;

/// A convolution with bias; a depthwise one has weights `[C, 1, k, k]`.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    /// Weights `[O, I, k, k]`.
    pub weight: Param,
    /// Bias `[O]`.
    pub bias: Param,
}
parameters!(Conv { weight, bias });

impl Conv {
    /// With the paper's initial weights.
    pub fn new([outputs, inputs, side]: [usize; 3], init: &mut Init, device: &Device) -> Self {
        let weight = init.truncated_normal(outputs * inputs * side * side, 0.02);
        Self {
            weight: Param::new(weight, &[outputs, inputs, side, side], true, device),
            bias: Param::new(vec![0.0; outputs], &[outputs], true, device),
        }
    }
}

/// A block: `x + γ · mlp(norm(dwconv(x)))`.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Layer scale, `[C]`.
    pub gamma: Param,
    pub dwconv: Conv,
    pub norm: LayerNorm,
    pub pwconv1: Linear,
    pub pwconv2: Linear,
}
parameters!(Block {
    gamma,
    dwconv,
    norm,
    pwconv1,
    pwconv2
});

impl Block {
    /// One block of a network of `depth` in all stages together.
    pub fn new(width: usize, depth: usize, init: &mut Init, device: &Device) -> Self {
        let gamma = vec![init::layer_scale(depth); width];
        Self {
            gamma: Param::new(gamma, &[width], true, device),
            dwconv: Conv::new([width, 1, SIDE], init, device),
            norm: LayerNorm::new(width, EPS, device),
            pwconv1: Linear::new(width, RATIO * width, true, init, device),
            pwconv2: Linear::new(RATIO * width, width, true, init, device),
        }
    }

    /// `x` `[B, H, W, C]` → the same shape. `factors` are those of stochastic depth, one per image.
    pub fn forward(&self, x: Tensor<4>, factors: Option<Vec<f32>>) -> Tensor<4> {
        let shape = x.dims();
        let [images, h, w, c] = shape;
        let tokens = h * w;
        let group = [TokenGroup { images, tokens }];
        let layout = match factors {
            Some(factors) => TokenLayout::new(&group, &factors),
            None => TokenLayout::all(&group),
        };
        let Conv { weight, bias } = &self.dwconv;
        let y = ops::depthwise_conv(x.clone(), weight.matrix(), bias.get());
        let rows = |x: Tensor<4>| x.reshape([images * tokens, c]);
        let params = branch_params(&self.norm, &self.pwconv1, &self.pwconv2, Some(&self.gamma));
        ops::branch_onto(
            MlpActivation::Gelu,
            rows(x),
            rows(y),
            params,
            Arc::new(layout),
        )
        .reshape(shape)
    }
}
