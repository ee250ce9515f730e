//! Decoding of a file of any format.

use super::format::{Format, format_of};
use super::orientation::upright_size;
use super::pixels::Pixels;
use super::refused::{Reason, bad, caught};
use super::{jpeg, mask, npy, other, stored, tiff};
use crate::{Image, Mask, Result, Size};

/// Decodes a file to `pixels`: as [`decode`] does, or for [`Pixels::Stored`] a TIFF, PNG, JPEG,
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
/// any pixel is decoded) are [`Error::BadImage`](crate::Error::BadImage).
pub fn decode(name: &str, bytes: &[u8], max_pixels: u64) -> Result<Image> {
    caught(|| decode_bytes(bytes, max_pixels)).map_err(|reason| bad(name, reason))
}

/// Returns the size of the image that [`decode`] would give, from the header only.
///
/// # Errors
/// [`Error::BadImage`](crate::Error::BadImage), also for a truncated JPEG, PNG or WebP file.
pub fn dimensions(name: &str, bytes: &[u8]) -> Result<Size> {
    caught(|| header_dimensions(bytes)).map_err(|reason| bad(name, reason))
}

/// Decodes a label map: the *indices* of a palette PNG (never its colours), or the
/// values of a greyscale PNG. Labels are 0–255; 255 is void.
pub fn decode_mask(name: &str, bytes: &[u8], max_pixels: u64) -> Result<Mask> {
    caught(|| mask::decode(bytes, max_pixels)).map_err(|reason| bad(name, reason))
}

pub(super) fn decode_bytes(bytes: &[u8], max_pixels: u64) -> Result<Image, Reason> {
    match format_of(bytes)? {
        Format::Jpeg => jpeg::decode(bytes, max_pixels),
        Format::Tiff => tiff::decode(bytes, max_pixels),
        format => other::decode(bytes, format, max_pixels),
    }
}

pub(super) fn header_dimensions(bytes: &[u8]) -> Result<Size, Reason> {
    let (width, height, orientation) = match format_of(bytes)? {
        Format::Jpeg => jpeg::header(bytes)?,
        Format::Tiff => tiff::header(bytes)?,
        format => other::header(bytes, format)?,
    };
    Ok(upright_size(Size { height, width }, orientation))
}
