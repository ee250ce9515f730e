//! Worker threads that turn images into batches of crops.
//!
//! ```text
//! place in the epoch's order ──► reader: file ──► worker: image ──► views ──► Epoch: batch
//! ```
//!
//! What a batch holds depends on the seed, the epoch and the source alone: not on the
//! number of threads, on which of them was faster, or on where an epoch was resumed.
//!
//! Memory is bounded: at most [`LoaderConfig::queue`] images are under way, each with buffers
//! that are used again, and the files of at most twice [`LoaderConfig::read_ahead`] of them. With a
//! [`LoaderConfig::shuffle_buffer`] so many files wait as well, at most 1 GiB of them.

mod bad;
mod batch;
mod cache;
mod epoch;
mod plan;
mod read;
mod stream;
mod work;

pub use bad::BadImage;
pub use batch::{Crops, ImageCrops};
pub use epoch::Epoch;

use std::sync::Arc;

use crate::augment::{ChannelNormaliser, MultiCrop, Normaliser};
use crate::decode::Pixels;
use crate::{Error, Result, Source};
use bad::BadImages;
use batch::Pool;
use cache::Cache;
use plan::Plan;

/// How the loader reads.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderConfig {
    /// Images per batch, `B`.
    pub batch_size: usize,
    /// Worker threads.
    pub workers: usize,
    /// Files that are read at once, and as many again that may wait for a worker; the threads
    /// that do it only wait for storage. 0 leaves reading to the workers.
    pub read_ahead: usize,
    /// Images that may be finished ahead of the training step. At least one batch is.
    pub queue: usize,
    /// Seed of order and crops.
    pub seed: u64,
    /// Largest share of unusable images, 0–1: an epoch fails once more than
    /// `floor(max_bad_images × images)` different ones were met.
    pub max_bad_images: f64,
    /// Decoded images are kept until they fill this many bytes; 0 keeps none. Changes
    /// speed, never results.
    pub cache_bytes: u64,
    /// Where the source has shards, they are visited one after the other, through a shuffle buffer
    /// of so many images ([`shard_order`](crate::random::shard_order)); 0 visits all images in
    /// any order.
    pub shuffle_buffer: usize,
    /// Large photographs are decoded to as many pixels as the crops need
    /// ([`MultiCrop::scale_of`]), where the source can; within the error that its documentation
    /// states, crops are those of the full image.
    pub scaled_decoding: bool,
}

/// Files read at once unless told otherwise: at 10 ms a file, as networks have it, enough for
/// 1,600 images a second.
pub const READ_AHEAD: usize = 16;

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            batch_size: 64,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            read_ahead: READ_AHEAD,
            queue: 0,
            seed: 0,
            max_bad_images: 0.01,
            cache_bytes: 0,
            shuffle_buffer: 0,
            scaled_decoding: false,
        }
    }
}

impl LoaderConfig {
    /// Checks every setting's range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: String| Err(Error::BadSetting { field, reason });
        for (field, value, most) in [
            ("batch-size", self.batch_size, 1 << 20),
            ("num-workers", self.workers, 1 << 10),
        ] {
            if !(1..=most).contains(&value) {
                return bad(field, format!("must be between 1 and {most}, not {value}"));
            }
        }
        for (field, value, most) in [
            ("queue", self.queue, 1 << 24),
            ("read-ahead", self.read_ahead, 1 << 10),
        ] {
            if value > most {
                return bad(field, format!("must be at most {most}, not {value}"));
            }
        }
        if !(0.0..=1.0).contains(&self.max_bad_images) {
            let reason = format!("must be between 0 and 1, not {}", self.max_bad_images);
            return bad("max-bad-images", reason);
        }
        Ok(())
    }
}

/// Reads a source into batches of crops.
///
/// Cheap to clone; clones share the register of bad images, the cache and the buffers.
#[derive(Clone)]
pub struct Loader {
    shared: Arc<Shared>,
}

/// What the workers of all epochs share.
struct Shared {
    source: Arc<dyn Source>,
    crops: MultiCrop,
    /// For 8-bit RGB.
    normaliser: Normaliser,
    /// For images of any other kind, where those are wanted.
    channel_normaliser: Option<ChannelNormaliser>,
    config: LoaderConfig,
    bad: BadImages,
    cache: Cache,
    pool: Pool,
}

impl Shared {
    /// Images that workers may be ahead of the batches returned.
    fn ahead(&self) -> usize {
        self.config.queue.max(self.config.batch_size)
    }
}

impl Loader {
    /// A loader over all images of a source. Fails for settings out of range and for a
    /// source without images; a source with fewer images than a batch has no batches.
    pub fn new(source: Arc<dyn Source>, crops: MultiCrop, config: LoaderConfig) -> Result<Self> {
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
            bad: BadImages::new(source.len(), config.max_bad_images),
            cache: Cache::new(source.len(), config.cache_bytes),
            // Those under way, and those of a batch that was returned.
            pool: Pool::new(config.queue.max(config.batch_size) + config.batch_size),
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
    pub fn epoch(&self, epoch: u64, first_batch: usize) -> Epoch {
        let batches = self.batches_per_epoch().saturating_sub(first_batch);
        self.start(epoch, first_batch, Some(batches))
    }

    /// Like [`Loader::epoch`], but goes on with the epochs after it, without end and
    /// without a pause between them. (It does end where an epoch has no batches.)
    pub fn batches(&self, epoch: u64, first_batch: usize) -> Epoch {
        let batches = (self.batches_per_epoch() == 0).then_some(0);
        self.start(epoch, first_batch, batches)
    }

    /// Like [`Loader::batches`], but only the first `per_epoch` batches of each epoch, and `count` in
    /// all: what a run needs, and nothing that it would not look at.
    pub fn stretch(&self, epoch: u64, first_batch: usize, per_epoch: usize, count: usize) -> Epoch {
        let per_epoch = per_epoch.min(self.batches_per_epoch());
        let count = if per_epoch == 0 { 0 } else { count };
        let plan = Plan::new(epoch, first_batch, per_epoch, Some(count));
        Epoch::start(&self.shared, plan)
    }

    fn start(&self, epoch: u64, first_batch: usize, count: Option<usize>) -> Epoch {
        let plan = Plan::new(epoch, first_batch, self.batches_per_epoch(), count);
        Epoch::start(&self.shared, plan)
    }

    /// Gives a batch's buffers back, to be filled again.
    pub fn recycle(&self, crops: Crops) {
        self.shared.pool.put(crops);
    }

    /// The images found unusable so far, by index.
    pub fn bad_images(&self) -> Vec<BadImage> {
        self.shared.bad.list()
    }
}
