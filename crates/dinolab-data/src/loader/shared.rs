//! State shared by the workers of all epochs.

use std::sync::Arc;

use super::batch::Pool;
use super::config::LoaderConfig;
use super::image_cache::ImageCache;
use super::unusable::UnusableImages;
use crate::augment::{ChannelNormaliser, MultiCrop, Normaliser};
use crate::decode::Scaled;
use crate::{Result, Source};

/// What the workers of all epochs share.
pub(super) struct Shared {
    pub(super) source: Arc<dyn Source>,
    pub(super) crops: MultiCrop,
    /// For 8-bit RGB.
    pub(super) normaliser: Normaliser,
    /// For images of any other kind, where those are wanted.
    pub(super) channel_normaliser: Option<ChannelNormaliser>,
    pub(super) config: LoaderConfig,
    pub(super) unusable: Arc<UnusableImages>,
    pub(super) cache: ImageCache,
    pub(super) pool: Pool,
}

impl Shared {
    /// Images that workers may be ahead of the batches returned.
    pub(super) fn ahead(&self) -> usize {
        self.config.queue.max(self.config.own_images())
    }

    /// An image, from the cache, from its file where that was read already, or from the source.
    pub(super) fn image(&self, index: usize, file: Option<Result<Vec<u8>>>) -> Result<Arc<Scaled>> {
        if let Some(image) = self.cache.get(index) {
            return Ok(image);
        }
        let image = self.decoded(index, file)?;
        self.crops.pixels.check(&image.image)?;
        let image = Arc::new(image);
        self.cache.offer(index, &image);
        Ok(image)
    }

    fn decoded(&self, index: usize, file: Option<Result<Vec<u8>>>) -> Result<Scaled> {
        let file = file.transpose()?;
        if !self.config.scaled_decoding {
            let image = match file {
                Some(file) => self.source.decode(index, &file)?,
                None => self.source.image(index)?,
            };
            return Ok(Scaled::full(image));
        }
        let file = match file {
            Some(file) => Some(file),
            None => self.source.encoded(index)?,
        };
        match file {
            Some(file) => {
                let scale_of = |size| self.crops.scale_of(size);
                self.source.decode_scaled(index, &file, &scale_of)
            }
            // Made, not read.
            None => self.source.image(index).map(Scaled::full),
        }
    }
}
