//! The vision transformer (Dosovitskiy et al.), as DINO trains it.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::init::Init;
use crate::ops::branch::{Branch, BranchParams, Run, Samples};
use crate::param::{Param, parameters};
use crate::position::{PositionRule, resampling};
use crate::precision::single;
use crate::{Error, Result, ops};

/// The reference's epsilon of every layer normalisation.
const LAYER_NORM_EPS: f64 = 1e-6;

/// The sizes of a vision transformer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the trained image in pixels: position embeddings exist for
    /// `(image_size / patch_size)²` patches and are resampled for other sizes.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Channels of the image, `C`.
    pub channels: usize,
    /// Width of a token, `D`.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads, `H`; divides `width`.
    pub heads: usize,
    /// Hidden width of the MLP as a multiple of `width`.
    pub mlp_ratio: usize,
    /// How position embeddings follow another image size.
    #[serde(default)]
    pub position_rule: PositionRule,
}

impl VitConfig {
    /// The published sizes: `vit_tiny`, `vit_small`, `vit_base`; `None` for other names.
    pub fn named(arch: &str, patch_size: usize, image_size: usize) -> Option<Self> {
        let (width, heads) = match arch {
            "vit_tiny" => (192, 3),
            "vit_small" => (384, 6),
            "vit_base" => (768, 12),
            _ => return None,
        };
        Some(Self {
            image_size,
            patch_size,
            channels: 3,
            width,
            depth: 12,
            heads,
            mlp_ratio: 4,
            position_rule: PositionRule::default(),
        })
    }

    /// Patches along one side of the trained image.
    pub fn side(&self) -> usize {
        self.image_size / self.patch_size.max(1)
    }

    /// Checks that the sizes make a network.
    ///
    /// # Errors
    /// [`Error::BadSetting`] names the size that does not fit.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: String| Err(Error::BadSetting { field, reason });
        if self.patch_size == 0 || self.image_size < self.patch_size {
            return bad(
                "patch-size",
                format!(
                    "{} does not fit an image of {} pixels",
                    self.patch_size, self.image_size
                ),
            );
        }
        if self.width == 0 || self.depth == 0 || self.channels == 0 || self.mlp_ratio == 0 {
            return bad(
                "width",
                "width, depth, channels and mlp ratio must be at least 1".into(),
            );
        }
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            return bad(
                "heads",
                format!(
                    "{} heads do not divide the width {}",
                    self.heads, self.width
                ),
            );
        }
        Ok(())
    }
}

/// Which residual branches are dropped for which sample, during training of the student.
///
/// Stochastic depth (Huang et al.): a branch's output is multiplied by 0, or by
/// 1 / (1 − rate) where it survives, independently per sample, block and branch.
pub trait DropPath {
    /// Factors of all images, in the order of their tokens, of branch `branch` (0 attention,
    /// 1 MLP) of block `block`; `None` drops nothing.
    fn factors(&self, block: usize, branch: usize) -> Option<Vec<f32>>;
}

/// No branch is dropped.
pub struct KeepAll;

impl DropPath for KeepAll {
    fn factors(&self, _: usize, _: usize) -> Option<Vec<f32>> {
        None
    }
}

/// A linear map; `weight` `[O, I]` (a patch convolution's is `[O, C, p, p]`), `bias` `[O]`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Weights, output first.
    pub weight: Param,
    /// Offsets.
    pub bias: Option<Param>,
}
parameters!(Linear { weight, bias });

impl Linear {
    /// Truncated normal of deviation 0.02 and bias 0, as the reference starts every linear map.
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
}
parameters!(LayerNorm { gamma as "weight", beta as "bias" });

impl LayerNorm {
    fn new(width: usize, device: &Device) -> Self {
        Self {
            gamma: Param::new(vec![1.0; width], &[width], true, device),
            beta: Param::new(vec![0.0; width], &[width], true, device),
        }
    }

    /// Added to the variance.
    pub fn eps(&self) -> f64 {
        LAYER_NORM_EPS
    }

    /// `[B, N, D]` → `[B, N, D]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        ops::layer_norm(x, self.gamma.get(), self.beta.get(), LAYER_NORM_EPS)
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
}
parameters!(Attention { qkv, proj });

/// The block's MLP.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// `[D]` → `[ratio·D]`.
    pub fc1: Linear,
    /// `[ratio·D]` → `[D]`.
    pub fc2: Linear,
}
parameters!(Mlp { fc1, fc2 });

/// A pre-norm transformer block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Mixes tokens.
    pub attn: Attention,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// Acts on each token.
    pub mlp: Mlp,
}
parameters!(Block {
    norm1,
    attn,
    norm2,
    mlp
});

impl Block {
    fn new(config: &VitConfig, init: &mut Init, device: &Device) -> Self {
        let d = config.width;
        let hidden = d * config.mlp_ratio;
        Self {
            norm1: LayerNorm::new(d, device),
            attn: Attention {
                qkv: Linear::new(d, 3 * d, true, init, device),
                proj: Linear::new(d, d, true, init, device),
                heads: config.heads,
            },
            norm2: LayerNorm::new(d, device),
            mlp: Mlp {
                fc1: Linear::new(d, hidden, true, init, device),
                fc2: Linear::new(hidden, d, true, init, device),
            },
        }
    }

    /// Tokens `[R, D]` of all images of `runs` → `[R, D]`; `index` is the block's place, for
    /// stochastic depth.
    fn forward(&self, x: Tensor<2>, runs: &[Run], index: usize, drop: &dyn DropPath) -> Tensor<2> {
        let samples = samples_of(runs, drop.factors(index, 0));
        let x = ops::branch(
            Branch::Attention(self.attn.heads),
            x,
            self.attention_params(),
            samples,
        );
        let samples = samples_of(runs, drop.factors(index, 1));
        ops::branch(Branch::Mlp, x, self.mlp_params(), samples)
    }

    /// The class tokens `[B, D]` of [`Block::forward`]'s result, without the others.
    fn forward_class(
        &self,
        x: Tensor<2>,
        runs: &[Run],
        index: usize,
        drop: &dyn DropPath,
    ) -> Tensor<2> {
        let samples = samples_of(runs, drop.factors(index, 0));
        let x = ops::branch(
            Branch::ClassAttention(self.attn.heads),
            x,
            self.attention_params(),
            samples,
        );
        let images = runs.iter().map(|run| run.images).sum();
        let samples = samples_of(&[Run { images, tokens: 1 }], drop.factors(index, 1));
        ops::branch(Branch::Mlp, x, self.mlp_params(), samples)
    }

    fn attention_params(&self) -> BranchParams {
        params(&self.norm1, &self.attn.qkv, &self.attn.proj)
    }

    fn mlp_params(&self) -> BranchParams {
        params(&self.norm2, &self.mlp.fc1, &self.mlp.fc2)
    }

    /// Attention weights `[B, H, N, N]` of the block on its input `[B, N, D]`.
    fn attention(&self, x: Tensor<3>) -> Tensor<4> {
        ops::attention_probabilities(
            self.attn.qkv.forward(self.norm1.forward(x)),
            self.attn.heads,
        )
    }
}

fn params(norm: &LayerNorm, first: &Linear, second: &Linear) -> BranchParams {
    let bias = |linear: &Linear| linear.bias.as_ref().expect("blocks have biases").get();
    BranchParams {
        gamma: norm.gamma.get(),
        beta: norm.beta.get(),
        eps: LAYER_NORM_EPS,
        first: first.weight.matrix(),
        first_bias: bias(first),
        second: second.weight.matrix(),
        second_bias: bias(second),
    }
}

fn samples_of(runs: &[Run], factors: Option<Vec<f32>>) -> Arc<Samples> {
    Arc::new(match factors {
        Some(factors) => Samples::new(runs, &factors),
        None => Samples::all(runs),
    })
}

/// The patch embedding: a strided convolution, computed as one linear map of flat patches.
#[derive(Clone, Debug)]
pub struct PatchEmbed {
    /// Weight `[D, C, p, p]`.
    pub proj: Linear,
}
parameters!(PatchEmbed { proj });

/// A vision transformer.
#[derive(Clone, Debug)]
pub struct Vit {
    config: VitConfig,
    /// Class token `[1, 1, D]`.
    pub cls_token: Param,
    /// Position embeddings `[1, 1 + side², D]`, the class token's first.
    pub pos_embed: Param,
    /// Patches to tokens.
    pub patch_embed: PatchEmbed,
    /// The transformer blocks.
    pub blocks: Vec<Block>,
    /// The final normalisation.
    pub norm: LayerNorm,
}
parameters!(Vit {
    cls_token,
    pos_embed,
    patch_embed,
    blocks,
    norm
});

impl Vit {
    /// A network with the reference's initial weights.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where the sizes make no network.
    pub fn new(config: &VitConfig, init: &mut Init, device: &Device) -> Result<Self> {
        config.validate()?;
        let (d, p) = (config.width, config.patch_size);
        let fan_in = config.channels * p * p;
        let tokens = 1 + config.side() * config.side();
        let pos_embed = init.truncated_normal(tokens * d, 0.02);
        let cls_token = init.truncated_normal(d, 0.02);
        let weight = init.uniform_fan_in(d * fan_in, fan_in);
        let bias = init.uniform_fan_in(d, fan_in);
        Ok(Self {
            config: config.clone(),
            cls_token: Param::new(cls_token, &[1, 1, d], true, device),
            pos_embed: Param::new(pos_embed, &[1, tokens, d], true, device),
            patch_embed: PatchEmbed {
                proj: Linear {
                    weight: Param::new(weight, &[d, config.channels, p, p], true, device),
                    bias: Some(Param::new(bias, &[d], true, device)),
                },
            },
            blocks: (0..config.depth)
                .map(|_| Block::new(config, init, device))
                .collect(),
            norm: LayerNorm::new(d, device),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Images `[B, C, H, W]` as tokens `[B, 1 + N, D]`, class token first, positions added.
    /// Pixels beyond a whole number of patches are left out, as a strided convolution does.
    fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        let [b, c, height, width] = images.dims();
        let (p, d) = (self.config.patch_size, self.config.width);
        let (h, w) = (height / p, width / p);
        let patches = images
            .narrow(2, 0, h * p)
            .narrow(3, 0, w * p)
            .reshape([b, c, h, p, w, p])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([b, h * w, c * p * p]);
        let tokens = single(self.patch_embed.proj.forward(patches));
        let cls = self.cls_token.get::<3>().expand([b, 1, d]);
        Tensor::cat(vec![cls, tokens], 1) + self.positions(h, w)
    }

    /// Position embeddings `[1, 1 + h·w, D]` for `h × w` patches.
    fn positions(&self, h: usize, w: usize) -> Tensor<3> {
        let (side, d) = (self.config.side(), self.config.width);
        let all = self.pos_embed.get::<3>();
        match resampling(side, h, w, self.config.position_rule, &all.device()) {
            None => all,
            Some(matrix) => {
                let cls = all.clone().narrow(1, 0, 1);
                let grid = all.narrow(1, 1, side * side).reshape([side * side, d]);
                Tensor::cat(
                    vec![cls, ops::matmul(matrix, grid).reshape([1, h * w, d])],
                    1,
                )
            }
        }
    }

    /// Tokens `[R, D]` of images of several sizes, one size after the other, and their runs.
    fn embed_all(&self, sizes: Vec<Tensor<4>>) -> (Tensor<2>, Vec<Run>) {
        let mut runs = Vec::with_capacity(sizes.len());
        let mut tokens = Vec::with_capacity(sizes.len());
        for images in sizes {
            let x = self.embed(images);
            let [images, n, d] = x.dims();
            runs.push(Run { images, tokens: n });
            tokens.push(x.reshape([images * n, d]));
        }
        let x = match tokens.len() {
            1 => tokens.remove(0),
            _ => Tensor::cat(tokens, 0),
        };
        (x, runs)
    }

    /// Class tokens after the final norm: images `[B, C, H, W]` → `[B, D]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward_views(vec![images], &KeepAll)
    }

    /// Class tokens after the final norm of images of several sizes, each `[B, C, H, W]` →
    /// `[ΣB, D]`. The tokens of all of them go through each linear map together; attention alone
    /// keeps images apart. The last block computes what reaches class tokens and no more.
    pub fn forward_views(&self, views: Vec<Tensor<4>>, drop: &dyn DropPath) -> Tensor<2> {
        let (mut x, runs) = self.embed_all(views);
        let (last, before) = self.blocks.split_last().expect("a network has blocks");
        for (i, block) in before.iter().enumerate() {
            x = block.forward(x, &runs, i, drop);
        }
        let x = last.forward_class(x, &runs, before.len(), drop);
        let [b, d] = x.dims();
        self.norm.forward(x.reshape([1, b, d])).reshape([b, d])
    }

    /// All tokens of the last `n` blocks, each after the *final* norm: `n` × `[B, 1 + N, D]`,
    /// earliest block first.
    pub fn intermediate(&self, images: Tensor<4>, n: usize) -> Vec<Tensor<3>> {
        let (mut x, runs) = self.embed_all(vec![images]);
        let Run { images, tokens } = runs[0];
        let first = self.blocks.len().saturating_sub(n);
        let mut taps = Vec::with_capacity(n);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, &runs, i, &KeepAll);
            if i >= first {
                let shape = [images, tokens, self.config.width];
                taps.push(self.norm.forward(x.clone().reshape(shape)));
            }
        }
        taps
    }

    /// Attention weights of the last block: `[B, H, 1 + N, 1 + N]`.
    pub fn last_attention(&self, images: Tensor<4>) -> Tensor<4> {
        let (mut x, runs) = self.embed_all(vec![images]);
        let Run { images, tokens } = runs[0];
        let (last, before) = self.blocks.split_last().expect("a network has blocks");
        for (i, block) in before.iter().enumerate() {
            x = block.forward(x, &runs, i, &KeepAll);
        }
        last.attention(x.reshape([images, tokens, self.config.width]))
    }

    /// Attention of the last block's class token to the patches: `[B, H, h, w]`, where
    /// `h × w` are the image's patches. Each head's map sums to 1 less the class token's share.
    pub fn class_attention(&self, images: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = images.dims();
        let (h, w) = (
            height / self.config.patch_size,
            width / self.config.patch_size,
        );
        let all = self.last_attention(images);
        let [b, heads, _, _] = all.dims();
        all.narrow(2, 0, 1)
            .narrow(3, 1, h * w)
            .reshape([b, heads, h, w])
    }
}
