//! Features of images of noise.

use burn::tensor::Tensor;
use dinolab_nn::{Device, Parameters, Precision, Vit, VitConfig, init::Init};

use super::{forward_operations, noise};
use crate::error::Result;

/// The forward pass of a batch.
pub struct EmbedBench {
    vit: Vit,
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
        config: &VitConfig,
        precision: Precision,
        batch: usize,
        side: usize,
        device: &Device,
    ) -> Result<Self> {
        let mut vit = Vit::new(config, &mut Init::new(0), device)?;
        vit.set_precision(precision);
        Ok(Self {
            vit,
            images: noise(batch, side, device),
            operations: batch as f64 * forward_operations(config, side),
        })
    }

    /// Does one pass.
    pub fn once(&self) {
        dinolab_nn::device::to_host_f32(self.vit.forward(self.images.clone()));
    }
}
