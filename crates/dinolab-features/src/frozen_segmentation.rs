//! Semantic segmentation by a linear layer on frozen patch tokens.

use std::collections::HashMap;
use std::sync::Arc;

use dinolab_data::augment::ChannelNormaliser;
use dinolab_data::augment::Filter;
use dinolab_data::random::epoch_order;
use dinolab_nn::device::to_host_f32;
use dinolab_nn::{Backbone, check_patches};

use crate::features::{Preprocess, batch, planes};
use crate::random_view::{Placement, render};
use crate::segmentation::{class_map, patch_targets};
use crate::{Error, Result};
use dinolab_eval::cross_entropy::Targets;
use dinolab_eval::linear::{LinearClassifier, Sgd, cosine};
use dinolab_eval::segmentation::{ClassMasks, IouMeter};

/// Semantic segmentation by a linear layer on frozen patch tokens.
///
/// The patch tokens of an image (last block, after the final norm) go through one linear layer, the
/// same for all patches. The logits of the grid are enlarged bilinearly to the size of the mask,
/// where the greatest one gives the class of each pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct FrozenSegmentation {
    /// Side that images are resized to, in pixels; a multiple of the patch size.
    pub size: usize,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per step of SGD.
    pub batch_size: usize,
    /// Momentum of SGD, which has no weight decay and a cosine schedule to 0 by epoch.
    pub momentum: f64,
    /// Seed of the initial weights and of the order of images.
    pub seed: u64,
    /// Bytes of tokens to cache; those of further images are recomputed in each epoch.
    pub cache_bytes: usize,
}

impl Default for FrozenSegmentation {
    fn default() -> Self {
        Self {
            size: 480,
            epochs: 50,
            batch_size: 4,
            momentum: 0.9,
            seed: 0,
            cache_bytes: 1 << 30,
        }
    }
}

/// The result of [`FrozenSegmentation`] for one learning rate.
#[derive(Clone, Debug)]
pub struct SegmentationRun {
    /// The learning rate.
    pub lr: f64,
    /// The trained layer.
    pub classifier: LinearClassifier,
    /// Mean loss of the last epoch, in nats per pixel.
    pub loss: f64,
    /// Pixel counts of the validation images.
    pub meter: IouMeter,
}

impl SegmentationRun {
    /// Returns the run with the highest mean IoU, the first of equals; `None` without runs.
    pub fn best_of(runs: &[Self]) -> Option<&Self> {
        runs.iter()
            .reduce(|best, run| match run.meter.mean() > best.meter.mean() {
                true => run,
                false => best,
            })
    }
}

/// The tokens of an image and the classes of its pixels by patch.
struct Patches {
    tokens: Vec<f32>,
    targets: Vec<f32>,
}

/// Computes tokens of images and keeps as many as the budget allows.
struct TokenCache<'a> {
    backbone: &'a dyn Backbone,
    size: usize,
    normaliser: ChannelNormaliser,
    kept: HashMap<usize, Arc<Patches>>,
    left: usize,
}

impl TokenCache<'_> {
    fn grid(&self) -> (usize, usize) {
        let side = self.size / self.backbone.stride();
        (side, side)
    }

    fn tokens(&self, set: &ClassMasks, index: usize) -> Result<Vec<f32>> {
        let image = set.source.image(index)?;
        let size = (self.size, self.size);
        let image = render(&image, Placement::whole(&image), size, Filter::Bilinear)?;
        let input = batch(
            self.backbone,
            &[planes(&image, &self.normaliser)?],
            self.size,
            self.size,
        );
        Ok(to_host_f32(self.backbone.tokens(input).patches))
    }

    fn get(&mut self, set: &ClassMasks, index: usize) -> Result<Arc<Patches>> {
        if let Some(kept) = self.kept.get(&index) {
            return Ok(kept.clone());
        }
        let mask = set.mask(index)?;
        let at = Placement {
            crop: dinolab_data::augment::CropBox {
                top: 0,
                left: 0,
                height: mask.height,
                width: mask.width,
            },
            flip: false,
        };
        let patches = Arc::new(Patches {
            targets: patch_targets(&mask, at, self.grid(), set.classes),
            tokens: self.tokens(set, index)?,
        });
        let bytes = 4 * (patches.tokens.len() + patches.targets.len());
        if bytes <= self.left {
            self.left -= bytes;
            self.kept.insert(index, patches.clone());
        }
        Ok(patches)
    }
}

impl FrozenSegmentation {
    /// Trains one layer per rate of `lrs` on the images of `train` and evaluates each on those of
    /// `val`. An unusable image or mask is skipped and passed to `skipped` with the reason.
    /// `progress` is called with the number of images done, of `epochs · train + val`.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for settings out of range, [`Error::Invalid`] without usable images on
    /// either side, [`Error::Diverged`] for a loss that is not finite.
    #[allow(clippy::too_many_arguments, reason = "two sets, each with its images")]
    pub fn run(
        &self,
        backbone: &dyn Backbone,
        preprocess: &Preprocess,
        (train, train_images): (ClassMasks, &[usize]),
        (val, val_images): (ClassMasks, &[usize]),
        lrs: &[f64],
        progress: &mut dyn FnMut(usize),
        skipped: &mut dyn FnMut(String, String),
    ) -> Result<Vec<SegmentationRun>> {
        self.check(backbone, lrs)?;
        let classes = train.classes;
        let mut cache = TokenCache {
            backbone,
            size: self.size,
            normaliser: preprocess.normaliser()?,
            kept: HashMap::new(),
            left: self.cache_bytes,
        };
        let dim = backbone.width();
        let mut runs: Vec<SegmentationRun> = lrs
            .iter()
            .map(|&lr| SegmentationRun {
                lr,
                classifier: LinearClassifier::new(dim, classes, self.seed),
                loss: 0.0,
                meter: IouMeter::new(classes),
            })
            .collect();
        let mut optimisers = vec![Sgd::new(self.momentum); lrs.len()];
        let mut usable = train_images.to_vec();
        let mut done = 0;
        for epoch in 0..self.epochs {
            let mut losses = vec![0.0; lrs.len()];
            let (mut weight, mut bad) = (0.0, Vec::new());
            let order = epoch_order(self.seed, epoch as u64, usable.len());
            for chunk in order.chunks(self.batch_size) {
                let (mut tokens, mut targets) = (Vec::new(), Vec::new());
                for &place in chunk {
                    match cache.get(&train, usable[place]) {
                        Ok(patches) => {
                            tokens.extend_from_slice(&patches.tokens);
                            targets.extend_from_slice(&patches.targets);
                        }
                        Err(error) => {
                            skipped(train.source.name(usable[place]), error.to_string());
                            bad.push(usable[place]);
                        }
                    }
                }
                done += chunk.len();
                progress(done);
                let pixels: f64 = targets.iter().map(|&t| f64::from(t)).sum();
                if pixels == 0.0 {
                    continue;
                }
                weight += pixels;
                for ((run, sgd), loss) in runs.iter_mut().zip(&mut optimisers).zip(&mut losses) {
                    let lr = cosine(run.lr, epoch, self.epochs);
                    let targets = Targets::Weights(&targets);
                    *loss += pixels * sgd.step(&mut run.classifier, &tokens, targets, lr)?;
                }
            }
            usable.retain(|index| !bad.contains(index));
            if weight == 0.0 {
                return Err(Error::invalid(
                    "training images",
                    "none has labelled pixels",
                ));
            }
            for (run, loss) in runs.iter_mut().zip(losses) {
                run.loss = loss / weight;
                if !run.loss.is_finite() {
                    let (lr, loss) = (run.lr, run.loss);
                    return Err(Error::Diverged { lr, loss });
                }
            }
        }
        let mut scored = 0;
        for &index in val_images {
            let found = val
                .mask(index)
                .map_err(Error::from)
                .and_then(|mask| Ok((mask, cache.tokens(&val, index)?)));
            match found {
                Ok((mask, tokens)) => {
                    scored += 1;
                    for run in &mut runs {
                        let logits = run.classifier.logits(&tokens)?;
                        let size = mask.size();
                        let map = class_map(&logits, cache.grid(), classes, size)?;
                        run.meter.add(&mask.data, &map)?;
                    }
                }
                Err(error) => skipped(val.source.name(index), error.to_string()),
            }
            done += 1;
            progress(done);
        }
        if scored == 0 {
            return Err(Error::invalid("validation images", "none is usable"));
        }
        Ok(runs)
    }

    fn check(&self, backbone: &dyn Backbone, lrs: &[f64]) -> Result<()> {
        let patch = backbone.stride();
        if self.size == 0 || !self.size.is_multiple_of(patch) {
            let reason = format!("{} is not a multiple of the patch size {patch}", self.size);
            return Err(Error::setting("size", reason));
        }
        check_patches(self.size, self.size, patch)?;
        if self.epochs == 0 || self.batch_size == 0 {
            let what = if self.epochs == 0 {
                "epochs"
            } else {
                "batch-size"
            };
            return Err(Error::setting(what, "must be at least 1"));
        }
        if lrs.is_empty() || lrs.iter().any(|lr| !(*lr > 0.0 && lr.is_finite())) {
            return Err(Error::setting("lr", "at least one is needed, all above 0"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
