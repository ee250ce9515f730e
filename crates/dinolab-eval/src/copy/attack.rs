//! Alterations that turn an image into a copy of itself.

mod edits;

use std::fmt;
use std::io::Cursor;

use dinolab_data::augment::eval;
use dinolab_data::augment::resize::Filter;
use dinolab_data::random::{Purpose, Random};
use dinolab_data::{Image, decode};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use self::edits::{blurred, cropped, flipped, rotated, with_contrast, with_text};
use crate::{Error, Result};

/// A kind of alteration; with a strength it is an [`Attack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// The unaltered original.
    Original,
    /// JPEG compression; the strength is the quality, 1–100.
    Jpeg,
    /// A random crop; the strength is the percentage of the area that is lost, 0–99.
    Crop,
    /// Gaussian blur; the strength is the standard deviation in percent of the shorter side, 0–50.
    Blur,
    /// Contrast about the mean grey; the strength is the factor, 0–100.
    Contrast,
    /// A line of random letters at a random height; the strength is the height of the letters in
    /// percent of the image's, 1–100.
    Text,
    /// Horizontal flip; no strength.
    Flip,
    /// Counter-clockwise rotation about the centre; the strength is the angle, −360 to 360 degrees.
    /// Multiples of 90 are exact; other angles keep the size and leave the corners black.
    Rotate,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 8] = [
        Self::Original,
        Self::Jpeg,
        Self::Crop,
        Self::Blur,
        Self::Contrast,
        Self::Text,
        Self::Flip,
        Self::Rotate,
    ];

    /// Returns the name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Jpeg => "jpeg",
            Self::Crop => "crop",
            Self::Blur => "blur",
            Self::Contrast => "contrast",
            Self::Text => "text",
            Self::Flip => "flip",
            Self::Rotate => "rotate",
        }
    }

    fn range(self) -> Option<(f64, f64)> {
        Some(match self {
            Self::Original | Self::Flip => return None,
            Self::Jpeg => (1.0, 100.0),
            Self::Crop => (0.0, 99.0),
            Self::Blur => (0.0, 50.0),
            Self::Contrast => (0.0, 100.0),
            Self::Text => (1.0, 100.0),
            Self::Rotate => (-360.0, 360.0),
        })
    }
}

/// An alteration of a given strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attack {
    family: Family,
    strength: f64,
    /// Share of the area that is kept before compressing.
    jpeg_area: f64,
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family.range() {
            None => f.write_str(self.family.name()),
            Some(_) => write!(f, "{}/{}", self.family.name(), self.strength),
        }
    }
}

impl Attack {
    /// The unaltered image.
    pub const ORIGINAL: Self = Self {
        family: Family::Original,
        strength: 0.0,
        jpeg_area: 1.0,
    };

    /// Creates an alteration of the given strength, which is ignored for families without one.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for a strength out of the family's range.
    pub fn new(family: Family, strength: f64) -> Result<Self> {
        if let Some((least, most)) = family.range()
            && !(least..=most).contains(&strength)
        {
            return Err(Error::setting(
                family.name(),
                format!("{strength} is not between {least} and {most}"),
            ));
        }
        if family == Family::Jpeg && strength.fract() != 0.0 {
            return Err(Error::setting("jpeg", "quality is a whole number"));
        }
        Ok(Self {
            family,
            strength,
            jpeg_area: 1.0,
        })
    }

    /// Shrinks the image to this share of its area (above 0, at most 1) before JPEG compression;
    /// Copydays uses 1/16.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for a share out of range.
    pub fn with_jpeg_area(mut self, area: f64) -> Result<Self> {
        if !(area > 0.0 && area <= 1.0) {
            return Err(Error::setting("jpeg-area", "must be above 0 and at most 1"));
        }
        self.jpeg_area = area;
        Ok(self)
    }

    /// Returns the family.
    pub fn family(self) -> Family {
        self.family
    }

    /// Returns the altered image. Random choices depend only on `seed`, the image's `index` and the
    /// family.
    ///
    /// # Errors
    /// [`Error::Data`] for an image that is not RGB or too small.
    pub fn apply(self, picture: &Image, seed: u64, index: u64) -> Result<Image> {
        let mut random = Random::new(seed, self.family as u64, index, Purpose::Validation);
        match self.family {
            Family::Original => Ok(picture.clone()),
            Family::Jpeg => self.compressed(picture),
            Family::Crop => cropped(picture, self.strength, &mut random),
            Family::Blur => Ok(blurred(picture, self.strength)),
            Family::Contrast => Ok(with_contrast(picture, self.strength)),
            Family::Text => Ok(with_text(picture, self.strength, &mut random)),
            Family::Flip => Ok(flipped(picture)),
            Family::Rotate => Ok(rotated(picture, self.strength)),
        }
    }

    fn compressed(self, picture: &Image) -> Result<Image> {
        let side =
            |length: usize| ((length as f64 * self.jpeg_area.sqrt()).round() as usize).max(2);
        let small = match self.jpeg_area {
            1.0 => picture.clone(),
            _ => eval::resize(
                picture,
                side(picture.width),
                side(picture.height),
                Filter::Bicubic,
            )?,
        };
        let length = |side: usize| {
            u32::try_from(side).map_err(|_| Error::setting("jpeg", "the picture is too large"))
        };
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(Cursor::new(&mut bytes), self.strength as u8).encode(
            &small.data,
            length(small.width)?,
            length(small.height)?,
            ExtendedColorType::Rgb8,
        )?;
        Ok(decode::decode("jpeg copy", &bytes, u64::MAX)?)
    }
}

#[cfg(test)]
mod tests;
