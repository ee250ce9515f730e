//! Whether a folder of features is complete.

use std::fmt;

/// Findings of a kind that are listed.
const LISTED: usize = 10;

/// What was found; in words by [`Display`](fmt::Display).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Images of the set.
    pub images: usize,
    /// Parts of the set.
    pub parts: usize,
    /// Images that have a feature, of the parts that are whole.
    pub features: usize,
    /// Images that could not be used, of the parts that are whole.
    pub skipped: usize,
    /// Numbers of parts that are not there.
    pub missing: Vec<usize>,
    /// Parts that are there and wrong, with the reason.
    pub wrong: Vec<(usize, String)>,
    /// Whether all parts are whole, and their names are not those of the set.
    pub other_names: bool,
}

impl Verified {
    /// Whether every image of the set is there, once.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.wrong.is_empty() && !self.other_names
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (images, parts, features, skipped) =
            (self.images, self.parts, self.features, self.skipped);
        if self.is_whole() {
            return write!(
                f,
                "whole: {images} images in {parts} parts, each once; {features} features, {skipped} images that \
                 could not be used"
            );
        }
        write!(
            f,
            "not whole: {features} features of {images} images are there"
        )?;
        let list = |f: &mut fmt::Formatter<'_>, what: &str, lines: Vec<String>| {
            if lines.is_empty() {
                return Ok(());
            }
            write!(f, "; {} of {parts} parts are {what}: ", lines.len())?;
            let more = if lines.len() > LISTED { ", …" } else { "" };
            write!(f, "{}{more}", lines[..lines.len().min(LISTED)].join(", "))
        };
        list(
            f,
            "missing",
            self.missing.iter().map(usize::to_string).collect(),
        )?;
        let wrong = self
            .wrong
            .iter()
            .map(|(part, reason)| format!("{part} {reason}"));
        list(f, "wrong", wrong.collect())?;
        if self.other_names {
            write!(f, "; the names in the parts are not those of the set")?;
        }
        match self.wrong.is_empty() && !self.other_names {
            true => write!(f, "; embed again to write them"),
            false => write!(
                f,
                "; remove the files of wrong parts, part-NUMBER.parquet, and embed again"
            ),
        }
    }
}
