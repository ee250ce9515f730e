//! ConvNeXt (Liu et al., arXiv 2201.03545) with the names of its authors' code, which DINOv3's
//! convolutional networks have, too.
//!
//! The feature of an image is the mean of the last grid after the final norm, which stands in the place
//! of a class token. The positions of that grid, each after the same norm, are the patches, as in DINOv3
//! (arXiv 2508.10104, section 7).

mod block;
mod config;
mod downsampling;

use burn::tensor::{Device, Tensor};

pub(crate) use self::block::{Block, Conv};
pub use self::config::ConvNextConfig;
use self::downsampling::{Downsampling, Step};
use crate::init::Init;
use crate::param::parameters;
use crate::vit::{DropPath, LayerNorm, NoDropPath};
use crate::{Backbone, Feature, Result, Tokens, ops};

/// A ConvNeXt without its classifier.
#[derive(Clone, Debug)]
pub struct ConvNext {
    config: ConvNextConfig,
    downsampling: Downsampling,
    stages: Vec<Vec<Block>>,
    norm: LayerNorm,
}
parameters!(ConvNext {
    downsampling as "downsample_layers",
    stages,
    norm
});

impl ConvNext {
    /// A network with the paper's initial weights – truncated normal with a standard deviation of 0.02,
    /// biases of 0 – but for layer scale, which starts from its 1e-6 in networks of 25 blocks and more, in
    /// smaller ones from more, as that of transformers does.
    ///
    /// # Errors
    /// [`crate::Error::BadSetting`] where the sizes make no network.
    pub fn new(config: &ConvNextConfig, init: &mut Init, device: &Device) -> Result<Self> {
        config.validate()?;
        let downsampling = Downsampling::new(config, init, device);
        let sizes = config.widths.into_iter().zip(config.depths);
        let stage = |(width, depth)| {
            let all = config.blocks();
            let blocks = (0..depth).map(|_| Block::new(width, all, init, device));
            blocks.collect()
        };
        Ok(Self {
            config: config.clone(),
            downsampling,
            stages: sizes.map(stage).collect(),
            norm: LayerNorm::new(config.features(), config.layer_norm_eps, device),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &ConvNextConfig {
        &self.config
    }

    /// The blocks of each stage, and what precedes them.
    pub(crate) fn stages(&self) -> impl Iterator<Item = (Step<'_>, &[Block])> {
        let stages = self.stages.iter().enumerate();
        stages.map(|(stage, blocks)| (self.downsampling.step(stage), &blocks[..]))
    }

    /// The final norm.
    pub(crate) fn norm(&self) -> &LayerNorm {
        &self.norm
    }

    /// The last grid, `[B, ⌊H/32⌋, ⌊W/32⌋, D]`, of images `[B, C, H, W]`, before the final norm. `drop` counts
    /// the images from `first` on. A side of fewer than 32 pixels is extended by zeros.
    fn grid(&self, images: Tensor<4>, first: usize, drop: &dyn DropPath) -> Tensor<4> {
        let batch = images.dims()[0];
        let x = ops::channels_last(at_least(images, ConvNextConfig::STRIDE));
        let mut x = self.downsampling.stem(x);
        let mut number = 0;
        for (stage, blocks) in self.stages.iter().enumerate() {
            if stage > 0 {
                x = self.downsampling.before(stage, x);
            }
            for block in blocks {
                let factors = drop.factors(number, block::MLP);
                let own = factors.map(|all| all[first..first + batch].to_vec());
                x = block.forward(x, own);
                number += 1;
            }
        }
        x
    }

    fn pooled(&self, views: Vec<Tensor<4>>, feature: Feature, drop: &dyn DropPath) -> Tensor<2> {
        let mut first = 0;
        let of_view = |images: Tensor<4>| {
            let batch = images.dims()[0];
            let grid = self.grid(images, first, drop);
            first += batch;
            match feature.is_class() {
                true => self.class(&grid),
                false => self.tokens_of(grid).feature(feature),
            }
        };
        Tensor::cat(views.into_iter().map(of_view).collect(), 0)
    }

    /// The mean of a grid `[B, h, w, D]` after the final norm, `[B, D]`.
    fn class(&self, grid: &Tensor<4>) -> Tensor<2> {
        let [b, h, w, d] = grid.dims();
        let mean = grid.clone().reshape([b, h * w, d]).mean_dim(1);
        self.norm.forward(mean.reshape([1, b, d])).reshape([b, d])
    }

    fn tokens_of(&self, grid: Tensor<4>) -> Tokens {
        let [b, h, w, d] = grid.dims();
        Tokens {
            class: self.class(&grid),
            patches: self.norm.forward(grid.reshape([b, h * w, d])),
            grid: (h, w),
        }
    }
}

/// Images `[B, C, H, W]` with zeros below and to the right of those that are smaller than `side`.
fn at_least(images: Tensor<4>, side: usize) -> Tensor<4> {
    [2, 3].into_iter().fold(images, |images, dim| {
        let mut shape = images.dims();
        let missing = side.saturating_sub(shape[dim]);
        if missing == 0 {
            return images;
        }
        shape[dim] = missing;
        let zeros = Tensor::zeros(shape, &images.device());
        Tensor::cat(vec![images, zeros], dim)
    })
}

impl Backbone for ConvNext {
    fn describe(&self) -> String {
        format!("a ConvNeXt of width {}", self.width())
    }

    fn width(&self) -> usize {
        self.config.features()
    }

    fn stride(&self) -> usize {
        ConvNextConfig::STRIDE
    }

    fn channels(&self) -> usize {
        self.config.channels
    }

    fn class_tokens(&self, views: Vec<Tensor<4>>, drop: &dyn DropPath) -> Tensor<2> {
        self.pooled(views, Feature::Class, drop)
    }

    fn tokens(&self, images: Tensor<4>) -> Tokens {
        self.training_tokens(images, &NoDropPath)
    }

    fn training_tokens(&self, images: Tensor<4>, drop: &dyn DropPath) -> Tokens {
        self.tokens_of(self.grid(images, 0, drop))
    }

    fn features(&self, views: Vec<Tensor<4>>, feature: Feature, drop: &dyn DropPath) -> Tensor<2> {
        self.pooled(views, feature, drop)
    }
}
