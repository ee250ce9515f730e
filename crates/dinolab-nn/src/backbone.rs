//! What is asked of a backbone, and what only some can give.
//!
//! Every [`Backbone`] turns images into tokens. Attention maps and the tokens of several blocks are
//! capabilities of their own: whoever needs one takes `&dyn AttentionMaps` or `&dyn BlockTokens`, so
//! a network without it cannot be passed. [`attention_maps`] and [`block_tokens`] turn a backbone
//! whose type is only known at run time into one of them, or into an error that says what is
//! missing.

mod any;
mod config;

use burn::tensor::{Device, Tensor};

pub use self::any::AnyBackbone;
pub use self::config::BackboneConfig;

use crate::vit::{DropPath, NoDropPath, Vit};
use crate::{Error, Feature, Parameters, Result};

/// The metadata key of weight files that holds the sizes of a residual network.
pub(crate) const RESNET: &str = "resnet";
/// That of a ConvNeXt.
pub(crate) const CONVNEXT: &str = "convnext";

/// Tokens of a batch of images of one size, after the final norm.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Class tokens, or what the network has in their place, `[B, D]`.
    pub class: Tensor<2>,
    /// Patch tokens, row by row, `[B, h·w, D]`.
    pub patches: Tensor<3>,
    /// Rows and columns of patches, `(h, w)`.
    pub grid: (usize, usize),
}

impl Tokens {
    /// The feature of each image, `[B, F]`.
    pub fn feature(&self, feature: Feature) -> Tensor<2> {
        let [b, n, d] = self.patches.dims();
        let class = self.class.clone().reshape([b, 1, d]);
        feature.of(Tensor::cat(vec![class, self.patches.clone()], 1), n)
    }
}

/// A network from images to tokens.
pub trait Backbone: Parameters {
    /// What it is, with its article: "a vision transformer of width 384".
    fn describe(&self) -> String;

    /// Width of a token, `D`.
    fn width(&self) -> usize;

    /// Pixels along one side of what a patch token stands for.
    fn stride(&self) -> usize;

    /// Channels of the images, `C`.
    fn channels(&self) -> usize;

    /// Class tokens of views of one or more sizes, each `[B, C, H, W]` → `[ΣB, D]` in the same
    /// order. `drop` decides on residual branches in training; a network without stochastic depth
    /// ignores it.
    fn class_tokens(&self, views: Vec<Tensor<4>>, drop: &dyn DropPath) -> Tensor<2>;

    /// Class and patch tokens of images `[B, C, H, W]`.
    fn tokens(&self, images: Tensor<4>) -> Tokens;

    /// Features of views of one or more sizes, each `[B, C, H, W]` → `[ΣB, F]` in the same order, `F`
    /// the [width](Feature::width) of the feature; `drop` as in [`Backbone::class_tokens`].
    ///
    /// Patches are averaged over what [`Backbone::tokens`] returns, which knows no stochastic depth: a
    /// network that has it brings its own.
    fn features(&self, views: Vec<Tensor<4>>, feature: Feature, drop: &dyn DropPath) -> Tensor<2> {
        if feature.is_class() {
            return self.class_tokens(views, drop);
        }
        let of_view = |images| self.tokens(images).feature(feature);
        Tensor::cat(views.into_iter().map(of_view).collect(), 0)
    }

    /// [`Backbone::features`] of a network that learns: batch normalisation uses the statistics of the
    /// views of each size, and keeps a running average of them. A network without it computes
    /// the same.
    fn training_features(
        &self,
        views: Vec<Tensor<4>>,
        feature: Feature,
        drop: &dyn DropPath,
    ) -> Tensor<2> {
        self.features(views, feature, drop)
    }

    /// [`Backbone::tokens`] of a network that learns, as [`Backbone::training_features`] is of features. By
    /// default they are the same.
    fn training_tokens(&self, images: Tensor<4>, _: &dyn DropPath) -> Tokens {
        self.tokens(images)
    }

    /// Its attention maps, if it has any.
    fn as_attention_maps(&self) -> Option<&dyn AttentionMaps> {
        None
    }

    /// The tokens of its blocks, if it has blocks of equal width.
    fn as_block_tokens(&self) -> Option<&dyn BlockTokens> {
        None
    }

    /// The device of its parameters, without gradients.
    fn device(&self) -> Device {
        let mut device = None;
        self.visit("", &mut |_, param| {
            device.get_or_insert_with(|| param.flat().device());
        });
        device.expect("a network has parameters")
    }
}

/// A backbone whose class token attends to patches.
pub trait AttentionMaps: Backbone {
    /// Attention of the last block's class token to the patches: images `[B, C, H, W]` →
    /// `[B, heads, h, w]`.
    fn class_attention(&self, images: Tensor<4>) -> Tensor<4>;
}

/// A backbone of blocks whose tokens can be had.
pub trait BlockTokens: Backbone {
    /// Number of blocks.
    fn depth(&self) -> usize;

    /// All tokens of the last `n` blocks, each after the final norm: `n` × `[B, 1 + h·w, D]`, class
    /// token first, earliest block first.
    fn last_blocks(&self, images: Tensor<4>, n: usize) -> Vec<Tensor<3>>;
}

/// The attention maps of a backbone.
///
/// # Errors
/// [`Error::Lacks`] if it has none.
pub fn attention_maps(backbone: &dyn Backbone) -> Result<&dyn AttentionMaps> {
    backbone
        .as_attention_maps()
        .ok_or_else(|| lacks(backbone, "attention maps"))
}

/// The block tokens of a backbone.
///
/// # Errors
/// [`Error::Lacks`] if it has none.
pub fn block_tokens(backbone: &dyn Backbone) -> Result<&dyn BlockTokens> {
    backbone
        .as_block_tokens()
        .ok_or_else(|| lacks(backbone, "tokens of several blocks"))
}

/// All tokens of the last `n` blocks, class token first: `n` × `[B, 1 + h·w, D]`, or with what else a
/// network has between class token and patches. A network without [`BlockTokens`] has one block in
/// this sense, whose tokens are [`Backbone::tokens`].
///
/// # Errors
/// [`Error::Lacks`] for several blocks of such a network.
pub fn last_tokens(backbone: &dyn Backbone, images: Tensor<4>, n: usize) -> Result<Vec<Tensor<3>>> {
    if n == 1 && backbone.as_block_tokens().is_none() {
        let Tokens { class, patches, .. } = backbone.tokens(images);
        let [b, d] = class.dims();
        return Ok(vec![Tensor::cat(
            vec![class.reshape([b, 1, d]), patches],
            1,
        )]);
    }
    Ok(block_tokens(backbone)?.last_blocks(images, n))
}

fn lacks(backbone: &dyn Backbone, capability: &'static str) -> Error {
    Error::Lacks {
        network: backbone.describe(),
        capability,
    }
}

impl Backbone for Vit {
    fn describe(&self) -> String {
        format!("a vision transformer of width {}", self.config().width)
    }

    fn width(&self) -> usize {
        self.config().width
    }

    fn stride(&self) -> usize {
        self.config().patch_size
    }

    fn channels(&self) -> usize {
        self.config().channels
    }

    fn class_tokens(&self, views: Vec<Tensor<4>>, drop: &dyn DropPath) -> Tensor<2> {
        self.forward_views(views, drop)
    }

    fn features(&self, views: Vec<Tensor<4>>, feature: Feature, drop: &dyn DropPath) -> Tensor<2> {
        Vit::features(self, views, feature, drop)
    }

    fn tokens(&self, images: Tensor<4>) -> Tokens {
        self.training_tokens(images, &NoDropPath)
    }

    fn training_tokens(&self, images: Tensor<4>, drop: &dyn DropPath) -> Tokens {
        let [b, _, height, width] = images.dims();
        let grid = (height / self.stride(), width / self.stride());
        let all = self.all_tokens(images, drop);
        let [_, n, d] = all.dims();
        Tokens {
            class: all.clone().narrow(1, 0, 1).reshape([b, d]),
            patches: all.narrow(1, 1, n - 1),
            grid,
        }
    }

    fn as_attention_maps(&self) -> Option<&dyn AttentionMaps> {
        Some(self)
    }

    fn as_block_tokens(&self) -> Option<&dyn BlockTokens> {
        Some(self)
    }
}

impl AttentionMaps for Vit {
    fn class_attention(&self, images: Tensor<4>) -> Tensor<4> {
        Vit::class_attention(self, images)
    }
}

impl BlockTokens for Vit {
    fn depth(&self) -> usize {
        self.config().depth
    }

    fn last_blocks(&self, images: Tensor<4>, n: usize) -> Vec<Tensor<3>> {
        self.intermediate(images, n)
    }
}
