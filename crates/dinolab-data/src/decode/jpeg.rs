//! JPEG files.

use std::borrow::Cow;

use ::image::metadata::Orientation;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::errors::DecodeErrors;

use self::frame::Frame;
pub(super) use super::huffman::Colours;
use super::huffman::{self, Damaged, Header};
use super::{Reason, check_size, not_read, upright};
use crate::Image;

mod frame;

type Jpeg<'a> = zune_jpeg::JpegDecoder<ZCursor<&'a [u8]>>;

/// The decoder for the files that [`huffman`] leaves alone, to pixels of one of zune's kinds.
///
/// Strict, because the lenient mode fills what is missing with grey and calls it done.
fn other(bytes: &[u8], out: ColorSpace) -> Jpeg<'_> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(out);
    zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options)
}

fn damaged(error: DecodeErrors) -> Reason {
    format!("damaged JPEG: {error}")
}

fn read_header(decoder: &mut Jpeg<'_>) -> Result<(usize, usize), Reason> {
    decoder.decode_headers().map_err(damaged)?;
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
    let frame = Frame::read(&checked)?;
    frame.check()?;
    let clear = frame.clear(&checked, Colours::Told);
    let mut decoder = other(&clear, ColorSpace::RGB);
    let (width, height) = read_header(&mut decoder)?;
    Ok((width, height, orientation(&decoder)))
}

/// The channels that the file holds: 1 for grey, 3 for colour, 4 for CMYK.
pub(super) fn channels(bytes: &[u8]) -> Result<usize, Reason> {
    let frame = Frame::read(&whole(bytes)?)?;
    frame.check()?;
    match frame.components.len() {
        channels @ (1 | 3 | 4) => Ok(channels),
        channels => Err(format!("a JPEG of {channels} channels")),
    }
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
    let frame = Frame::read(&checked)?;
    frame.check()?;
    let clear = frame.clear(&checked, Colours::Told);
    let mut decoder = other(&clear, ColorSpace::RGB);
    let (width, height) = read_header(&mut decoder)?;
    check_size(width as u64, height as u64, max_pixels)?;
    let data = decoder.decode().map_err(damaged)?;
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
    match huffman::full(&header).map_err(reason)? {
        Some(data) => upright(width, height, data, header.orientation).map(Some),
        None => Ok(None),
    }
}

fn reason(damaged: Damaged) -> Reason {
    let reason = match damaged {
        Damaged::Short => "its data end before the image does",
        Damaged::Long => "its data go on behind the image",
        Damaged::Wrong => "its data make no sense",
    };
    format!("damaged JPEG: {reason}")
}

/// Interleaved samples of 8 bits.
pub(super) struct Samples {
    pub(super) width: usize,
    pub(super) data: Vec<u8>,
    pub(super) height: usize,
}

/// Decodes a JPEG within another file to its channels, of which there must be so many; three are taken as
/// `colours` says. `most` is the limit of pixels.
pub(super) fn samples(
    bytes: &[u8],
    channels: usize,
    colours: Colours,
    most: u64,
) -> Result<Samples, Reason> {
    let fits = |width: usize, height: usize| match width as u64 * height as u64 <= most {
        true => Ok(()),
        false => Err(format!("damaged: holds a JPEG of {width}×{height} pixels")),
    };
    let bytes = whole(bytes)?;
    let frame = Frame::read(&bytes)?;
    frame.check()?;
    let found = frame.components.len();
    if found != channels {
        return Err(format!(
            "damaged: holds a JPEG of {found} channels instead of {channels}"
        ));
    }
    if let Some(header) = Header::read(&bytes) {
        let (width, height) = (header.width, header.height);
        fits(width, height)?;
        if let Some(mut data) = huffman::full(&header.with(colours)).map_err(reason)? {
            if channels == 1 {
                data = data
                    .as_chunks::<3>()
                    .0
                    .iter()
                    .map(|[grey, ..]| *grey)
                    .collect();
            }
            return Ok(Samples {
                width,
                height,
                data,
            });
        }
    }
    let clear = frame.clear(&bytes, colours);
    let mut decoder = other(
        &clear,
        match channels {
            1 => ColorSpace::Luma,
            3 => ColorSpace::RGB,
            4 => ColorSpace::CMYK,
            _ => {
                return Err(not_read(
                    &format!("JPEG of {channels} channels within another file"),
                    "convert it, for example with: tiffcp -c lzw in.tif out.tif",
                ));
            }
        },
    );
    let (width, height) = read_header(&mut decoder)?;
    fits(width, height)?;
    let data = decoder.decode().map_err(damaged)?;
    match data.len() == width * height * channels {
        true => Ok(Samples {
            width,
            height,
            data,
        }),
        false => Err("damaged JPEG: unexpected number of colour components".into()),
    }
}

/// Whether a JPEG is of a coding that is read.
pub(super) fn is_usual(bytes: &[u8]) -> bool {
    let frame = whole(bytes).and_then(|bytes| Frame::read(&bytes));
    frame.is_ok_and(|frame| frame.check().is_ok())
}

/// Whether components of a JPEG have different numbers of samples.
pub(super) fn is_subsampled(bytes: &[u8]) -> bool {
    let frame = whole(bytes).and_then(|bytes| Frame::read(&bytes));
    frame.is_ok_and(|frame| {
        let mut components = frame.components.iter();
        let first = components.next().map(|of| of.1);
        components.any(|of| Some(of.1) != first)
    })
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
