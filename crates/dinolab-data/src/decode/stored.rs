//! Image files to pixels as they are stored: any number of channels, 8 or 16 bits or numbers.
//!
//! A file's channels are those it holds, in their order; nothing is converted. Greyscale has one,
//! greyscale with transparency two, RGB three, RGBA four (the fourth is the transparency, a
//! channel like any other), a TIFF as many as it has samples per pixel.

use std::io::Cursor;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder};
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{PhotometricInterpretation, Tag};
use zune_core::colorspace::ColorSpace;

use super::{Format, Reason, check_size, format_of, jpeg, npy, other};
use crate::Image;
use crate::image::Depth;

/// The most channels that an image may have.
pub const MAX_CHANNELS: usize = 16;

pub(super) fn decode(bytes: &[u8], channels: usize, max_pixels: u64) -> Result<Image, Reason> {
    let check = |found: usize| match found {
        _ if found == channels => Ok(()),
        1 => Err(format!("has 1 channel instead of {channels}")),
        _ => Err(format!("has {found} channels instead of {channels}")),
    };
    if npy::is_array(bytes) {
        let layout = npy::layout(bytes)?;
        check(layout.channels).map_err(|reason| match layout.height == channels {
            true => format!("{reason}; arrays are [height, width, channels], channels last"),
            false => reason,
        })?;
        check_size(layout.width as u64, layout.height as u64, max_pixels)?;
        return in_range(npy::image(bytes, &layout)?);
    }
    let (image, orientation) = match format_of(bytes)? {
        Format::Tiff => decode_tiff(bytes, &check, max_pixels)?,
        Format::Jpeg => decode_jpeg(bytes, &check, max_pixels)?,
        format => decode_other(bytes, format, &check, max_pixels)?,
    };
    in_range(upright(image, orientation))
}

/// Numbers must be in 0–1: brightness, contrast and solarisation need to know the range.
fn in_range(image: Image) -> Result<Image, Reason> {
    if image.depth == Depth::Float {
        let mut values = image
            .data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|v| f32::from_ne_bytes(*v));
        if let Some(wrong) = values.find(|v| !(0.0..=1.0).contains(v)) {
            return Err(format!(
                "holds the number {wrong}; numbers must be in 0–1 (divide them by their range)"
            ));
        }
    }
    Ok(image)
}

type Check<'a> = &'a dyn Fn(usize) -> Result<(), Reason>;

// ---- TIFF -------------------------------------------------------------------------

fn decode_tiff(
    bytes: &[u8],
    check: Check<'_>,
    max_pixels: u64,
) -> Result<(Image, Orientation), Reason> {
    let damaged = |e: tiff::TiffError| format!("damaged TIFF: {e}");
    let plain;
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(damaged)?;
    let (width, height) = decoder.dimensions().map_err(damaged)?;
    check_size(width.into(), height.into(), max_pixels)?;
    let samples: u16 = decoder
        .find_tag_unsigned(Tag::SamplesPerPixel)
        .map_err(damaged)?
        .unwrap_or(1);
    check(samples.into())?;
    let orientation = decoder
        .find_tag_unsigned::<u8>(Tag::Orientation)
        .ok()
        .flatten()
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms);
    let photometric: Option<u16> = decoder
        .find_tag_unsigned(Tag::PhotometricInterpretation)
        .map_err(damaged)?;
    let rgb = photometric == Some(PhotometricInterpretation::RGB.to_u16());
    if photometric == Some(PhotometricInterpretation::RGBPalette.to_u16()) {
        return Err("a palette TIFF has no channels of its own; save it as RGB".into());
    }
    if rgb && samples > 3 {
        // The decoder drops what comes beyond the colours it knows; as plain samples it does not.
        plain = as_plain_samples(bytes).ok_or("damaged TIFF: its directory is cut off")?;
        decoder = Decoder::new(Cursor::new(&plain[..])).map_err(damaged)?;
    }
    let colour = decoder.colortype().map_err(damaged)?;
    if colour.num_samples() != samples {
        return Err(format!(
            "a TIFF of {samples} samples of the kind {colour:?} is not read"
        ));
    }
    let mut limits = Limits::default();
    // All planes, and as much again for a strip before it is unpacked.
    let most = usize::try_from(max_pixels.saturating_mul(4 * u64::from(samples)));
    limits.decoding_buffer_size = most.unwrap_or(usize::MAX).max(1 << 20);
    limits.intermediate_buffer_size = limits.decoding_buffer_size;
    decoder = decoder.with_limits(limits);
    let mut result = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut result).map_err(damaged)?;
    let (width, height, channels) = (width as usize, height as usize, usize::from(samples));
    if colour.bit_depth() < 8 {
        return Err(format!(
            "{} bits per sample; 8, 16 or 32-bit float are read",
            colour.bit_depth()
        ));
    }
    let image = match &result {
        DecodingResult::U8(values) => Image {
            width,
            height,
            channels,
            depth: Depth::Eight,
            data: values.clone(),
        },
        DecodingResult::U16(values) => Image::sixteen(width, height, channels, values),
        DecodingResult::F32(values) => Image::float(width, height, channels, values),
        _ => {
            return Err(format!(
                "samples of {} bits of this kind; unsigned 8 or 16 bits or 32-bit float are read",
                colour.bit_depth()
            ));
        }
    };
    let image = match layout.planes {
        0 | 1 => image,
        _ => interleaved(image),
    };
    match image.is_whole() {
        true => Ok((image, orientation)),
        false => Err("damaged TIFF: samples are missing".into()),
    }
}

/// Planes one after the other to samples side by side.
fn interleaved(image: Image) -> Image {
    let (sample, channels) = (image.depth.bytes(), image.channels);
    let pixels = image.width * image.height;
    let mut data = vec![0; image.data.len()];
    for (c, plane) in image.data.chunks_exact(pixels * sample).enumerate() {
        for (value, pixel) in plane
            .chunks_exact(sample)
            .zip(data.chunks_exact_mut(channels * sample))
        {
            pixel[c * sample..][..sample].copy_from_slice(value);
        }
    }
    Image { data, ..image }
}

/// A copy of a TIFF whose first image says that its samples are grey values.
fn as_plain_samples(bytes: &[u8]) -> Option<Vec<u8>> {
    let little = bytes.starts_with(b"II");
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(length)?)?;
        let fold = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
        let value = match little {
            true => bytes.iter().rev().fold(0, fold),
            false => bytes.iter().fold(0, fold),
        };
        usize::try_from(value).ok()
    };
    // Classic files count in 4 bytes, big ones in 8.
    let (word, counter) = match number(2, 2)? {
        42 => (4, 2),
        _ => (8, 8),
    };
    let directory = number(word, word)?;
    let entries = number(directory, counter)?;
    let (size, first) = (4 + 2 * word, directory.checked_add(counter)?);
    let tag = usize::from(Tag::PhotometricInterpretation.to_u16());
    let place = (0..entries)
        .map_while(|i| first.checked_add(i.checked_mul(size)?))
        .take_while(|&at| at < bytes.len())
        .find(|&at| number(at, 2) == Some(tag))?;
    let mut copy = bytes.to_vec();
    let black_is_zero = PhotometricInterpretation::BlackIsZero.to_u16();
    let value = match little {
        true => black_is_zero.to_le_bytes(),
        false => black_is_zero.to_be_bytes(),
    };
    copy.get_mut(place + 4 + word..)?
        .get_mut(..2)?
        .copy_from_slice(&value);
    Some(copy)
}

// ---- JPEG -------------------------------------------------------------------------

fn decode_jpeg(
    bytes: &[u8],
    check: Check<'_>,
    max_pixels: u64,
) -> Result<(Image, Orientation), Reason> {
    let channels = match jpeg::colours(bytes)? {
        Some(ColorSpace::Luma) => 1,
        Some(ColorSpace::CMYK | ColorSpace::YCCK) => {
            return Err("a CMYK JPEG has no channels to learn from; save it as RGB".into());
        }
        _ => 3,
    };
    check(channels)?;
    let mut image = jpeg::decode(bytes, max_pixels)?;
    if channels == 1 {
        let (pixels, _) = image.data.as_chunks::<3>();
        image.data = pixels.iter().map(|[grey, ..]| *grey).collect();
        image.channels = 1;
    }
    // Upright already.
    Ok((image, Orientation::NoTransforms))
}

// ---- PNG, WebP, BMP ---------------------------------------------------------------

fn decode_other(
    bytes: &[u8],
    format: Format,
    check: Check<'_>,
    max_pixels: u64,
) -> Result<(Image, Orientation), Reason> {
    let mut decoder = other::open(bytes, format)?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into(), max_pixels)?;
    check(decoder.color_type().channel_count().into())?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    decoder
        .set_limits(other::limits(max_pixels))
        .map_err(|e| e.to_string())?;
    let decoded =
        DynamicImage::from_decoder(decoder).map_err(|e| format!("damaged {format:?}: {e}"))?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let channels = usize::from(decoded.color().channel_count());
    let image = match &decoded {
        DynamicImage::ImageLuma16(b) => Image::sixteen(width, height, channels, b.as_raw()),
        DynamicImage::ImageLumaA16(b) => Image::sixteen(width, height, channels, b.as_raw()),
        DynamicImage::ImageRgb16(b) => Image::sixteen(width, height, channels, b.as_raw()),
        DynamicImage::ImageRgba16(b) => Image::sixteen(width, height, channels, b.as_raw()),
        DynamicImage::ImageLuma8(_)
        | DynamicImage::ImageLumaA8(_)
        | DynamicImage::ImageRgb8(_)
        | DynamicImage::ImageRgba8(_) => Image {
            width,
            height,
            channels,
            depth: Depth::Eight,
            data: decoded.into_bytes(),
        },
        _ => return Err(format!("{format:?} samples of this kind are not read")),
    };
    Ok((image, orientation))
}

/// Turned and mirrored as its orientation says.
fn upright(image: Image, orientation: Orientation) -> Image {
    use Orientation::{
        FlipHorizontal, FlipVertical, NoTransforms, Rotate90, Rotate90FlipH, Rotate180, Rotate270,
        Rotate270FlipH,
    };
    if orientation == NoTransforms {
        return image;
    }
    let (w, h) = (image.width, image.height);
    let (width, height) = match orientation {
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => (h, w),
        _ => (w, h),
    };
    let pixel = image.channels * image.depth.bytes();
    let mut data = Vec::with_capacity(image.data.len());
    for y in 0..height {
        for x in 0..width {
            let (from_x, from_y) = match orientation {
                NoTransforms => (x, y),
                FlipHorizontal => (w - 1 - x, y),
                FlipVertical => (x, h - 1 - y),
                Rotate180 => (w - 1 - x, h - 1 - y),
                Rotate90 => (y, h - 1 - x),
                Rotate270 => (w - 1 - y, x),
                Rotate90FlipH => (y, x),
                Rotate270FlipH => (w - 1 - y, h - 1 - x),
            };
            data.extend_from_slice(&image.data[(from_y * w + from_x) * pixel..][..pixel]);
        }
    }
    Image {
        width,
        height,
        data,
        ..image
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::RgbImage;

    #[test]
    fn turns_as_the_image_crate_does() {
        let data: Vec<u8> = (0..5 * 3 * 3).collect();
        let image = Image::rgb(5, 3, data.clone());
        for number in 1..=8 {
            let orientation = Orientation::from_exif(number).unwrap();
            let mut expected =
                DynamicImage::ImageRgb8(RgbImage::from_raw(5, 3, data.clone()).unwrap());
            expected.apply_orientation(orientation);
            let turned = upright(image.clone(), orientation);
            assert_eq!(turned.width, expected.width() as usize, "{orientation:?}");
            assert_eq!(turned.data, expected.into_bytes(), "{orientation:?}");
        }
    }

    #[test]
    fn planes_are_put_side_by_side() {
        let planes = Image::sixteen(2, 1, 3, &[1, 2, 10, 20, 100, 200]);
        let expected = Image::sixteen(2, 1, 3, &[1, 10, 100, 2, 20, 200]);
        assert_eq!(interleaved(planes), expected);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert!(in_range(Image::float(2, 1, 1, &[0.0, 1.0])).is_ok());
        for wrong in [1.5, -0.1, f32::NAN, f32::INFINITY] {
            let told = in_range(Image::float(2, 1, 1, &[0.0, wrong])).unwrap_err();
            assert!(told.contains("0–1"), "{told}");
        }
    }
}
