//! A decoded image and its label map.

use std::ops::Range;

use crate::size::Size;

/// An image, interleaved: sample `(y * width + x) * channels + c`.
///
/// Most are 8-bit RGB ([`Image::is_rgb`]), a byte for a sample. Images of other channels or depths
/// hold their samples one after the other in the machine's byte order; [`Image::row_plane`] reads
/// them all alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Samples per pixel, 3 by default.
    pub channels: usize,
    /// What a sample is.
    pub depth: Depth,
    /// `height × width × channels` samples of [`Depth::bytes`] each.
    pub data: Vec<u8>,
}

/// What a sample of an [`Image`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// A whole number in 0–255.
    #[default]
    Eight,
    /// A whole number in 0–65535.
    Sixteen,
    /// A number of single precision, in 0–1.
    Float,
}

impl Depth {
    /// Bytes of a sample.
    pub fn bytes(self) -> usize {
        match self {
            Self::Eight => 1,
            Self::Sixteen => 2,
            Self::Float => 4,
        }
    }
}

impl std::fmt::Display for Depth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Eight => "8 bit",
            Self::Sixteen => "16 bit",
            Self::Float => "float",
        })
    }
}

/// A label per pixel: 0 is background, 255 is void (left out of scores), any other
/// value is an object's or a class's number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height × width` labels.
    pub data: Vec<u8>,
}

impl Mask {
    /// The label of pixels that are left out of scores.
    pub const VOID: u8 = 255;

    /// Height and width.
    pub fn size(&self) -> Size {
        Size::new(self.height, self.width)
    }
}

impl Image {
    /// Height and width.
    pub fn size(&self) -> Size {
        Size::new(self.height, self.width)
    }

    /// A black 8-bit image.
    pub fn new(width: usize, height: usize, channels: usize) -> Self {
        Self {
            width,
            height,
            channels,
            depth: Depth::Eight,
            data: vec![0; width * height * channels],
        }
    }

    /// An 8-bit RGB image of `data`, `[height, width, 3]`.
    pub fn rgb(width: usize, height: usize, data: Vec<u8>) -> Self {
        Self {
            width,
            height,
            channels: 3,
            depth: Depth::Eight,
            data,
        }
    }

    /// A 16-bit image of samples `[height, width, channels]`.
    pub fn sixteen(width: usize, height: usize, channels: usize, samples: &[u16]) -> Self {
        Self {
            width,
            height,
            channels,
            depth: Depth::Sixteen,
            data: samples.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        }
    }

    /// An image of numbers `[height, width, channels]` in 0–1.
    pub fn float(width: usize, height: usize, channels: usize, samples: &[f32]) -> Self {
        Self {
            width,
            height,
            channels,
            depth: Depth::Float,
            data: samples.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        }
    }

    /// Whether it is 8-bit RGB.
    pub fn is_rgb(&self) -> bool {
        self.channels == 3 && self.depth == Depth::Eight
    }

    /// Whether it has as many samples as its sizes require, at least one.
    pub fn is_whole(&self) -> bool {
        let bytes = [self.height, self.channels, self.depth.bytes()]
            .iter()
            .try_fold(self.width, |product, &n| product.checked_mul(n));
        bytes.is_some_and(|bytes| bytes > 0 && bytes == self.data.len())
    }

    /// Appends one channel of a part of a row, as numbers in 0–1: 8-bit samples divided by 255,
    /// 16-bit ones by 65535 (each rounded once), numbers as they are.
    ///
    /// # Panics
    /// Where the row, the columns or the channel are not the image's.
    pub fn row_plane(
        &self,
        row: usize,
        columns: Range<usize>,
        channel: usize,
        out: &mut impl Extend<f32>,
    ) {
        let (pixel, sample) = (self.channels * self.depth.bytes(), self.depth.bytes());
        let start = (row * self.width + columns.start) * pixel;
        let part = &self.data[start..start + columns.len() * pixel];
        let samples = part
            .chunks_exact(pixel)
            .map(|pixel| &pixel[channel * sample..][..sample]);
        match self.depth {
            Depth::Eight => out.extend(samples.map(|s| f32::from(s[0]) / 255.0)),
            Depth::Sixteen => {
                out.extend(samples.map(|s| f32::from(u16::from_ne_bytes([s[0], s[1]])) / 65535.0))
            }
            Depth::Float => {
                out.extend(samples.map(|s| f32::from_ne_bytes([s[0], s[1], s[2], s[3]])));
            }
        }
    }

    /// One channel as numbers in 0–1, `[height, width]`; see [`Image::row_plane`].
    ///
    /// # Panics
    /// Where there is no such channel.
    pub fn plane(&self, channel: usize) -> Vec<f32> {
        let mut plane = Vec::with_capacity(self.width * self.height);
        for row in 0..self.height {
            self.row_plane(row, 0..self.width, channel, &mut plane);
        }
        plane
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_all_depths_are_read_alike() {
        let eight = Image {
            data: vec![0, 255, 51, 102],
            ..Image::new(2, 1, 2)
        };
        let sixteen = Image::sixteen(2, 1, 2, &[0, 65535, 13107, 26214]);
        let float = Image::float(2, 1, 2, &[0.0, 1.0, 0.2, 0.4]);
        for image in [eight, sixteen, float] {
            assert!(image.is_whole() && !image.is_rgb(), "{image:?}");
            assert_eq!(image.plane(0), [0.0, 0.2]);
            assert_eq!(image.plane(1), [1.0, 0.4]);
            let mut part = Vec::new();
            image.row_plane(0, 1..2, 1, &mut part);
            assert_eq!(part, [0.4]);
        }
    }

    #[test]
    fn neighbouring_levels_of_16_bits_differ() {
        let levels: Vec<u16> = (0..=u16::MAX).collect();
        let image = Image::sixteen(256, 256, 1, &levels);
        let plane = image.plane(0);
        assert!(plane.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((plane[0], plane[65535]), (0.0, 1.0));
    }

    #[test]
    fn what_is_missing_shows() {
        let mut image = Image::new(3, 2, 4);
        assert!(image.is_whole());
        image.data.pop();
        assert!(!image.is_whole());
        assert!(!Image::new(0, 2, 3).is_whole());
        let vast = Image {
            width: usize::MAX,
            ..Image::new(1, 2, 3)
        };
        assert!(!vast.is_whole());
    }
}
