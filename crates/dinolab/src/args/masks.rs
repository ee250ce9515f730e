//! Images whose masks show classes.

use std::path::PathBuf;

use dinolab_run::class_masks::MaskOptions;

/// Flags of commands that segment.
#[derive(clap::Args)]
pub struct MaskArgs {
    /// Training split of a VOC tree; if the tree lacks it, a part of the other split is held out
    #[arg(long, value_name = "SPLIT", default_value = "train")]
    train_split: String,
    /// Validation split of a VOC tree
    #[arg(long, value_name = "SPLIT", default_value = "val")]
    val_split: String,
    /// Fraction of the images held out for validation, if there is one split only
    #[arg(long, value_name = "FRACTION", default_value_t = 0.3)]
    holdout: f64,
    /// Random seed of the held-out images
    #[arg(long, value_name = "N", default_value_t = 0)]
    holdout_seed: u64,
    /// File of class names, one a line, background first [default: VOC's if they fit]
    #[arg(long, value_name = "FILE")]
    class_names: Option<PathBuf>,
    /// Number of built-in shapes to learn from, without a tree
    #[arg(long, value_name = "N", default_value_t = 256)]
    shapes_images: usize,
    /// Side of built-in shapes
    #[arg(long, value_name = "PX", default_value_t = 64)]
    shapes_size: usize,
}

impl MaskArgs {
    /// In the library's words.
    pub fn options(&self) -> MaskOptions {
        MaskOptions {
            train_split: self.train_split.clone(),
            val_split: self.val_split.clone(),
            holdout: self.holdout,
            holdout_seed: self.holdout_seed,
            class_names: self.class_names.clone(),
            shapes_images: self.shapes_images,
            shapes_size: self.shapes_size,
        }
    }
}
