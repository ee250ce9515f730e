//! Images with masks of classes: what segmentation learns from and is evaluated on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinolab_data::shapes::{CLASSES, Shapes, ShapesOptions};
use dinolab_data::source::{self, MaskKind, SourceOptions, Subset, VOC_CLASSES};
use dinolab_data::{Mask, Source};
use dinolab_eval::segmentation::{ClassMasks, MaskRule};
use rayon::prelude::*;

use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::sources::{self, unseen_shapes};

/// Which images with masks of classes are learned from and evaluated on.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct MaskOptions {
    /// Training split of a VOC tree; if the tree does not have it, part of --val-split is used for
    /// training
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "SPLIT", default_value = "train")
    )]
    pub train_split: String,
    /// Validation split of a VOC tree
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "SPLIT", default_value = "val")
    )]
    pub val_split: String,
    /// Fraction of the images to hold out for validation, if there is only one split
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "FRACTION", default_value_t = 0.3)
    )]
    pub holdout: f64,
    /// Random seed of the held-out images
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 0))]
    pub holdout_seed: u64,
    /// File of class names, one per line, background first [default: VOC's names, if they fit]
    #[cfg_attr(feature = "clap", arg(long, value_name = "FILE"))]
    pub class_names: Option<PathBuf>,
    /// Number of training images of the built-in shapes set, if no images are given
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 256))]
    pub shapes_images: usize,
    /// Side of the images of the built-in shapes set
    #[cfg_attr(feature = "clap", arg(long, value_name = "PX", default_value_t = 64))]
    pub shapes_size: usize,
}

/// Images to learn from and images to evaluate on.
type TrainAndVal = [Arc<dyn Source>; 2];

/// Both sets, opened.
pub struct Masks {
    train: Arc<dyn Source>,
    val: Arc<dyn Source>,
    /// Images of the training set that can be used.
    pub train_images: Vec<usize>,
    /// Images of the validation set that can be used.
    pub val_images: Vec<usize>,
    /// Images left out.
    pub skipped: usize,
    /// Class names, background first.
    pub names: Vec<String>,
    /// What was opened, in words.
    pub description: String,
    rule: MaskRule,
}

impl MaskOptions {
    /// Opens a VOC tree, or the built-in shapes without one.
    ///
    /// # Errors
    /// A folder that is not a VOC tree; images or class names that cannot be used.
    pub fn open(&self, env: &Environment<'_>, tree: Option<&Path>) -> Result<Masks> {
        let (train, val, description, rule) = match tree {
            None => {
                ensure_setting!(
                    self.shapes_images > 0,
                    "shapes-images",
                    0,
                    "must be at least 1"
                );
                let options = ShapesOptions {
                    size: self.shapes_size,
                    ..Default::default()
                };
                let train = Shapes::with_options(0, self.shapes_images, options)?;
                let count = (self.shapes_images / 4).clamp(16, 1024);
                let val = unseen_shapes(0, count, self.shapes_size)?;
                (
                    Arc::new(train) as Arc<dyn Source>,
                    Arc::new(val) as Arc<dyn Source>,
                    "the built-in shapes".to_owned(),
                    MaskRule::ObjectOfLabel,
                )
            }
            Some(tree) => {
                let ([train, val], how) = self.tree(env, tree)?;
                (
                    train,
                    val,
                    format!("{} ({how})", tree.display()),
                    MaskRule::Classes,
                )
            }
        };
        let mut highest = 0;
        let mut skipped = 0;
        let mut usable = |source: &Arc<dyn Source>, what| {
            let found = mask_statistics(&**source);
            env.skipped(&found.skipped, |index| source.name(index));
            skipped += found.skipped.len();
            highest = highest.max(found.highest.unwrap_or(0));
            ensure!(
                !found.usable.is_empty(),
                "no image to {what} has a class mask (SegmentationClass)"
            );
            Ok(found.usable)
        };
        let (train_images, val_images) =
            (usable(&train, "train on")?, usable(&val, "evaluate on")?);
        let names = match rule {
            MaskRule::ObjectOfLabel => std::iter::once("background")
                .chain(CLASSES)
                .map(str::to_owned)
                .collect(),
            MaskRule::Classes => self.names(highest)?,
        };
        Ok(Masks {
            train,
            val,
            train_images,
            val_images,
            skipped,
            names,
            description,
            rule,
        })
    }

    fn tree(&self, env: &Environment<'_>, tree: &Path) -> Result<(TrainAndVal, String)> {
        let sets = tree.join("ImageSets");
        ensure!(
            sets.is_dir() && tree.join("JPEGImages").is_dir(),
            "{}: not a VOC tree (JPEGImages, ImageSets, SegmentationClass)",
            tree.display()
        );
        let open = |split: &str| {
            let options = SourceOptions {
                split: split.to_owned(),
                masks: MaskKind::Classes,
                ..Default::default()
            };
            sources::open_with(env, tree, &options)
        };
        let has = |split: &str| {
            ["Segmentation", "Main"]
                .iter()
                .find(|kind| sets.join(kind).is_dir())
                .is_some_and(|kind| sets.join(kind).join(format!("{split}.txt")).is_file())
        };
        let (train, val) = (self.train_split.as_str(), self.val_split.as_str());
        if train != val && has(train) {
            return Ok(([open(train)?, open(val)?], format!("{train} and {val}")));
        }
        let all = open(val)?;
        let (kept, held): (Subset, Subset) =
            source::split(all, self.holdout, self.holdout_seed).of_setting("holdout", "")?;
        let how = format!(
            "{val}, of which {} images held out for validation",
            held.len()
        );
        Ok(([Arc::new(kept), Arc::new(held)], how))
    }

    fn names(&self, highest: usize) -> Result<Vec<String>> {
        let Some(path) = &self.class_names else {
            return Ok(if highest < VOC_CLASSES.len() {
                VOC_CLASSES.map(str::to_owned).to_vec()
            } else {
                (0..=highest)
                    .map(|class| format!("class {class}"))
                    .collect()
            });
        };
        let text = std::fs::read_to_string(path).of_setting("class-names", path.display())?;
        // Some editors put a byte order mark in front.
        let text = text.trim_start_matches('\u{feff}');
        let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        if names.len() <= highest || names.len() > 255 {
            let what = format!("{} names for classes up to {highest}", names.len());
            return Err(Error::Invalid(what)).of_setting("class-names", path.display());
        }
        Ok(names)
    }
}

impl Masks {
    /// The training set.
    pub fn train(&self) -> ClassMasks<'_> {
        self.masks(&*self.train)
    }

    /// The validation set.
    pub fn val(&self) -> ClassMasks<'_> {
        self.masks(&*self.val)
    }

    fn masks<'a>(&self, source: &'a dyn Source) -> ClassMasks<'a> {
        ClassMasks {
            source,
            rule: self.rule,
            classes: self.names.len(),
        }
    }
}

/// The content of the masks of a source.
#[derive(Default)]
struct MaskStatistics {
    /// Images whose mask has a labelled pixel.
    usable: Vec<usize>,
    /// The highest value except void, if any.
    highest: Option<usize>,
    /// Images whose mask is missing or cannot be read: index and reason.
    skipped: Vec<(usize, String)>,
}

/// Reads the masks of all images.
fn mask_statistics(source: &dyn Source) -> MaskStatistics {
    let found: Vec<Result<Option<u8>, String>> = (0..source.len())
        .into_par_iter()
        .map(|index| match source.mask(index) {
            Ok(Some(mask)) => Ok(mask.data.into_iter().filter(|&v| v != Mask::VOID).max()),
            Ok(None) => Err("has no mask".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .collect();
    let mut statistics = MaskStatistics::default();
    for (index, found) in found.into_iter().enumerate() {
        match found {
            Ok(Some(highest)) => {
                statistics.usable.push(index);
                statistics.highest = statistics.highest.max(Some(usize::from(highest)));
            }
            Ok(None) => statistics
                .skipped
                .push((index, "is void throughout".to_owned())),
            Err(reason) => statistics.skipped.push((index, reason)),
        }
    }
    statistics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_counted() {
        let found = mask_statistics(&Shapes::new(3, 5));
        assert_eq!((found.usable, found.highest), ((0..5).collect(), Some(1)));
        assert!(found.skipped.is_empty());
    }
}
