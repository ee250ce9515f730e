//! Residual networks (He et al., arXiv 1512.03385) with torchvision's names and strides.
//!
//! The feature of an image is the mean of the last grid, which stands in the place of a class token;
//! the positions of that grid are the patches. While a network learns, batch normalisation uses the
//! statistics of each forward pass, over views of one size, and keeps a running average of them; all
//! other uses take the running statistics.

mod batch_norm;
mod block;
mod config;

use burn::tensor::{Device, Tensor};

use self::batch_norm::BatchNorm;
pub(crate) use self::batch_norm::EPS;
pub use self::batch_norm::Statistics;
pub(crate) use self::block::{Block, Layer};
use self::block::{Conv, relu};
pub use self::config::ResNetConfig;
use crate::init::Init;
use crate::ops::conv::Kernel;
use crate::param::parameters;
use crate::vit::DropPath;
use crate::{Backbone, Feature, Result, Tokens, ops};

/// The stem's convolution and pooling.
pub(crate) const STEM: [Kernel; 2] = [
    Kernel {
        side: 7,
        stride: 2,
        padding: 3,
    },
    Kernel {
        side: 3,
        stride: 2,
        padding: 1,
    },
];

/// A residual network without its classifier.
#[derive(Clone, Debug)]
pub struct ResNet {
    config: ResNetConfig,
    conv1: Conv,
    bn1: BatchNorm,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    layer4: Vec<Block>,
}
parameters!(ResNet {
    conv1,
    bn1,
    layer1,
    layer2,
    layer3,
    layer4
});

impl ResNet {
    /// A network with torchvision's initial weights: of convolutions normal with a variance of
    /// `2 / (O · k²)`.
    ///
    /// # Errors
    /// [`crate::Error::BadSetting`] where the sizes make no network.
    pub fn new(config: &ResNetConfig, init: &mut Init, device: &Device) -> Result<Self> {
        config.validate()?;
        let stage = |number: usize, init: &mut Init| {
            let blocks = 0..config.blocks[number];
            blocks
                .map(|block| Block::new(config, [number, block], init, device))
                .collect()
        };
        let stem = [config.width, config.channels, STEM[0].side];
        Ok(Self {
            config: config.clone(),
            conv1: Conv::new(stem, init, device),
            bn1: BatchNorm::new(config.width, device),
            layer1: stage(0, init),
            layer2: stage(1, init),
            layer3: stage(2, init),
            layer4: stage(3, init),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// The last grid, `[B, ⌈H/32⌉, ⌈W/32⌉, D]`, of images `[B, C, H, W]`.
    pub fn grid(&self, images: Tensor<4>, statistics: Statistics) -> Tensor<4> {
        let x = ops::channels_last(images);
        let x = self.stem().forward(x, relu(), statistics);
        let x = ops::max_pool(x, STEM[1]);
        let blocks = self.blocks();
        blocks.fold(x, |x, (_, block)| block.forward(x, statistics))
    }

    /// The first convolution.
    pub(crate) fn stem(&self) -> Layer<'_> {
        Layer {
            names: ["conv1", "bn1"],
            conv: &self.conv1,
            norm: &self.bn1,
            kernel: STEM[0],
        }
    }

    /// The blocks in order, each after its name.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (String, &Block)> {
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        (1..).zip(stages).flat_map(|(stage, blocks)| {
            let blocks = blocks.iter().enumerate();
            blocks.map(move |(number, block)| (format!("layer{stage}.{number}"), block))
        })
    }

    /// Features of views of one or more sizes, each `[B, C, H, W]`: the mean of the last grid, `[ΣB, D]`.
    fn pooled(&self, views: Vec<Tensor<4>>, feature: Feature, statistics: Statistics) -> Tensor<2> {
        let of_view = |images| {
            let grid = self.grid(images, statistics);
            let [b, h, w, d] = grid.dims();
            grid.reshape([b, h * w, d]).mean_dim(1).reshape([b, d])
        };
        let mean = Tensor::cat(views.into_iter().map(of_view).collect(), 0);
        match feature {
            Feature::Class | Feature::Patches => mean,
            Feature::Both => Tensor::cat(vec![mean.clone(), mean], 1),
        }
    }
}

impl Backbone for ResNet {
    fn describe(&self) -> String {
        format!("a residual network of width {}", self.width())
    }

    fn width(&self) -> usize {
        self.config.features()
    }

    fn stride(&self) -> usize {
        ResNetConfig::STRIDE
    }

    fn channels(&self) -> usize {
        self.config.channels
    }

    fn class_tokens(&self, views: Vec<Tensor<4>>, _: &dyn DropPath) -> Tensor<2> {
        self.pooled(views, Feature::Class, Statistics::Running)
    }

    /// The last grid of the images without what is beyond whole strides, so that each position stands
    /// for as many pixels.
    fn tokens(&self, images: Tensor<4>) -> Tokens {
        let [_, _, height, width] = images.dims();
        let stride = self.stride();
        let whole = [height, width].map(|side| (side / stride).max(1) * stride);
        let images = images
            .narrow(2, 0, whole[0].min(height))
            .narrow(3, 0, whole[1].min(width));
        tokens_of(self.grid(images, Statistics::Running))
    }

    /// The whole of the last grid: what is beyond whole strides is learned from, too.
    fn training_tokens(&self, images: Tensor<4>, _: &dyn DropPath) -> Tokens {
        tokens_of(self.grid(images, Statistics::OfBatch))
    }

    fn features(&self, views: Vec<Tensor<4>>, feature: Feature, _: &dyn DropPath) -> Tensor<2> {
        self.pooled(views, feature, Statistics::Running)
    }

    fn training_features(
        &self,
        views: Vec<Tensor<4>>,
        feature: Feature,
        _: &dyn DropPath,
    ) -> Tensor<2> {
        self.pooled(views, feature, Statistics::OfBatch)
    }
}

/// A grid `[B, h, w, D]` as patches, and its mean as what stands for a class token.
fn tokens_of(grid: Tensor<4>) -> Tokens {
    let [b, h, w, d] = grid.dims();
    let patches = grid.reshape([b, h * w, d]);
    Tokens {
        class: patches.clone().mean_dim(1).reshape([b, d]),
        patches,
        grid: (h, w),
    }
}
