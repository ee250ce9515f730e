//! Masks whose values are classes.

use dinolab_data::{Mask, Source};

use crate::{Error, Result};

/// The meaning of the values of a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskRule {
    /// Class numbers, 0 for background.
    Classes,
    /// The image's single object, whose class is the image's label: 0 is background, other values
    /// become 1 + label.
    ObjectOfLabel,
}

/// A source whose masks are read as classes.
#[derive(Clone, Copy)]
pub struct ClassMasks<'a> {
    /// Images and masks.
    pub source: &'a dyn Source,
    /// The meaning of the values of the masks.
    pub rule: MaskRule,
    /// Number of classes including background, at most 255.
    pub classes: usize,
}

impl ClassMasks<'_> {
    /// Returns the mask of image `index`, at the size of the image.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a missing mask or a value that is not a class, [`Error::Data`] for a
    /// mask that cannot be read.
    pub fn mask(&self, index: usize) -> Result<Mask> {
        let name = || self.source.name(index);
        let Some(mut mask) = self.source.mask(index)? else {
            return Err(Error::invalid("mask", format!("{} has no mask", name())));
        };
        if self.rule == MaskRule::ObjectOfLabel {
            let label = self
                .source
                .label(index)
                .and_then(|label| u8::try_from(label + 1).ok())
                .filter(|&value| value != Mask::VOID)
                .ok_or_else(|| Error::invalid("label", format!("{} has no label", name())))?;
            for value in &mut mask.data {
                if *value != 0 && *value != Mask::VOID {
                    *value = label;
                }
            }
        }
        let beyond = mask
            .data
            .iter()
            .find(|&&v| v != Mask::VOID && usize::from(v) >= self.classes);
        if let Some(value) = beyond {
            let reason = format!("{}: class {value} of {}", name(), self.classes);
            return Err(Error::invalid("mask", reason));
        }
        Ok(mask)
    }
}
