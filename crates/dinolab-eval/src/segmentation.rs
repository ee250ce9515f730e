//! Semantic segmentation: masks of classes and mean intersection over union.
//!
//! The score is the mean over classes of intersection over union, counted over all pixels of all
//! images together as in Pascal VOC; void pixels (255) are ignored.

mod masks;
mod meter;
#[cfg(test)]
mod tests;

pub use masks::{ClassMasks, MaskRule};
pub use meter::IouMeter;
