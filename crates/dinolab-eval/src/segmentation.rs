//! Semantic segmentation: masks of classes, targets of patches and mean intersection over union.
//!
//! The score is the mean over classes of intersection over union, counted over all pixels of all
//! images together as in Pascal VOC; void pixels (255) are ignored. In training, each labelled pixel
//! counts once, for the patch it lies in: the target of a patch is the histogram of its pixels.
//!
//! The networks are trained by [`FrozenSegmentation`](crate::network::FrozenSegmentation) and
//! [`transfer`](crate::network::transfer).

mod masks;
mod meter;
mod targets;
#[cfg(test)]
mod tests;
mod upsample;

pub use masks::{ClassMasks, MaskRule};
pub use meter::IouMeter;
pub(crate) use targets::patch_targets;
pub(crate) use upsample::class_map;
