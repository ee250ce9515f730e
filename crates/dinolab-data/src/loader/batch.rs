//! A batch and the buffers of its images.

use std::sync::{Mutex, PoisonError};

use crate::Size;
use crate::augment::MultiCrop;
use crate::augment::multicrop::GLOBAL_VIEWS;

/// The crops of one batch.
///
/// Every image has buffers of its own, so that no worker waits for another one's;
/// [`Crops::global`] and [`Crops::local`] put them together view by view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Crops {
    /// Channels, `C`.
    pub channels: usize,
    /// Size of the global crops, `Gh × Gw`.
    pub global_size: Size,
    /// Size of the local crops, `Sh × Sw`.
    pub local_size: Size,
    /// Number of local views, `L`.
    pub local_views: usize,
    /// The images of the batch, `B` of them.
    pub images: Vec<ImageCrops>,
}

/// The crops of one image, normalised.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageCrops {
    /// The image's index in the source.
    pub index: usize,
    /// `[2, C, Gh, Gw]`.
    pub global: Vec<f32>,
    /// `[L, C, Sh, Sw]`.
    pub local: Vec<f32>,
}

impl Crops {
    /// A batch of the sizes that `crops` makes.
    pub(super) fn new(crops: &MultiCrop, images: Vec<ImageCrops>) -> Self {
        Self {
            channels: crops.pixels.channels(),
            global_size: crops.global_size,
            local_size: crops.local_size,
            local_views: crops.local_views,
            images,
        }
    }

    /// Images in the batch, `B`.
    pub fn batch(&self) -> usize {
        self.images.len()
    }

    /// The source index behind each image of the batch.
    pub fn indices(&self) -> Vec<usize> {
        self.images.iter().map(|image| image.index).collect()
    }

    /// All global crops, `[2, B, C, Gh, Gw]`: all images of view 0, then of view 1.
    pub fn global(&self) -> Vec<f32> {
        gather(self.images.iter().map(|image| &image.global), GLOBAL_VIEWS)
    }

    /// All local crops, `[L, B, C, Sh, Sw]`: all images of the first view, then of the next, …
    pub fn local(&self) -> Vec<f32> {
        gather(
            self.images.iter().map(|image| &image.local),
            self.local_views,
        )
    }

    /// View `view` of image `image`, `[C, height, width]`. Global views are 0 and 1, the local ones
    /// follow.
    ///
    /// # Panics
    /// When the batch has no such view or image.
    pub fn view(&self, view: usize, image: usize) -> &[f32] {
        let crops = &self.images[image];
        if view < GLOBAL_VIEWS {
            &crops.global[part(crops.global.len(), view, GLOBAL_VIEWS)]
        } else {
            let range = part(crops.local.len(), view - GLOBAL_VIEWS, self.local_views);
            &crops.local[range]
        }
    }
}

impl ImageCrops {
    /// View `view` of an image that has `local_views` local ones.
    pub(super) fn view_mut(&mut self, view: usize, local_views: usize) -> &mut [f32] {
        if view < GLOBAL_VIEWS {
            let range = part(self.global.len(), view, GLOBAL_VIEWS);
            &mut self.global[range]
        } else {
            let range = part(self.local.len(), view - GLOBAL_VIEWS, local_views);
            &mut self.local[range]
        }
    }
}

/// Where part `part` of `parts` equal ones lies.
fn part(len: usize, part: usize, parts: usize) -> std::ops::Range<usize> {
    let each = len / parts;
    part * each..(part + 1) * each
}

/// From image-major to view-major.
fn gather<'a>(
    images: impl ExactSizeIterator<Item = &'a Vec<f32>> + Clone,
    views: usize,
) -> Vec<f32> {
    let mut all = Vec::with_capacity(images.clone().map(Vec::len).sum());
    for view in 0..views {
        for image in images.clone() {
            all.extend_from_slice(&image[part(image.len(), view, views)]);
        }
    }
    all
}

/// Buffers that can be filled again.
pub(super) struct Pool {
    free: Mutex<Vec<ImageCrops>>,
    /// More than can be in use at once are of no use.
    most: usize,
}

impl Pool {
    pub(super) fn new(most: usize) -> Self {
        Self {
            free: Mutex::default(),
            most,
        }
    }

    /// Buffers of the sizes that `crops` makes; the values are whatever they were.
    pub(super) fn take(&self, crops: &MultiCrop) -> ImageCrops {
        // A bare `Vec` cannot be left half-changed by a panic.
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = free.pop().unwrap_or_default();
        drop(free);
        taken.global.resize(crops.global_len(), 0.0);
        taken.local.resize(crops.local_len(), 0.0);
        taken
    }

    pub(super) fn put(&self, crops: Crops) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.most.saturating_sub(free.len());
        free.extend(crops.images.into_iter().take(room));
    }
}
