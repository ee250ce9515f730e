//! The tasks that networks are compared on.

use dinolab_data::{Size, Source};
use dinolab_nn::Backbone;

use super::classification::Classification;
use super::segmentation::Segmentation;
use super::supervised::Supervised;
use crate::Result;
use crate::block_features::BlockFeatures;
use crate::features::Preprocess;
use crate::random_view::RandomView;
use dinolab_eval::segmentation::ClassMasks;

/// A supervised task.
pub struct Task<'a>(pub(super) Box<dyn Supervised + 'a>);

impl<'a> Task<'a> {
    /// Classification of a labelled source, with the features of a linear classifier as the head's
    /// input. `blocks` selects the tokens of the head's input and `view` the training views;
    /// validation images are resized and centre-cropped as `preprocess` specifies. A validation class
    /// that is absent from training is never predicted.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for images without labels, [`Error::BadSetting`](crate::Error::BadSetting) for settings out of
    /// range.
    pub fn classification(
        train: &'a dyn Source,
        val: &'a dyn Source,
        blocks: BlockFeatures,
        view: RandomView,
        preprocess: &Preprocess,
        batch_size: usize,
    ) -> Result<Self> {
        Ok(Self(Box::new(Classification::new(
            train, val, blocks, view, preprocess, batch_size,
        )?)))
    }

    /// Segmentation of a source with masks, with patch tokens as the head's input; training and
    /// validation images are given by their indices in their sources. The side of views is a multiple
    /// of the `backbone`'s patch size or stride; validation images are resized to that square.
    ///
    /// # Errors
    /// [`Error::BadSetting`](crate::Error::BadSetting) for settings out of range, [`Error::Invalid`](crate::Error::Invalid) without images.
    pub fn segmentation(
        train: (ClassMasks<'a>, Vec<usize>),
        val: (ClassMasks<'a>, Vec<usize>),
        view: RandomView,
        preprocess: &Preprocess,
        backbone: &dyn Backbone,
    ) -> Result<Self> {
        Ok(Self(Box::new(Segmentation::new(
            train, val, view, preprocess, backbone,
        )?)))
    }

    /// Returns the size of the training views in pixels.
    pub fn size(&self) -> Size {
        self.0.size()
    }

    /// Returns the group of each training image; a [`Share`](super::Share) is drawn evenly from the
    /// groups.
    pub fn groups(&self) -> Vec<usize> {
        self.0.groups()
    }
}
