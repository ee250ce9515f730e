//! Large JPEG photographs at half or a quarter of their size.
//!
//! A block of 8 × 8 pixels is stored as frequencies. Its lowest 4 × 4 (2 × 2) transformed back alone are
//! the block at half (a quarter) of its size. The entropy coding must be undone
//! in full, but all that comes after it, up to the resizing of crops, has that many pixels fewer to do.
//!
//! Anything but a JPEG that `dinolab-jpeg` can scale, and anything damaged, is left to the full decode
//! and its errors.

use ::image::metadata::Orientation;
use dinolab_jpeg::{Decoder, Info, Output, Scale};

use super::file::{decode_bytes, decode_to};
use super::format::{Format, sniff};
use super::jpeg;
use super::orientation::{upright, upright_size};
use super::pixels::Pixels;
use super::refused::{Reason, bad, caught};
use crate::{Image, Result, Size};

/// The factors by which images can be smaller.
pub const SCALES: [usize; 3] = [4, 2, 1];

/// The factor, one of [`SCALES`], for an upright image of some size.
pub type ScaleOf<'a> = &'a dyn Fn(Size) -> usize;

/// An image that may have fewer pixels than its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaled {
    /// The image.
    pub image: Image,
    /// Size of the picture in the file, upright.
    pub full: Size,
    /// Sides of the file's pixels that make one side of the image's, one of [`SCALES`].
    pub scale: usize,
    /// Where the upper left corner of what the file holds lies in the image, in pixels of the
    /// image: where sides are no multiple of the scale and the image was turned, not at (0, 0).
    corner: (f64, f64),
}

impl Scaled {
    /// An image in full.
    pub fn full(image: Image) -> Self {
        Self {
            full: image.size(),
            scale: 1,
            corner: (0.0, 0.0),
            image,
        }
    }

    /// Where in the image a place of the full one lies: columns and rows from the upper left corner.
    pub fn place(&self, (x, y): (usize, usize)) -> (f64, f64) {
        let scale = self.scale as f64;
        // Divisions by powers of two are exact.
        let (left, top) = (self.corner.0, self.corner.1);
        (left + x as f64 / scale, top + y as f64 / scale)
    }
}

/// Decodes a file as [`decode_to`] does or, where it is a large JPEG to be 8-bit RGB, to fewer pixels.
///
/// `scale_of` gives the factor for an upright image of some size. It is one of [`SCALES`],
/// and must depend on nothing else, so that a file is always decoded alike. Files that cannot be
/// decoded at a scale are decoded in full.
///
/// # Errors
/// As [`decode_to`].
pub fn decode_scaled(
    pixels: Pixels,
    name: &str,
    bytes: &[u8],
    max_pixels: u64,
    scale_of: ScaleOf,
) -> Result<Scaled> {
    if pixels != Pixels::Rgb {
        return decode_to(pixels, name, bytes, max_pixels).map(Scaled::full);
    }
    let decode = || match smaller(bytes, max_pixels, scale_of) {
        Some(scaled) => Ok(scaled),
        None => decode_bytes(bytes, max_pixels).map(Scaled::full),
    };
    caught(decode).map_err(|reason: Reason| bad(name, reason))
}

/// A JPEG at the scale that `scale_of` wants; `None` where that is 1, or where it cannot be done.
fn smaller(bytes: &[u8], max_pixels: u64, scale_of: ScaleOf) -> Option<Scaled> {
    if sniff(bytes) != Some(Format::Jpeg) {
        return None;
    }
    let decoder = Decoder::new(bytes).ok()?.with_max_pixels(max_pixels);
    let orientation = jpeg::orientation(&decoder);
    let &Info { width, height, .. } = decoder.info();
    let full = upright_size(Size { height, width }, orientation);
    if (width as u64).saturating_mul(height as u64) > max_pixels {
        return None;
    }
    let scale = match scale_of(full) {
        2 => Scale::Half,
        4 => Scale::Quarter,
        _ => return None,
    };
    let decoded = decoder.decode_scaled(Output::Rgb, scale).ok()?;
    let image = upright(decoded.width, decoded.height, decoded.data, orientation).ok()?;
    let scale = scale.divisor();
    // What rounding up has added lies to the right of the file's picture and below it; where that
    // was turned, it may have come to the other side.
    let added = |side: usize, full: usize| side as f64 - full as f64 / scale as f64;
    let (left, top) = mirrors(orientation);
    let corner = (
        if left {
            added(image.width, full.width)
        } else {
            0.0
        },
        if top {
            added(image.height, full.height)
        } else {
            0.0
        },
    );
    Some(Scaled {
        image,
        full,
        scale,
        corner,
    })
}

/// Whether the columns of the upright picture run against the file's columns (or rows), and whether its
/// rows do.
fn mirrors(orientation: Orientation) -> (bool, bool) {
    match orientation {
        Orientation::NoTransforms | Orientation::Rotate90FlipH => (false, false),
        Orientation::FlipHorizontal | Orientation::Rotate90 => (true, false),
        Orientation::FlipVertical | Orientation::Rotate270 => (false, true),
        Orientation::Rotate180 | Orientation::Rotate270FlipH => (true, true),
    }
}
