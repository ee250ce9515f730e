//! Image files to pixels.
//!
//! The format is told by the bytes, never by the name. What comes out is upright (EXIF
//! orientation applied) and, unless asked otherwise ([`Pixels`]), 8-bit RGB with transparency laid
//! over black.
//! A damaged file is an error, never a half-grey image: self-supervised training
//! would happily learn the damage.

use std::borrow::Cow;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

use crate::{Error, Image, Mask, Result};

mod kind;
mod npy;
mod stored;

pub use kind::{StoredKind, stored_kind};
pub use stored::MAX_CHANNELS;

/// Why a file cannot be used; the caller adds the name.
type Reason = String;

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
    } else if at(0, b"BM") && (at(6, &[0; 4]) || bytes.len() < 10) {
        // The two reserved fields tell a bitmap from a text that begins with "BM".
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
    caught(|| decode_mask_bytes(bytes, max_pixels)).map_err(|reason| bad(name, reason))
}

/// A decoder that panics has met a file that it did not expect: no reason to end a run.
fn caught<T>(decode: impl FnOnce() -> Result<T, Reason>) -> Result<T, Reason> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err("damaged: its decoder gave up on it (a panic)".into()))
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
        Format::Jpeg => decode_jpeg(bytes, max_pixels),
        format => decode_other(bytes, format, max_pixels),
    }
}

fn header_dimensions(bytes: &[u8]) -> Result<(usize, usize), Reason> {
    let (width, height, orientation) = match format_of(bytes)? {
        Format::Jpeg => {
            let checked = check_jpeg(bytes)?;
            let mut decoder = zune_jpeg::JpegDecoder::new_with_options(
                ZCursor::new(checked.as_ref()),
                jpeg_options(),
            );
            let (w, h) = jpeg_header(&mut decoder)?;
            (w, h, jpeg_orientation(&decoder))
        }
        format => {
            let mut decoder = open_other(bytes, format)?;
            let (w, h) = decoder.dimensions();
            (
                w as usize,
                h as usize,
                decoder.orientation().unwrap_or(Orientation::NoTransforms),
            )
        }
    };
    let turned = matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    );
    Ok(if turned {
        (height, width)
    } else {
        (width, height)
    })
}

// ---- JPEG -------------------------------------------------------------------------

/// Strict, because the lenient mode fills what is missing with grey and calls it done.
fn jpeg_options() -> DecoderOptions {
    DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB)
}

type Jpeg<'a> = zune_jpeg::JpegDecoder<ZCursor<&'a [u8]>>;

fn jpeg_header(decoder: &mut Jpeg<'_>) -> Result<(usize, usize), Reason> {
    decoder
        .decode_headers()
        .map_err(|e| format!("damaged JPEG: {e}"))?;
    decoder
        .dimensions()
        .ok_or_else(|| "damaged JPEG: no dimensions".into())
}

fn jpeg_orientation(decoder: &Jpeg<'_>) -> Orientation {
    decoder
        .exif()
        .and_then(|chunk| Orientation::from_exif_chunk(chunk))
        .unwrap_or(Orientation::NoTransforms)
}

fn decode_jpeg(bytes: &[u8], max_pixels: u64) -> Result<Image, Reason> {
    let checked = check_jpeg(bytes)?;
    let mut decoder =
        zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(checked.as_ref()), jpeg_options());
    let (width, height) = jpeg_header(&mut decoder)?;
    check_size(width as u64, height as u64, max_pixels)?;
    let data = decoder.decode().map_err(|e| format!("damaged JPEG: {e}"))?;
    if data.len() != width * height * 3 {
        return Err("damaged JPEG: unexpected number of colour components".into());
    }
    upright(width, height, data, jpeg_orientation(&decoder))
}

/// Walks the file's segments up to the end-of-image marker. A file without one is
/// truncated. Stray bytes between segments, which every browser ignores, are cut out,
/// because the strict decoder would refuse the file for them.
fn check_jpeg(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Reason> {
    const TRUNCATED: &str = "truncated JPEG: it ends before the image does";
    let mut stray: Vec<(usize, usize)> = Vec::new();
    let mut at = 2;
    let mut scans = 0;
    let end = loop {
        // To the next marker: 0xFF (repeated as fill) and a code that is neither 0 nor 0xFF.
        let start = at;
        while at < bytes.len()
            && !(bytes[at] == 0xFF && bytes.get(at + 1).is_some_and(|&c| c != 0 && c != 0xFF))
        {
            at += 1;
        }
        let Some(&code) = bytes.get(at + 1) else {
            return Err(TRUNCATED.into());
        };
        if at > start {
            stray.push((start, at));
        }
        at += 2;
        match code {
            0xD9 => break at,
            0x01 | 0xD0..=0xD8 => continue,
            _ => {}
        }
        let Some(length) = bytes.get(at..at + 2) else {
            return Err(TRUNCATED.into());
        };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length < 2 {
            return Err("damaged JPEG: a segment shorter than its own length field".into());
        }
        at += length;
        if at > bytes.len() {
            return Err(TRUNCATED.into());
        }
        if code == 0xDA {
            scans += 1;
            // Entropy-coded data: a marker ends it, unless it is a stuffed zero or a restart.
            loop {
                let Some(found) = memchr::memchr(0xFF, &bytes[at..]) else {
                    return Err(TRUNCATED.into());
                };
                match bytes.get(at + found + 1) {
                    None => return Err(TRUNCATED.into()),
                    Some(0 | 0xD0..=0xD7) => at += found + 2,
                    Some(0xFF) => at += found + 1,
                    Some(_) => {
                        at += found;
                        break;
                    }
                }
            }
        }
    };
    if scans == 0 {
        return Err("damaged JPEG: it holds no image data".into());
    }
    if stray.is_empty() {
        // What follows the end (a second picture, a camera's own data) is not ours.
        return Ok(Cow::Borrowed(&bytes[..end]));
    }
    let mut clean = Vec::with_capacity(end);
    let mut from = 0;
    for (start, stop) in stray {
        clean.extend_from_slice(&bytes[from..start]);
        from = stop;
    }
    clean.extend_from_slice(&bytes[from..end]);
    Ok(Cow::Owned(clean))
}

// ---- the other formats ------------------------------------------------------------

fn open_other(bytes: &[u8], format: Format) -> Result<impl ImageDecoder + '_, Reason> {
    let (kind, label) = match format {
        Format::Png => (ImageFormat::Png, "PNG"),
        Format::WebP => (ImageFormat::WebP, "WebP"),
        Format::Tiff => (ImageFormat::Tiff, "TIFF"),
        Format::Bmp => (ImageFormat::Bmp, "BMP"),
        Format::Jpeg | Format::Unsupported(_) => return Err("not read here".into()),
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

fn decode_other(bytes: &[u8], format: Format, max_pixels: u64) -> Result<Image, Reason> {
    let mut decoder = open_other(bytes, format)?;
    let (width, height) = decoder.dimensions();
    check_size(u64::from(width), u64::from(height), max_pixels)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    decoder
        .set_limits(limits(max_pixels))
        .map_err(|e| e.to_string())?;
    let decoded =
        DynamicImage::from_decoder(decoder).map_err(|e| format!("damaged {format:?}: {e}"))?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let data = if decoded.color().has_alpha() {
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

fn limits(max_pixels: u64) -> Limits {
    let mut limits = Limits::default();
    // The picture itself (up to 16 bytes a pixel) and as much again for the decoder.
    limits.max_alloc = Some(max_pixels.saturating_mul(32).max(1 << 20));
    limits
}

fn over_black(value: u8, alpha: u8) -> u8 {
    ((u32::from(value) * u32::from(alpha) + 127) / 255) as u8
}

/// A PNG ends with an `IEND` chunk; one without it is truncated.
fn check_png(bytes: &[u8]) -> Result<(), Reason> {
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

/// A WebP file says its own length.
fn check_webp(bytes: &[u8]) -> Result<(), Reason> {
    match bytes.get(4..8) {
        Some(&[a, b, c, d]) if u32::from_le_bytes([a, b, c, d]) as usize <= bytes.len() - 8 => {
            Ok(())
        }
        _ => Err("truncated WebP: it ends before the image does".into()),
    }
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

// ---- label maps -------------------------------------------------------------------

fn decode_mask_bytes(bytes: &[u8], max_pixels: u64) -> Result<Mask, Reason> {
    if format_of(bytes)? != Format::Png {
        return Err("a mask must be a palette or greyscale PNG".into());
    }
    check_png(bytes)?;
    let fail = |e: png::DecodingError| format!("damaged PNG: {e}");
    let limits = png::Limits {
        bytes: usize::try_from(max_pixels.saturating_mul(8))
            .unwrap_or(usize::MAX)
            .max(1 << 20),
    };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(fail)?;
    let (width, height) = (reader.info().width, reader.info().height);
    check_size(u64::from(width), u64::from(height), max_pixels)?;
    let (width, height) = (width as usize, height as usize);
    let (kind, depth) = reader.output_color_type();
    if !matches!(kind, png::ColorType::Indexed | png::ColorType::Grayscale) {
        return Err("a mask must be a palette or greyscale PNG; this one holds colours".into());
    }
    let size = reader.output_buffer_size().ok_or("the mask is too large")?;
    let mut raw = vec![0; size];
    let frame = reader.next_frame(&mut raw).map_err(fail)?;
    let bits = match depth {
        png::BitDepth::One => 1,
        png::BitDepth::Two => 2,
        png::BitDepth::Four => 4,
        png::BitDepth::Eight => 8,
        png::BitDepth::Sixteen => {
            return Err("a mask must have at most 8 bits per pixel; this one has 16".into());
        }
    };
    let mut data = Vec::with_capacity(width * height);
    for row in raw.chunks_exact(frame.line_size).take(height) {
        data.extend((0..width).map(|x| {
            let bit = x * bits;
            (row[bit / 8] >> (8 - bits - bit % 8)) & (0xFF >> (8 - bits))
        }));
    }
    Ok(Mask {
        width,
        height,
        data,
    })
}
