//! PNG, WebP and BMP files.

use std::io::Cursor;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::format::Format;
use super::orientation::upright;
use super::refused::{Reason, check_size};
use crate::Image;

pub(super) fn open(bytes: &[u8], format: Format) -> Result<impl ImageDecoder + '_, Reason> {
    let (kind, label) = match format {
        Format::Png => (ImageFormat::Png, "PNG"),
        Format::WebP => (ImageFormat::WebP, "WebP"),
        Format::Bmp => (ImageFormat::Bmp, "BMP"),
        Format::Jpeg | Format::Tiff | Format::Unsupported(_) => return Err("not read here".into()),
    };
    match format {
        Format::Png => check_png(bytes)?,
        Format::WebP => check_webp(bytes)?,
        _ => {}
    }
    ImageReader::with_format(Cursor::new(bytes), kind)
        .into_decoder()
        .map_err(|e| format!("damaged {label}: {e}"))
}

/// Width, height and orientation.
pub(super) fn header(bytes: &[u8], format: Format) -> Result<(usize, usize, Orientation), Reason> {
    let mut decoder = open(bytes, format)?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((width as usize, height as usize, orientation))
}

/// Decodes to 8-bit RGB.
pub(super) fn decode(bytes: &[u8], format: Format, max_pixels: u64) -> Result<Image, Reason> {
    let mut decoder = open(bytes, format)?;
    let (width, height) = decoder.dimensions();
    check_size(u64::from(width), u64::from(height), max_pixels)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    decoder
        .set_limits(limits(max_pixels))
        .map_err(|e| e.to_string())?;
    let decoded =
        DynamicImage::from_decoder(decoder).map_err(|e| format!("damaged {format:?}: {e}"))?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let data = if decoded.color().has_alpha() && !is_unused(&decoded, format) {
        let rgba = decoded.into_rgba8();
        rgba.as_raw()
            .chunks_exact(4)
            .flat_map(|p| {
                [
                    over_black(p[0], p[3]),
                    over_black(p[1], p[3]),
                    over_black(p[2], p[3]),
                ]
            })
            .collect()
    } else {
        decoded.into_rgb8().into_raw()
    };
    upright(width, height, data, orientation)
}

/// Whether a bitmap's transparency is 0 everywhere: a channel that its program did not fill, since no one
/// keeps pictures of which nothing can be seen.
fn is_unused(decoded: &DynamicImage, format: Format) -> bool {
    let DynamicImage::ImageRgba8(rgba) = decoded else {
        return false;
    };
    format == Format::Bmp
        && rgba
            .as_raw()
            .iter()
            .skip(3)
            .step_by(4)
            .all(|&alpha| alpha == 0)
}

pub(super) fn limits(max_pixels: u64) -> Limits {
    let mut limits = Limits::default();
    // The picture itself (up to 16 bytes a pixel) and as much again for the decoder.
    limits.max_alloc = Some(max_pixels.saturating_mul(32).max(1 << 20));
    limits
}

/// A level under transparency over black.
pub(super) fn over_black(value: u8, alpha: u8) -> u8 {
    ((u32::from(value) * u32::from(alpha) + 127) / 255) as u8
}

/// A PNG ends with an `IEND` chunk; one without it is truncated.
pub(super) fn check_png(bytes: &[u8]) -> Result<(), Reason> {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        if &head[4..] == b"IEND" && bytes.len() >= at + 12 {
            return Ok(());
        }
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        at = at.saturating_add(length).saturating_add(12);
    }
    Err("truncated PNG: it ends before the image does".into())
}

/// A WebP file records its own length.
fn check_webp(bytes: &[u8]) -> Result<(), Reason> {
    match bytes.get(4..8) {
        Some(&[a, b, c, d]) if u32::from_le_bytes([a, b, c, d]) as usize <= bytes.len() - 8 => {
            Ok(())
        }
        _ => Err("truncated WebP: it ends before the image does".into()),
    }
}
