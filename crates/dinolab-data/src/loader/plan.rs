//! Which image is prepared when.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::batch::ImageCrops;
use super::config::LoaderConfig;
use super::shared::Shared;
use super::stream::Stream;
use crate::random::{epoch_order, reading_order, shard_order};
use crate::{Result, Source};

/// Where a stream of batches stands.
pub(super) struct BatchPlan {
    pub(super) epoch: u64,
    pub(super) first_batch: u64,
    pub(super) batches_per_epoch: u64,
    /// Batches to return, without end where there is no number.
    pub(super) count: Option<u64>,
    /// The order of the epoch that was asked for last.
    order: Option<(u64, Order)>,
}

impl BatchPlan {
    pub(super) fn new(
        epoch: u64,
        first_batch: usize,
        batches_per_epoch: usize,
        count: Option<usize>,
    ) -> Self {
        Self {
            epoch,
            first_batch: first_batch as u64,
            batches_per_epoch: batches_per_epoch as u64,
            count: count.map(|count| count as u64),
            order: None,
        }
    }

    /// Epoch of a batch and its number there.
    pub(super) fn place(&self, batch: u64) -> (u64, u64) {
        // Without batches there is no other epoch to go on to.
        let per_epoch = self.batches_per_epoch.max(1);
        let batch = self.first_batch.saturating_add(batch);
        (
            self.epoch.saturating_add(batch / per_epoch),
            batch % per_epoch,
        )
    }

    /// Image `image` of batch `number`; `None` after the last batch.
    pub(super) fn task(&mut self, number: u64, image: usize, shared: &Shared) -> Option<Task> {
        if self.count.is_some_and(|count| number >= count) {
            return None;
        }
        let (epoch, batch) = self.place(number);
        let config = &shared.config;
        let first = config.share.rank * config.own_images();
        let position = batch as usize * config.batch_size + first + image;
        let Order { images, files } = self.order(epoch, position, shared);
        Some(Task {
            batch: number,
            image,
            epoch,
            order: images,
            files,
            position,
            file: None,
            crops: shared.pool.take(&shared.crops),
        })
    }

    /// The order of an epoch that is entered at `position`.
    fn order(&mut self, epoch: u64, position: usize, shared: &Shared) -> Order {
        match &self.order {
            Some((of, order)) if *of == epoch => order.clone(),
            _ => {
                let used = self.batches_per_epoch as usize * shared.config.batch_size;
                let order = order_of(&*shared.source, &shared.config, epoch, position..used);
                self.order = Some((epoch, order.clone()));
                order
            }
        }
    }
}

/// The order of an epoch.
#[derive(Clone)]
struct Order {
    images: Arc<[usize]>,
    /// Where the files are read in another order.
    files: Option<Arc<Stream>>,
}

/// The order in which an epoch visits a source: any order at all or, with a `buffer` and where
/// the source has shards, one that goes through them one after the other. `used` are the places
/// whose images will be taken.
fn order_of(source: &dyn Source, config: &LoaderConfig, epoch: u64, used: Range<usize>) -> Order {
    let (buffer, seed) = (config.shuffle_buffer, config.seed);
    let Some(shards) = shards(source).filter(|_| buffer > 0) else {
        return Order {
            images: epoch_order(seed, epoch, source.len()).into(),
            files: None,
        };
    };
    let images = shard_order(seed, epoch, shards.clone(), buffer);
    let mut wanted = vec![false; source.len()];
    for place in used.filter(|&place| config.owns(place)) {
        wanted[images[place]] = true;
    }
    let mut files = reading_order(seed, epoch, shards);
    files.retain(|&index| wanted[index]);
    Order {
        images: images.into(),
        files: Some(Arc::new(Stream::new(files, Stream::MOST))),
    }
}

/// The images of each shard, where a source has shards.
fn shards(source: &dyn Source) -> Option<Vec<Vec<usize>>> {
    let mut shards: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in 0..source.len() {
        shards.entry(source.shard(index)?).or_default().push(index);
    }
    Some(shards.into_values().collect())
}

/// One image to prepare: number `image` of batch `batch`, counted from the stream's start.
pub(super) struct Task {
    pub(super) batch: u64,
    pub(super) image: usize,
    pub(super) epoch: u64,
    pub(super) order: Arc<[usize]>,
    /// Where files are read in another order.
    pub(super) files: Option<Arc<Stream>>,
    /// Its place in the order.
    pub(super) position: usize,
    /// The image's file, or why it could not be read, where a reader has tried.
    pub(super) file: Option<Result<Vec<u8>>>,
    /// The buffers to fill.
    pub(super) crops: ImageCrops,
}

impl Task {
    /// Which image the order has at this place.
    pub(super) fn index(&self) -> usize {
        self.order[self.position]
    }
}
