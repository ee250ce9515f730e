//! Image files to pixels as they are stored: any number of channels, 8 or 16 bits or numbers.
//!
//! A file's channels are those it holds, in their order; nothing is converted. Greyscale has one,
//! greyscale with transparency two, RGB three, RGBA four (the fourth is the transparency, a
//! channel like any other), a TIFF as many as it has samples per pixel. Palettes are looked up, and YCbCr
//! is brought to RGB.

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder};
use dinolab_jpeg::Output;

use super::channels::{Check, in_range};
use super::format::{Format, format_of};
use super::refused::{Reason, check_size};
use super::{jpeg, npy, other, tiff};
use crate::Image;
use crate::image::Depth;

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
        Format::Tiff => tiff::stored(bytes, &check, max_pixels)?,
        Format::Jpeg => decode_jpeg(bytes, &check, max_pixels)?,
        format => decode_other(bytes, format, &check, max_pixels)?,
    };
    in_range(upright(image, orientation))
}

// ---- JPEG -------------------------------------------------------------------------

fn decode_jpeg(
    bytes: &[u8],
    check: Check<'_>,
    max_pixels: u64,
) -> Result<(Image, Orientation), Reason> {
    let channels = match jpeg::channels(bytes)? {
        4 => return Err("a CMYK JPEG has no channels to learn from; save it as RGB".into()),
        channels => channels,
    };
    check(channels)?;
    let (image, orientation) = jpeg::samples(bytes, Output::Stored, max_pixels)?;
    let image = Image {
        width: image.width,
        height: image.height,
        channels: image.channels,
        depth: Depth::Eight,
        data: image.data,
    };
    Ok((image, orientation))
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

/// Rotates and mirrors by the orientation.
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
    fn numbers_out_of_range_are_refused() {
        assert!(in_range(Image::float(2, 1, 1, &[0.0, 1.0])).is_ok());
        for wrong in [1.5, -0.1, f32::NAN, f32::INFINITY] {
            let told = in_range(Image::float(2, 1, 1, &[0.0, wrong])).unwrap_err();
            assert!(told.contains("0–1"), "{told}");
        }
    }
}
