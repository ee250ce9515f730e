//! Semantic segmentation by a linear layer on patch tokens.
//!
//! An image is brought to a square, its patch tokens (last block, after the final norm) go
//! through one linear layer, the same for all patches, and the logits of the grid are enlarged
//! bilinearly to the size of the mask, where the greatest one names the class of each pixel.
//! The score is the mean over classes of intersection over union, counted over all pixels of
//! all images together, as Pascal VOC has it; void pixels (255) are left out.
//!
//! In training every labelled pixel counts once, for the patch that it lies in: a patch's
//! target is the histogram of its pixels.

mod frozen;
mod masks;
mod meter;
mod targets;
#[cfg(test)]
mod tests;
mod upsample;

pub use frozen::{FrozenSegmentation, SegmentationRun, best_run};
pub use masks::{ClassMasks, MaskRule, Survey, survey};
pub use meter::IouMeter;
pub use targets::patch_targets;
pub use upsample::class_map;

/// Label of pixels that are left out of training and of scores.
pub use crate::attention::VOID;
