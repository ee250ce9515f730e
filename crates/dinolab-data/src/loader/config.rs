//! Settings of the loader.

use crate::{Error, Result};

/// How the loader reads.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderConfig {
    /// Images per batch, `B`.
    pub batch_size: usize,
    /// Which images of every batch this loader makes.
    pub share: Share,
    /// Worker threads.
    pub workers: usize,
    /// Number of files that are read concurrently, by threads that only wait for storage. As many again
    /// may wait for a worker. 0 leaves reading to the workers.
    pub read_ahead: usize,
    /// Images that may be finished ahead of the training step. At least one batch is.
    pub queue: usize,
    /// Seed of order and crops.
    pub seed: u64,
    /// Largest share of unusable images, 0–1: an epoch fails once more than
    /// `floor(max_unusable × images)` different ones were found.
    pub max_unusable: f64,
    /// Size of the cache of decoded images in bytes; 0 disables it. Changes speed, never results.
    pub cache_bytes: u64,
    /// If the source has shards, they are visited one after the other, shuffled within a buffer of this
    /// many images ([`shard_order`](crate::random::shard_order)); 0 shuffles all images.
    pub shuffle_buffer: usize,
    /// Large photographs are decoded to as many pixels as the crops need
    /// ([`MultiCrop::scale_of`](crate::augment::MultiCrop::scale_of)), where the source can; within the error that its documentation
    /// states, crops are those of the full image.
    pub scaled_decoding: bool,
    /// Crops are drawn anew in this many epochs only; the later ones repeat them in turn. 0 draws new ones
    /// in every epoch.
    pub fixed_crops: u64,
}

/// The images of a batch that one of several processes makes: of `of` equal parts, number `rank`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which part, from 0.
    pub rank: usize,
    /// Number of parts; divides the batch.
    pub of: usize,
}

/// All images.
impl Default for Share {
    fn default() -> Self {
        Self { rank: 0, of: 1 }
    }
}

/// Default of [`LoaderConfig::read_ahead`]: at 10 ms a file, as over a network, enough for 1,600 images/s.
pub const READ_AHEAD: usize = 16;

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            batch_size: 64,
            share: Share::default(),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            read_ahead: READ_AHEAD,
            queue: 0,
            seed: 0,
            max_unusable: 0.01,
            cache_bytes: 0,
            shuffle_buffer: 0,
            scaled_decoding: false,
            fixed_crops: 0,
        }
    }
}

impl LoaderConfig {
    /// Images of a batch that this loader makes.
    pub fn own_images(&self) -> usize {
        self.batch_size / self.share.of
    }

    /// The epoch whose crops an epoch has.
    pub(super) fn crops_of(&self, epoch: u64) -> u64 {
        epoch.checked_rem(self.fixed_crops).unwrap_or(epoch)
    }

    /// Whether this loader makes the image at a place of an epoch's order.
    pub(super) fn owns(&self, position: usize) -> bool {
        let place = position % self.batch_size;
        place / self.own_images() == self.share.rank
    }

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
        let Share { rank, of } = self.share;
        if rank >= of || !self.batch_size.is_multiple_of(of) {
            let reason = format!("{} images do not divide into {of} parts", self.batch_size);
            return bad("batch-size", reason);
        }
        if !(0.0..=1.0).contains(&self.max_unusable) {
            let reason = format!("must be between 0 and 1, not {}", self.max_unusable);
            return bad("max-unusable", reason);
        }
        Ok(())
    }
}
