//! Masks whose values are classes.

use dinolab_data::{Mask, Source};

use super::VOID;
use crate::{Error, Result};

/// Pascal VOC's classes in the order of its masks' values; 0 is everything else.
pub const VOC_CLASSES: [&str; 21] = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

/// What a mask's values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskRule {
    /// They are class numbers, 0 for background.
    Classes,
    /// They mark the image's one object, whose class is the image's label: 0 stays background,
    /// others become 1 + label.
    ObjectOfLabel,
}

/// A source whose masks are read as classes.
#[derive(Clone, Copy)]
pub struct ClassMasks<'a> {
    /// Images and masks.
    pub source: &'a dyn Source,
    /// What the masks' values mean.
    pub rule: MaskRule,
    /// Number of classes, background included; at most 255.
    pub classes: usize,
}

impl ClassMasks<'_> {
    /// The mask of image `index`, of the image's size.
    ///
    /// # Errors
    /// A mask that is missing, cannot be read, or has a value that is no class.
    pub fn mask(&self, index: usize) -> Result<Mask> {
        let name = || self.source.name(index);
        let Some(mut mask) = self.source.mask(index)? else {
            return Err(Error::invalid("mask", format!("{} has none", name())));
        };
        if self.rule == MaskRule::ObjectOfLabel {
            let label = self
                .source
                .label(index)
                .and_then(|label| u8::try_from(label + 1).ok())
                .filter(|&value| value != VOID)
                .ok_or_else(|| Error::invalid("label", format!("{} has none", name())))?;
            for value in &mut mask.data {
                if *value != 0 && *value != VOID {
                    *value = label;
                }
            }
        }
        let beyond = mask
            .data
            .iter()
            .find(|&&v| v != VOID && usize::from(v) >= self.classes);
        if let Some(value) = beyond {
            let reason = format!("{}: class {value} of {}", name(), self.classes);
            return Err(Error::invalid("mask", reason));
        }
        Ok(mask)
    }

    /// The highest class in the masks of some images, by reading all of them; those that cannot
    /// be read are left for later to complain of.
    pub fn highest(source: &dyn Source, indices: impl Iterator<Item = usize>) -> Option<usize> {
        indices
            .filter_map(|index| source.mask(index).ok().flatten())
            .flat_map(|mask| mask.data)
            .filter(|&value| value != VOID)
            .max()
            .map(usize::from)
    }
}
