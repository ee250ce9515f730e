//! Worker threads that turn images into batches of crops.
//!
//! ```text
//! place in the epoch's order ──► reader: file ──► worker: image ──► views ──► BatchIter: batch
//! ```
//!
//! A batch depends on the seed, the epoch and the source alone: not on the number of threads,
//! their timing, or the batch at which an epoch was resumed.
//!
//! Memory is bounded: at most [`LoaderConfig::queue`] images are in flight, each with reused buffers,
//! and the files of at most twice [`LoaderConfig::read_ahead`] images. A
//! [`LoaderConfig::shuffle_buffer`] adds the files of that many images, at most 1 GiB.

mod batch;
mod batch_iter;
mod config;
mod image_cache;
mod plan;
mod read;
mod shared;
mod stream;
mod unusable;
mod work;

pub use batch::{Crops, ImageCrops};
pub use batch_iter::BatchIter;
pub use config::{LoaderConfig, READ_AHEAD, Share};
pub use unusable::UnusableImage;

use std::sync::Arc;

use crate::augment::{MultiCrop, Normaliser};
use crate::decode::Pixels;
use crate::{Error, Result, Source};
use batch::Pool;
use image_cache::ImageCache;
use plan::BatchPlan;
use shared::Shared;
use unusable::UnusableImages;

/// Reads a source into batches of crops.
///
/// Cheap to clone; clones share the list of unusable images, the cache and the buffers.
#[derive(Clone)]
pub struct Loader {
    shared: Arc<Shared>,
}

impl Loader {
    /// A loader over all images of a source. Fails for settings out of range and for a
    /// source without images; a source with fewer images than a batch has no batches.
    pub fn new(source: Arc<dyn Source>, crops: MultiCrop, config: LoaderConfig) -> Result<Self> {
        let unusable = UnusableImages::new(source.len(), config.max_unusable);
        Self::with(source, crops, config, Arc::new(unusable))
    }

    /// A loader of the same images with the same settings that makes other crops. The list of
    /// unusable images is shared; the cache is not, since crops decide how large images are decoded.
    pub fn with_crops(&self, crops: MultiCrop) -> Result<Self> {
        let Shared {
            source,
            config,
            unusable,
            ..
        } = &*self.shared;
        Self::with(source.clone(), crops, config.clone(), unusable.clone())
    }

    fn with(
        source: Arc<dyn Source>,
        crops: MultiCrop,
        config: LoaderConfig,
        unusable: Arc<UnusableImages>,
    ) -> Result<Self> {
        config.validate()?;
        crops.validate()?;
        if source.is_empty() {
            return Err(Error::NoImages {
                path: "source".into(),
                reason: "it is empty".into(),
            });
        }
        let shared = Shared {
            normaliser: match crops.pixels {
                Pixels::Rgb => crops.normaliser()?,
                Pixels::Stored { .. } => Normaliser::default(),
            },
            channel_normaliser: match crops.pixels {
                Pixels::Rgb => None,
                Pixels::Stored { .. } => Some(crops.channel_normaliser()?),
            },
            unusable,
            cache: ImageCache::new(source.len(), config.cache_bytes),
            // Those under way, and those of a batch that was returned.
            pool: Pool::new(config.queue.max(config.own_images()) + config.own_images()),
            source,
            crops,
            config,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Whole batches in an epoch; the images left over are skipped (others in each epoch).
    pub fn batches_per_epoch(&self) -> usize {
        self.shared.source.len() / self.shared.config.batch_size
    }

    /// Starts the workers on an epoch, at batch `first_batch` (0 unless resumed).
    ///
    /// They work ahead of the iterator by [`LoaderConfig::queue`] images, at least one
    /// batch, and stop when it is dropped. To keep them busy between epochs, use
    /// [`Loader::batches`].
    pub fn epoch(&self, epoch: u64, first_batch: usize) -> BatchIter {
        let batches = self.batches_per_epoch().saturating_sub(first_batch);
        self.start(epoch, first_batch, Some(batches))
    }

    /// Like [`Loader::epoch`], but continues with the following epochs, endlessly and without a
    /// pause in between. (It ends at once if an epoch has no batches.)
    pub fn batches(&self, epoch: u64, first_batch: usize) -> BatchIter {
        let batches = (self.batches_per_epoch() == 0).then_some(0);
        self.start(epoch, first_batch, batches)
    }

    /// Like [`Loader::batches`], but only the first `per_epoch` batches of each epoch, and `count` in
    /// all: exactly the batches that a training run uses.
    pub fn train_batches(
        &self,
        epoch: u64,
        first_batch: usize,
        per_epoch: usize,
        count: usize,
    ) -> BatchIter {
        let per_epoch = per_epoch.min(self.batches_per_epoch());
        let count = if per_epoch == 0 { 0 } else { count };
        let plan = BatchPlan::new(epoch, first_batch, per_epoch, Some(count));
        BatchIter::start(&self.shared, plan)
    }

    fn start(&self, epoch: u64, first_batch: usize, count: Option<usize>) -> BatchIter {
        let plan = BatchPlan::new(epoch, first_batch, self.batches_per_epoch(), count);
        BatchIter::start(&self.shared, plan)
    }

    /// Returns a batch's buffers to the loader, which reuses them.
    pub fn recycle(&self, crops: Crops) {
        self.shared.pool.put(crops);
    }

    /// The images found unusable so far, by index.
    pub fn unusable_images(&self) -> Vec<UnusableImage> {
        self.shared.unusable.list()
    }
}
