//! Masks whose values are classes.

use dinolab_data::{Mask, Source};
use rayon::prelude::*;

use super::VOID;
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
                .filter(|&value| value != VOID)
                .ok_or_else(|| Error::invalid("label", format!("{} has no label", name())))?;
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
}

/// The content of the masks of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskStatistics {
    /// Images whose mask has a labelled pixel.
    pub usable: Vec<usize>,
    /// The highest value except void, if any.
    pub highest: Option<usize>,
    /// Images whose mask is missing or cannot be read: index and reason.
    pub skipped: Vec<(usize, String)>,
}

/// Reads the masks of images `indices`.
pub fn mask_statistics(source: &dyn Source, indices: &[usize]) -> MaskStatistics {
    let found: Vec<std::result::Result<Option<u8>, String>> = indices
        .par_iter()
        .map(|&index| match source.mask(index) {
            Ok(Some(mask)) => Ok(mask.data.into_iter().filter(|&v| v != VOID).max()),
            Ok(None) => Err("has no mask".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .collect();
    let mut statistics = MaskStatistics::default();
    for (&index, found) in indices.iter().zip(found) {
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
