//! JPEG files.

use std::borrow::Cow;

use ::image::metadata::Orientation;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

use super::huffman::{self, Damaged, Header};
use super::{Reason, check_size, upright};
use crate::Image;

/// Strict, because the lenient mode fills what is missing with grey and calls it done.
fn options() -> DecoderOptions {
    DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB)
}

type Jpeg<'a> = zune_jpeg::JpegDecoder<ZCursor<&'a [u8]>>;

fn read_header(decoder: &mut Jpeg<'_>) -> Result<(usize, usize), Reason> {
    decoder
        .decode_headers()
        .map_err(|e| format!("damaged JPEG: {e}"))?;
    decoder
        .dimensions()
        .ok_or_else(|| "damaged JPEG: no dimensions".into())
}

fn orientation(decoder: &Jpeg<'_>) -> Orientation {
    decoder
        .exif()
        .and_then(|chunk| Orientation::from_exif_chunk(chunk))
        .unwrap_or(Orientation::NoTransforms)
}

/// Width, height and orientation.
pub(super) fn header(bytes: &[u8]) -> Result<(usize, usize, Orientation), Reason> {
    let checked = whole(bytes)?;
    if let Some(header) = Header::read(&checked) {
        return Ok((header.width, header.height, header.orientation));
    }
    let mut decoder =
        zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(checked.as_ref()), options());
    let (width, height) = read_header(&mut decoder)?;
    Ok((width, height, orientation(&decoder)))
}

/// The colours that the file holds.
pub(super) fn colours(bytes: &[u8]) -> Result<Option<ColorSpace>, Reason> {
    let checked = whole(bytes)?;
    let mut decoder =
        zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(checked.as_ref()), options());
    read_header(&mut decoder)?;
    Ok(decoder.input_colorspace())
}

/// Decodes to 8-bit RGB.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Image, Reason> {
    // Nearly all files are such that the decoder sees by itself whether they are whole.
    if let Some(image) = decode_huffman(bytes, max_pixels)? {
        return Ok(image);
    }
    let checked = whole(bytes)?;
    if let Cow::Owned(clean) = &checked
        && let Some(image) = decode_huffman(clean, max_pixels)?
    {
        return Ok(image);
    }
    let mut decoder =
        zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(checked.as_ref()), options());
    let (width, height) = read_header(&mut decoder)?;
    check_size(width as u64, height as u64, max_pixels)?;
    let data = decoder.decode().map_err(|e| format!("damaged JPEG: {e}"))?;
    if data.len() != width * height * 3 {
        return Err("damaged JPEG: unexpected number of colour components".into());
    }
    upright(width, height, data, orientation(&decoder))
}

/// Decodes a file of the usual kind; `None` for others.
fn decode_huffman(bytes: &[u8], max_pixels: u64) -> Result<Option<Image>, Reason> {
    let Some(header) = Header::read(bytes) else {
        return Ok(None);
    };
    let (width, height) = (header.width, header.height);
    check_size(width as u64, height as u64, max_pixels)?;
    let reason = match huffman::full(&header) {
        Ok(Some(data)) => return upright(width, height, data, header.orientation).map(Some),
        Ok(None) => return Ok(None),
        Err(Damaged::Short) => "its data end before the image does",
        Err(Damaged::Long) => "its data go on behind the image",
        Err(Damaged::Wrong) => "its data make no sense",
    };
    Err(format!("damaged JPEG: {reason}"))
}

/// Walks the file's segments up to the end-of-image marker. A file without one is
/// truncated. Stray bytes between segments, which every browser ignores, are cut out,
/// because the strict decoder would refuse the file for them.
pub(super) fn whole(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Reason> {
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
