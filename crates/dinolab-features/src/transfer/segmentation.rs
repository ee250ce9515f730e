//! Semantic segmentation.

use burn::tensor::Tensor;
use dinolab_data::Size;
use dinolab_data::augment::ChannelNormaliser;
use dinolab_data::augment::Filter;
use dinolab_data::random::Random;
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::{Backbone, check_patches};

use super::Score;
use super::fitted::Fitted;
use super::supervised::{Example, Supervised};
use crate::features::{Preprocess, batch, planes};
use crate::random_view::{Placement, RandomView, render};
use crate::segmentation::{class_map, patch_targets};
use crate::{Error, Result};
use dinolab_eval::segmentation::{ClassMasks, IouMeter};

/// Segmentation of a source with masks, with patch tokens as the head's input.
pub(super) struct Segmentation<'a> {
    train: ClassMasks<'a>,
    train_images: Vec<usize>,
    val: ClassMasks<'a>,
    val_images: Vec<usize>,
    view: RandomView,
    normaliser: ChannelNormaliser,
    patch: usize,
}

impl<'a> Segmentation<'a> {
    /// As [`Task::segmentation`](super::Task::segmentation).
    pub fn new(
        (train, train_images): (ClassMasks<'a>, Vec<usize>),
        (val, val_images): (ClassMasks<'a>, Vec<usize>),
        view: RandomView,
        preprocess: &Preprocess,
        backbone: &dyn Backbone,
    ) -> Result<Self> {
        view.check()?;
        let patch = backbone.stride();
        if !view.size.is_square() || !view.size.height.is_multiple_of(patch) {
            let reason = format!(
                "{} is not a square of a multiple of the patch size {patch}",
                view.size
            );
            return Err(Error::setting("crop", reason));
        }
        check_patches(view.size.height, view.size.width, patch)?;
        if train_images.is_empty() || val_images.is_empty() {
            return Err(Error::invalid("images with masks", "must not be empty"));
        }
        Ok(Self {
            train,
            train_images,
            val,
            val_images,
            view,
            normaliser: preprocess.normaliser()?,
            patch,
        })
    }

    fn grid(&self) -> (usize, usize) {
        let side = self.view.size.height / self.patch;
        (side, side)
    }
}

impl Supervised for Segmentation<'_> {
    fn classes(&self) -> usize {
        self.train.classes
    }

    fn size(&self) -> Size {
        self.view.size
    }

    /// Images show several classes, so all of them are one group.
    fn groups(&self) -> Vec<usize> {
        vec![0; self.train_images.len()]
    }

    fn example(&self, place: usize, random: &mut Random) -> Result<Example> {
        let index = self.train_images[place];
        let (image, mask) = (self.train.source.image(index)?, self.train.mask(index)?);
        let at = self.view.place(&image, random);
        Ok(Example {
            planes: planes(&self.view.render(&image, at)?, &self.normaliser)?,
            targets: patch_targets(&mask, at, self.grid(), self.classes()),
        })
    }

    fn head_dim(&self, backbone: &dyn Backbone) -> usize {
        backbone.width()
    }

    fn head_input(&self, backbone: &dyn Backbone, images: Tensor<4>) -> Tensor<2> {
        rows(backbone.tokens(images).patches)
    }

    fn training_input(&self, backbone: &dyn Backbone, images: Tensor<4>) -> Tensor<2> {
        rows(backbone.training_tokens(images, &NoDropPath).patches)
    }

    fn evaluate(&self, fitted: &Fitted) -> Result<Score> {
        let mut meter = IouMeter::new(self.classes());
        for &index in &self.val_images {
            let (image, mask) = (self.val.source.image(index)?, self.val.mask(index)?);
            let side = self.view.size.height;
            let square = render(
                &image,
                Placement::whole(&image),
                (side, side),
                Filter::Bilinear,
            )?;
            let input = batch(
                &fitted.backbone,
                &[planes(&square, &self.normaliser)?],
                side,
                side,
            );
            let logits = fitted.logits(self.head_input(&fitted.backbone, input));
            let size = mask.size();
            let map = class_map(&logits, self.grid(), self.classes(), size)?;
            meter.add(&mask.data, &map)?;
        }
        let mean = meter.mean().map(|mean| 100.0 * mean);
        Ok(Score {
            value: mean.ok_or_else(|| Error::invalid("masks", "all pixels are void"))?,
            second: meter.pixel_accuracy().map(|share| 100.0 * share),
        })
    }
}

/// The patches of all images, `[B, N, D]` → `[B · N, D]`.
fn rows(patches: Tensor<3>) -> Tensor<2> {
    let [b, n, d] = patches.dims();
    patches.reshape([b * n, d])
}
