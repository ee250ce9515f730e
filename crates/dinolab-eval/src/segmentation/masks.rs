//! Masks whose values are classes.

use dinolab_data::{Mask, Source};
use rayon::prelude::*;

use super::VOID;
use crate::{Error, Result};

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
}

/// What the masks of a source hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Images that have a mask with a labelled pixel.
    pub usable: Vec<usize>,
    /// The highest value but void, where there is one.
    pub highest: Option<usize>,
    /// Images whose mask is missing or cannot be read: number and reason.
    pub skipped: Vec<(usize, String)>,
}

/// Reads the masks of images `indices`.
pub fn survey(source: &dyn Source, indices: &[usize]) -> Survey {
    let found: Vec<std::result::Result<Option<u8>, String>> = indices
        .par_iter()
        .map(|&index| match source.mask(index) {
            Ok(Some(mask)) => Ok(mask.data.into_iter().filter(|&v| v != VOID).max()),
            Ok(None) => Err("has no mask".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .collect();
    let mut survey = Survey::default();
    for (&index, found) in indices.iter().zip(found) {
        match found {
            Ok(Some(highest)) => {
                survey.usable.push(index);
                survey.highest = survey.highest.max(Some(usize::from(highest)));
            }
            Ok(None) => survey
                .skipped
                .push((index, "is void throughout".to_owned())),
            Err(reason) => survey.skipped.push((index, reason)),
        }
    }
    survey
}
