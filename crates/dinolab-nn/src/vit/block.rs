//! The transformer block and what it is made of.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::{DropPath, VitConfig};
use crate::init::{self, Init};
use crate::ops;
use crate::ops::branch::{Branch, BranchParams, Rotation, TokenGroup, TokenLayout};
use crate::param::{Param, parameters};

/// A linear layer; `weight` `[O, I]` (a patch convolution's is `[O, C, p, p]`), `bias` `[O]`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Weights, output first.
    pub weight: Param,
    /// Offsets.
    pub bias: Option<Param>,
}
parameters!(Linear { weight, bias });

impl Linear {
    /// Truncated normal of standard deviation 0.02 and bias 0, as the reference initialises every
    /// linear layer.
    pub fn new(
        inputs: usize,
        outputs: usize,
        bias: bool,
        init: &mut Init,
        device: &Device,
    ) -> Self {
        let weight = init.truncated_normal(inputs * outputs, 0.02);
        Self {
            weight: Param::new(weight, &[outputs, inputs], true, device),
            bias: bias.then(|| Param::new(vec![0.0; outputs], &[outputs], true, device)),
        }
    }

    /// `[B, N, I]` → `[B, N, O]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        ops::linear(x, self.weight.matrix(), self.bias.as_ref().map(Param::get))
    }

    /// [`Linear::forward`] and the exact GELU.
    pub fn forward_gelu(&self, x: Tensor<3>) -> Tensor<3> {
        ops::linear_gelu(x, self.weight.matrix(), self.bias.as_ref().map(Param::get))
    }
}

/// Layer normalisation over the token's width.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// Scale `[D]`, called `weight` in checkpoints.
    pub gamma: Param,
    /// Shift `[D]`, called `bias` in checkpoints.
    pub beta: Param,
    eps: f64,
}
parameters!(LayerNorm { gamma as "weight", beta as "bias" });

impl LayerNorm {
    pub(crate) fn new(width: usize, eps: f64, device: &Device) -> Self {
        Self {
            gamma: Param::new(vec![1.0; width], &[width], true, device),
            beta: Param::new(vec![0.0; width], &[width], true, device),
            eps,
        }
    }

    /// Added to the variance.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// `[B, N, D]` → `[B, N, D]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        ops::layer_norm(x, self.gamma.get(), self.beta.get(), self.eps)
    }
}

/// Self-attention: the joint query-key-value map and the output map.
#[derive(Clone, Debug)]
pub struct Attention {
    /// `[D]` → `[3·D]`.
    pub qkv: Linear,
    /// `[D]` → `[D]`.
    pub proj: Linear,
    heads: usize,
    /// Whether keys have a bias; without one, its values stay 0.
    key_bias: bool,
}
parameters!(Attention { qkv, proj });

impl Attention {
    /// Queries, keys and values `[B, N, 3·D]` of normalised tokens `[B, N, D]`, turned by `rotation`.
    fn queries_keys_values(&self, x: Tensor<3>, rotation: Option<&Rotation>) -> Tensor<3> {
        let qkv = ops::linear(x, self.qkv.weight.matrix(), Some(self.bias()));
        match rotation {
            None => qkv,
            Some(rotation) => ops::rotate(qkv, rotation),
        }
    }

    /// The joint bias `[3·D]`, without a gradient for keys that have none.
    fn bias(&self) -> Tensor<1> {
        let bias: Tensor<1> = self.qkv.bias.as_ref().expect("blocks have biases").get();
        if self.key_bias {
            return bias;
        }
        let d = bias.dims()[0] / 3;
        let zeros = Tensor::zeros([d], &bias.device());
        let (queries, values) = (bias.clone().narrow(0, 0, d), bias.narrow(0, 2 * d, d));
        Tensor::cat(vec![queries, zeros, values], 0)
    }
}

/// The block's MLP, of hidden width `H`.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// `[D]` → `[H]`; with gates `[2·H]`, theirs first.
    pub fc1: Linear,
    /// `[H]` → `[D]`.
    pub fc2: Linear,
    gated: bool,
}
parameters!(Mlp { fc1, fc2 });

impl Mlp {
    /// Whether it is a SwiGLU.
    pub fn is_gated(&self) -> bool {
        self.gated
    }

    fn branch(&self) -> Branch {
        match self.gated {
            true => Branch::GatedMlp,
            false => Branch::Mlp,
        }
    }
}

/// Layer scale: a learned factor for each channel of a residual branch.
#[derive(Clone, Debug)]
pub struct LayerScale {
    /// Factors `[D]`.
    pub gamma: Param,
}
parameters!(LayerScale { gamma });

impl LayerScale {
    fn new(config: &VitConfig, device: &Device) -> Self {
        let (width, initial) = (config.width, init::layer_scale(config.depth));
        Self {
            gamma: Param::new(vec![initial; width], &[width], true, device),
        }
    }
}

/// A pre-norm transformer block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Mixes tokens.
    pub attn: Attention,
    /// Scales what attention adds, where the network has it.
    pub ls1: Option<LayerScale>,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// Acts on each token.
    pub mlp: Mlp,
    /// Scales what the MLP adds, where the network has it.
    pub ls2: Option<LayerScale>,
}
parameters!(Block {
    norm1,
    attn,
    ls1,
    norm2,
    mlp,
    ls2
});

impl Block {
    pub(super) fn new(config: &VitConfig, init: &mut Init, device: &Device) -> Self {
        let d = config.width;
        let hidden = config.mlp_hidden();
        let outputs = if config.gated_mlp { 2 * hidden } else { hidden };
        let norm = || LayerNorm::new(d, config.layer_norm_eps, device);
        let scale = || config.layer_scale.then(|| LayerScale::new(config, device));
        Self {
            norm1: norm(),
            attn: Attention {
                qkv: Linear::new(d, 3 * d, true, init, device),
                proj: Linear::new(d, d, true, init, device),
                heads: config.heads,
                key_bias: config.rope.is_none(),
            },
            ls1: scale(),
            norm2: norm(),
            mlp: Mlp {
                fc1: Linear::new(d, outputs, true, init, device),
                fc2: Linear::new(hidden, d, true, init, device),
                gated: config.gated_mlp,
            },
            ls2: scale(),
        }
    }

    /// Tokens `[R, D]` of all images of `tokens` → `[R, D]`; `index` is the block's place, for
    /// stochastic depth.
    pub(super) fn forward(
        &self,
        x: Tensor<2>,
        tokens: &Tokens,
        index: usize,
        drop: &dyn DropPath,
    ) -> Tensor<2> {
        let samples = tokens.layout(drop.factors(index, 0));
        let x = ops::branch(
            Branch::Attention(self.attn.heads),
            x,
            self.attention_params(),
            samples,
        );
        let samples = tokens.layout(drop.factors(index, 1));
        ops::branch(self.mlp.branch(), x, self.mlp_params(), samples)
    }

    /// The class tokens `[B, D]` of [`Block::forward`]'s result, without the others.
    pub(super) fn forward_class(
        &self,
        x: Tensor<2>,
        tokens: &Tokens,
        index: usize,
        drop: &dyn DropPath,
    ) -> Tensor<2> {
        let samples = tokens.layout(drop.factors(index, 0));
        let x = ops::branch(
            Branch::ClassAttention(self.attn.heads),
            x,
            self.attention_params(),
            samples,
        );
        let images = tokens.groups.iter().map(|group| group.images).sum();
        let samples = layout(&[TokenGroup { images, tokens: 1 }], drop.factors(index, 1));
        let samples = Arc::new(samples);
        ops::branch(self.mlp.branch(), x, self.mlp_params(), samples)
    }

    fn attention_params(&self) -> BranchParams {
        let Attention { qkv, proj, .. } = &self.attn;
        let params = branch_params(
            &self.norm1,
            qkv,
            proj,
            self.ls1.as_ref().map(|scale| &scale.gamma),
        );
        BranchParams {
            first_bias: self.attn.bias(),
            ..params
        }
    }

    fn mlp_params(&self) -> BranchParams {
        let scale = self.ls2.as_ref().map(|scale| &scale.gamma);
        branch_params(&self.norm2, &self.mlp.fc1, &self.mlp.fc2, scale)
    }

    /// Attention weights `[B, H, N, N]` of the block on its input `[B, N, D]`.
    pub(super) fn attention(&self, x: Tensor<3>, rotation: Option<&Rotation>) -> Tensor<4> {
        let qkv = self
            .attn
            .queries_keys_values(self.norm1.forward(x), rotation);
        ops::attention_probabilities(qkv, self.attn.heads)
    }

    /// Those of the first token, `[B, H, 1, N]`.
    pub(super) fn first_attention(&self, x: Tensor<3>, rotation: Option<&Rotation>) -> Tensor<4> {
        let qkv = self
            .attn
            .queries_keys_values(self.norm1.forward(x), rotation);
        ops::first_attention_probabilities(qkv, self.attn.heads)
    }
}

/// The operands of a branch. Layer scale is taken into the second map, which is exact and far
/// less to compute than the tokens are: γ · (W x + b) = (γ W) x + γ b.
pub(crate) fn branch_params(
    norm: &LayerNorm,
    first: &Linear,
    second: &Linear,
    scale: Option<&Param>,
) -> BranchParams {
    let bias = |linear: &Linear| linear.bias.as_ref().expect("blocks have biases").get();
    let scale: Option<Tensor<1>> = scale.map(Param::get);
    BranchParams {
        gamma: norm.gamma.get(),
        beta: norm.beta.get(),
        eps: norm.eps,
        first: first.weight.matrix(),
        first_bias: bias(first),
        second: match &scale {
            Some(scale) => second.weight.scaled_matrix(scale.clone()),
            None => second.weight.matrix(),
        },
        second_bias: match scale {
            Some(scale) => bias(second) * scale,
            None => bias(second),
        },
    }
}

/// The tokens of images of several sizes.
pub(super) struct Tokens {
    /// Images of each size.
    pub groups: Vec<TokenGroup>,
    /// Rotary positions of all tokens.
    pub rotation: Option<Arc<Rotation>>,
}

impl Tokens {
    fn layout(&self, factors: Option<Vec<f32>>) -> Arc<TokenLayout> {
        Arc::new(layout(&self.groups, factors).with_rotation(self.rotation.clone()))
    }
}

fn layout(groups: &[TokenGroup], factors: Option<Vec<f32>>) -> TokenLayout {
    match factors {
        Some(factors) => TokenLayout::new(groups, &factors),
        None => TokenLayout::all(groups),
    }
}
