//! A batch's buffers.

use std::sync::{Mutex, PoisonError};

use crate::Size;
use crate::augment::MultiCrop;
use crate::augment::multicrop::GLOBAL_VIEWS;

/// The crops of one batch, view-major: all images of view 0, then view 1, …
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Crops {
    /// Images in the batch, `B`.
    pub batch: usize,
    /// Channels, `C`.
    pub channels: usize,
    /// Size of the global crops, `Gh × Gw`.
    pub global_size: Size,
    /// Size of the local crops, `Sh × Sw`.
    pub local_size: Size,
    /// Number of local views, `L`.
    pub local_views: usize,
    /// `[2, B, C, Gh, Gw]`, normalised.
    pub global: Vec<f32>,
    /// `[L, B, C, Sh, Sw]`, normalised.
    pub local: Vec<f32>,
    /// The source index behind each image of the batch.
    pub indices: Vec<usize>,
}

impl Crops {
    /// Sets the shape; the values are whatever they were.
    fn shape(&mut self, crops: &MultiCrop, batch: usize) {
        self.batch = batch;
        self.channels = crops.pixels.channels();
        self.global_size = crops.global_size;
        self.local_size = crops.local_size;
        self.local_views = crops.local_views;
        self.global.resize(batch * crops.global_len(), 0.0);
        self.local.resize(batch * crops.local_len(), 0.0);
        self.indices.resize(batch, 0);
    }

    /// Where view `view` of image `image` lies: `[C, height, width]`. Global views are 0 and 1,
    /// the local ones follow.
    ///
    /// # Panics
    /// When the batch has no such view or image.
    pub fn view(&self, view: usize, image: usize) -> &[f32] {
        let (range, global) = self.range(view, image);
        if global {
            &self.global[range]
        } else {
            &self.local[range]
        }
    }

    pub(super) fn view_mut(&mut self, view: usize, image: usize) -> &mut [f32] {
        let (range, global) = self.range(view, image);
        if global {
            &mut self.global[range]
        } else {
            &mut self.local[range]
        }
    }

    fn range(&self, view: usize, image: usize) -> (std::ops::Range<usize>, bool) {
        assert!(
            image < self.batch,
            "image {image} of a batch of {}",
            self.batch
        );
        let global = view < GLOBAL_VIEWS;
        let (view, size) = if global {
            (view, self.global_size)
        } else {
            (view - GLOBAL_VIEWS, self.local_size)
        };
        let len = self.channels * size.area();
        let start = (view * self.batch + image) * len;
        (start..start + len, global)
    }
}

/// Batches whose buffers can be filled again.
#[derive(Default)]
pub(super) struct Pool {
    free: Mutex<Vec<Crops>>,
}

/// More free batches than this are of no use, since few are open at a time.
const MAX_FREE: usize = 8;

impl Pool {
    pub(super) fn take(&self, crops: &MultiCrop, batch: usize) -> Crops {
        // A bare `Vec` cannot be left half-changed by a panic.
        let mut taken = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default();
        taken.shape(crops, batch);
        taken
    }

    pub(super) fn put(&self, crops: Crops) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MAX_FREE {
            free.push(crops);
        }
    }
}
