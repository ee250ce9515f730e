//! Features of images of noise.

use burn::tensor::Tensor;
use dinolab_nn::init::Init;
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::{AnyBackbone, Backbone, BackboneConfig, Device, Parameters, Precision};

use super::{forward_operations, noise};
use crate::error::Result;

/// The forward pass of a batch.
pub struct EmbedBench {
    backbone: AnyBackbone,
    images: Tensor<4>,
    /// Nominal operations of a pass.
    pub operations: f64,
}

impl EmbedBench {
    /// Of `batch` images of side `side`.
    ///
    /// # Errors
    /// Sizes of the network out of their range.
    pub fn new(
        config: &BackboneConfig,
        precision: Precision,
        batch: usize,
        side: usize,
        device: &Device,
    ) -> Result<Self> {
        let mut backbone = AnyBackbone::new(config, &mut Init::new(0), device)?;
        backbone.set_precision(precision);
        Ok(Self {
            backbone,
            images: noise(batch, side, device),
            operations: batch as f64 * forward_operations(config, side),
        })
    }

    /// Does one pass.
    pub fn once(&self) {
        let images = vec![self.images.clone()];
        dinolab_nn::device::to_host_f32(self.backbone.class_tokens(images, &NoDropPath));
    }
}
