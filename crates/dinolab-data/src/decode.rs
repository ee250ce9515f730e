//! Image files to pixels.
//!
//! The format is told by the bytes, never by the name. What comes out is upright (EXIF
//! orientation applied) and, unless asked otherwise ([`Pixels`]), 8-bit RGB with transparency laid
//! over black.
//! A damaged file is an error, never a half-grey image: self-supervised training
//! would happily learn the damage.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::image::metadata::Orientation;
use ::image::{DynamicImage, RgbImage};

use crate::{Error, Image, Mask, Result};

mod jpeg;
mod kind;
mod mask;
mod npy;
mod other;
mod scaled;
mod stored;
mod tiff;

pub use kind::{StoredKind, stored_kind};
pub use scaled::{SCALES, ScaleOf, Scaled, decode_scaled};
pub use stored::MAX_CHANNELS;

/// Why a file cannot be used; the caller adds the name.
pub(crate) type Reason = String;

/// The side, in pixels, that an image must have at least.
const MIN_SIDE: u64 = 2;

/// File formats told apart by their first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG, baseline or progressive.
    Jpeg,
    /// PNG.
    Png,
    /// WebP, lossy or lossless.
    WebP,
    /// TIFF, either byte order.
    Tiff,
    /// Windows bitmap.
    Bmp,
    /// A picture in a format that is recognised but not read.
    Unsupported(&'static str),
}

/// Tells the format from the first bytes of a file (16 are enough); `None` if they
/// are of no known image.
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    let at =
        |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|b| b.starts_with(magic));
    Some(if at(0, &[0xFF, 0xD8, 0xFF]) {
        Format::Jpeg
    } else if at(0, b"\x89PNG\r\n\x1a\n") {
        Format::Png
    } else if at(0, b"RIFF") && at(8, b"WEBP") {
        Format::WebP
    } else if at(0, b"II*\0") || at(0, b"MM\0*") || at(0, b"II+\0") || at(0, b"MM\0+") {
        Format::Tiff
    } else if is_bitmap(bytes) {
        Format::Bmp
    } else if at(0, b"GIF8") {
        Format::Unsupported("GIF")
    } else if at(4, b"ftypavif") || at(4, b"ftypavis") {
        Format::Unsupported("AVIF")
    } else if at(4, b"ftyphei") || at(4, b"ftypmif1") {
        Format::Unsupported("HEIC")
    } else if at(0, b"\0\0\0\x0cjP  ") || at(0, &[0xFF, 0x4F, 0xFF, 0x51]) {
        Format::Unsupported("JPEG 2000")
    } else if at(0, &[0xFF, 0x0A]) || at(0, b"\0\0\0\x0cJXL ") {
        Format::Unsupported("JPEG XL")
    } else {
        return None;
    })
}

/// Whether bytes begin a bitmap, rather than a text that begins with "BM". Some programs write something
/// into the two reserved fields; then where the pixels begin, and the size of the second header tell.
fn is_bitmap(bytes: &[u8]) -> bool {
    let little = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b));
    let number = |at: usize| bytes.get(at..at + 4).map(little);
    if !bytes.starts_with(b"BM") {
        return false;
    }
    let Some(reserved) = number(6) else {
        return true;
    };
    // The lower half of the header's size is enough.
    let size = bytes.get(14..16).map(little);
    let is_header = |size| matches!(size, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124);
    reserved == 0
        || size
            .zip(number(10))
            .is_some_and(|(size, pixels)| is_header(size) && (14 + size..1 << 16).contains(&pixels))
}

/// What files are decoded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pixels {
    /// 8-bit RGB, whatever a file holds.
    #[default]
    Rgb,
    /// The channels and the depth that a file holds; one of another number of channels is bad.
    Stored {
        /// Channels that every file must have, at most [`MAX_CHANNELS`].
        channels: usize,
    },
}

impl Pixels {
    /// Channels of an image, `C`.
    pub fn channels(self) -> usize {
        match self {
            Self::Rgb => 3,
            Self::Stored { channels } => channels,
        }
    }

    /// Checks an image: whole, and of the kind that [`decode_to`] gives.
    ///
    /// # Errors
    /// [`Error::BadImage`], named by its size.
    pub fn check(self, image: &Image) -> Result<()> {
        let reason = if image.channels != self.channels() {
            format!(
                "has {} channels instead of {}",
                image.channels,
                self.channels()
            )
        } else if self == Self::Rgb && !image.is_rgb() {
            format!("is {} instead of 8 bit", image.depth)
        } else if !image.is_whole() {
            "is empty, or shorter than it says".into()
        } else {
            return Ok(());
        };
        Err(bad(
            &format!("image of {} × {}", image.width, image.height),
            reason,
        ))
    }
}

/// Decodes a file to `pixels`: as [`decode`] does or, for [`Pixels::Stored`], a TIFF, PNG, JPEG,
/// WebP, BMP or `.npy` file to the channels that it holds, of 8 or 16 bits or numbers in 0–1.
///
/// # Errors
/// As [`decode`]; also for a file of another number of channels, numbers out of range.
pub fn decode_to(pixels: Pixels, name: &str, bytes: &[u8], max_pixels: u64) -> Result<Image> {
    match pixels {
        Pixels::Rgb => decode(name, bytes, max_pixels),
        Pixels::Stored { channels } => caught(|| stored::decode(bytes, channels, max_pixels))
            .map_err(|reason| bad(name, reason)),
    }
}

/// Whether the first bytes of a file are those of a NumPy array, an image where channels are read
/// as stored.
pub fn is_array(bytes: &[u8]) -> bool {
    npy::is_array(bytes)
}

/// Decodes a JPEG, PNG, WebP, TIFF or BMP file to 8-bit RGB.
///
/// `name` is used in errors only. Files that are empty, truncated, of no known format,
/// under 2 pixels on a side, or over `max_pixels` (refused on the header alone, before
/// any pixel is decoded) are [`Error::BadImage`].
pub fn decode(name: &str, bytes: &[u8], max_pixels: u64) -> Result<Image> {
    caught(|| decode_bytes(bytes, max_pixels)).map_err(|reason| bad(name, reason))
}

/// Width and height of the image that [`decode`] would give, read from the header only.
pub fn dimensions(name: &str, bytes: &[u8]) -> Result<(usize, usize)> {
    caught(|| header_dimensions(bytes)).map_err(|reason| bad(name, reason))
}

/// Decodes a label map: the *indices* of a palette PNG (never its colours), or the
/// values of a greyscale PNG. Labels are 0–255; 255 is void.
pub fn decode_mask(name: &str, bytes: &[u8], max_pixels: u64) -> Result<Mask> {
    caught(|| mask::decode(bytes, max_pixels)).map_err(|reason| bad(name, reason))
}

/// A decoder that panics has met a file that it did not expect: no reason to end a run.
pub(crate) fn caught<T>(decode: impl FnOnce() -> Result<T, Reason>) -> Result<T, Reason> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err("damaged: its decoder gave up on it (a panic)".into()))
}

/// Why a sound file is not used: what it is, and what to do with it.
fn not_read(what: &str, instead: &str) -> Reason {
    format!("not read by dinolab: {what}; {instead}")
}

fn bad(name: &str, reason: Reason) -> Error {
    Error::BadImage {
        name: name.to_owned(),
        reason,
    }
}

fn format_of(bytes: &[u8]) -> Result<Format, Reason> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    match sniff(bytes) {
        Some(Format::Unsupported(what)) => Err(format!(
            "{what} images are not supported; convert it to JPEG or PNG"
        )),
        Some(format) => Ok(format),
        None => Err("not an image of a known format".into()),
    }
}

fn check_size(width: u64, height: u64, max_pixels: u64) -> Result<(), Reason> {
    if width < MIN_SIDE || height < MIN_SIDE {
        return Err(format!(
            "{width}×{height} pixels is too small, the least is {MIN_SIDE}×{MIN_SIDE}"
        ));
    }
    if width.saturating_mul(height) > max_pixels {
        return Err(format!(
            "{width}×{height} pixels is over the limit of {max_pixels}"
        ));
    }
    Ok(())
}

fn decode_bytes(bytes: &[u8], max_pixels: u64) -> Result<Image, Reason> {
    match format_of(bytes)? {
        Format::Jpeg => jpeg::decode(bytes, max_pixels),
        Format::Tiff => tiff::decode(bytes, max_pixels),
        format => other::decode(bytes, format, max_pixels),
    }
}

fn header_dimensions(bytes: &[u8]) -> Result<(usize, usize), Reason> {
    let (width, height, orientation) = match format_of(bytes)? {
        Format::Jpeg => jpeg::header(bytes)?,
        Format::Tiff => tiff::header(bytes)?,
        format => other::header(bytes, format)?,
    };
    Ok(match turns(orientation) {
        true => (height, width),
        false => (width, height),
    })
}

/// Whether rows become columns.
fn turns(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

fn upright(
    width: usize,
    height: usize,
    data: Vec<u8>,
    orientation: Orientation,
) -> Result<Image, Reason> {
    if orientation == Orientation::NoTransforms {
        return Ok(Image::rgb(width, height, data));
    }
    let buffer = RgbImage::from_raw(width as u32, height as u32, data)
        .ok_or("damaged image: pixels are missing")?;
    let mut turned = DynamicImage::ImageRgb8(buffer);
    turned.apply_orientation(orientation);
    Ok(Image::rgb(
        turned.width() as usize,
        turned.height() as usize,
        turned.into_rgb8().into_raw(),
    ))
}
