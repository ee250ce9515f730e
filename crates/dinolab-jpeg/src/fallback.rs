//! Files that this crate's own decoder leaves alone, by `zune-jpeg`.
//!
//! CMYK and YCCK, scans of single components, sampling factors of 3. Chroma is interpolated by other rules
//! there, so that these pixels are close to libjpeg's, not identical.

use std::panic::{AssertUnwindSafe, catch_unwind};

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::errors::DecodeErrors;

use self::frame::Frame;
use crate::colour::{ColourSpace, ycck_to_cmyk};
use crate::error::{Damage, Error, Result};
use crate::image::{Image, Info, Output};

mod frame;

type Zune<'a> = zune_jpeg::JpegDecoder<ZCursor<&'a [u8]>>;

/// Strict, because the lenient mode fills what is missing with grey and calls it done.
fn open(bytes: &[u8], out: ColorSpace) -> Zune<'_> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(out);
    zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options)
}

fn damaged(error: DecodeErrors) -> Error {
    other(&error.to_string())
}

fn other(reason: &str) -> Error {
    Damage::Other(reason.to_owned()).into()
}

/// A decoder that panics has met a file that it did not expect.
fn caught<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(other("its decoder gave up on it (a panic)")))
}

fn size(decoder: &mut Zune<'_>) -> Result<(usize, usize)> {
    decoder.decode_headers().map_err(damaged)?;
    decoder.dimensions().ok_or_else(|| other("no dimensions"))
}

/// The header of a trimmed file, and its EXIF block.
pub(crate) fn read_header(bytes: &[u8]) -> Result<(Info, Option<Vec<u8>>)> {
    let frame = Frame::read(bytes)?;
    frame.check()?;
    let plain = frame.unambiguous(bytes, ColourSpace::FromFile);
    caught(|| {
        let mut decoder = open(&plain, ColorSpace::RGB);
        let (width, height) = size(&mut decoder)?;
        let info = Info {
            width,
            height,
            components: frame.components.len(),
            is_subsampled: frame.is_subsampled(),
        };
        Ok((info, decoder.exif().cloned()))
    })
}

/// Decodes a trimmed file, whose size must pass `check_size`.
pub(crate) fn decode(
    bytes: &[u8],
    output: Output,
    colours: ColourSpace,
    check_size: impl Fn(usize, usize) -> Result<()>,
) -> Result<Image> {
    let frame = Frame::read(bytes)?;
    frame.check()?;
    let channels = output.channels(frame.components.len())?;
    let plain = frame.unambiguous(bytes, colours);
    let is_ycck = channels == 4 && frame.is_ycck(colours);
    let out = match channels {
        1 => ColorSpace::Luma,
        4 if is_ycck => ColorSpace::YCCK,
        4 => ColorSpace::CMYK,
        _ => ColorSpace::RGB,
    };
    caught(|| {
        let mut decoder = open(&plain, out);
        let (width, height) = size(&mut decoder)?;
        check_size(width, height)?;
        let mut data = decoder.decode().map_err(damaged)?;
        if data.len() != width * height * channels {
            return Err(other("unexpected number of colour components"));
        }
        if is_ycck {
            ycck_to_cmyk(&mut data);
        }
        Ok(Image {
            width,
            height,
            channels,
            data,
        })
    })
}
