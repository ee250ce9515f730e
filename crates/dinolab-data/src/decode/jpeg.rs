//! JPEG files, decoded by `dinolab-jpeg`.

use ::image::metadata::Orientation;
use dinolab_jpeg::{Decoder, Error, Output, Unsupported};

use super::orientation::upright;
use super::refused::{Reason, check_size, not_read};
use crate::Image;

/// Why a file is not decoded, and what to do with it.
pub(super) fn reason(error: Error) -> Reason {
    const PYTHON: &str = "with Python (pip install imagecodecs): import imagecodecs as i;";
    let Error::Unsupported(kind) = error else {
        return error.to_string();
    };
    let instead = match kind {
        Unsupported::TwelveBits => format!(
            "convert it to a 16-bit PNG, for example {PYTHON} \
             i.imwrite('out.png', i.imread('in.jpg') << 4)"
        ),
        Unsupported::Lossless => format!(
            "convert it to PNG, for example {PYTHON} \
             i.imwrite('out.png', i.ljpeg_decode(open('in.jpg', 'rb').read()))"
        ),
        Unsupported::Arithmetic => {
            "convert it without loss, for example with: jpegtran -copy all in.jpg > out.jpg".into()
        }
        _ => "convert it to PNG with the program that made it".into(),
    };
    not_read(&kind.to_string(), &instead)
}

/// How the stored picture is turned and mirrored.
pub(super) fn orientation(decoder: &Decoder) -> Orientation {
    decoder
        .exif()
        .and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms)
}

/// Width, height and orientation of a whole file.
pub(super) fn header(bytes: &[u8]) -> Result<(usize, usize, Orientation), Reason> {
    let whole = dinolab_jpeg::trim(bytes).map_err(reason)?;
    let decoder = Decoder::new(&whole).map_err(reason)?;
    let info = decoder.info();
    Ok((info.width, info.height, orientation(&decoder)))
}

/// The channels that a whole file holds: 1 for grey, 3 for colour, 4 for CMYK.
pub(super) fn channels(bytes: &[u8]) -> Result<usize, Reason> {
    let whole = dinolab_jpeg::trim(bytes).map_err(reason)?;
    match Decoder::new(&whole).map_err(reason)?.info().components {
        channels @ (1 | 3 | 4) => Ok(channels),
        channels => Err(format!("a JPEG of {channels} channels")),
    }
}

/// Decodes to 8-bit RGB.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Image, Reason> {
    let (image, orientation) = samples(bytes, Output::Rgb, max_pixels)?;
    upright(image.width, image.height, image.data, orientation)
}

/// Decodes to 8-bit samples, not turned upright.
pub(super) fn samples(
    bytes: &[u8],
    output: Output,
    max_pixels: u64,
) -> Result<(dinolab_jpeg::Image, Orientation), Reason> {
    let decoder = Decoder::new(bytes)
        .map_err(reason)?
        .with_max_pixels(max_pixels);
    let info = decoder.info();
    check_size(info.width as u64, info.height as u64, max_pixels)?;
    let image = decoder.decode(output).map_err(reason)?;
    Ok((image, orientation(&decoder)))
}
