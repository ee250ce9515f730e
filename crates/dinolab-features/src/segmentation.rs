//! Between patches and pixels: the targets that patches are trained on, and the classes of pixels
//! that their logits say.
//!
//! In training, each labelled pixel counts once, for the patch that it lies in: the target of a patch
//! is the histogram of its pixels.

mod targets;
#[cfg(test)]
mod tests;
mod upsample;

pub(crate) use targets::patch_targets;
pub(crate) use upsample::class_map;
