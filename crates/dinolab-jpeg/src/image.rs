//! What goes in and comes out: kinds of pixels, scales, images.

use crate::error::{Result, Unsupported};

/// What a file holds, from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// Columns, as stored: EXIF orientation is not applied.
    pub width: usize,
    /// Rows, as stored.
    pub height: usize,
    /// Components of a pixel: 1 for grey, 3 for colour, 4 for CMYK and YCCK.
    pub components: usize,
    /// Whether the components differ in their numbers of samples, as in 4:2:0.
    pub is_subsampled: bool,
}

/// What becomes of a file's components.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// RGB, three bytes a pixel, whatever the file holds.
    #[default]
    Rgb,
    /// Grey (one byte a pixel), RGB (three) or CMYK (four), as the file has it. CMYK is not
    /// inverted: in files by Adobe's programs 0 is full ink.
    Stored,
}

/// The size that an image is decoded at, as a fraction of its own, rounded up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Full size.
    #[default]
    Full,
    /// Half the width and height.
    Half,
    /// A quarter of the width and height.
    Quarter,
    /// An eighth of the width and height.
    Eighth,
}

impl Scale {
    /// Pixels of the file, on a side, for one of the image: 1, 2, 4 or 8.
    pub fn divisor(self) -> usize {
        match self {
            Self::Full => 1,
            Self::Half => 2,
            Self::Quarter => 4,
            Self::Eighth => 8,
        }
    }
}

/// A decoded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes of a pixel.
    pub channels: usize,
    /// `[height, width, channels]`, `height × width × channels` bytes.
    pub data: Vec<u8>,
}

impl Output {
    /// Bytes of a pixel of a file with that many components.
    pub(crate) fn channels(self, components: usize) -> Result<usize> {
        match (self, components) {
            (Self::Rgb, _) => Ok(3),
            (Self::Stored, 1 | 3 | 4) => Ok(components),
            (Self::Stored, _) => Err(Unsupported::Components(components).into()),
        }
    }
}
