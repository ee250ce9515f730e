//! EXIF orientation.

use ::image::metadata::Orientation;
use ::image::{DynamicImage, RgbImage};

use super::refused::Reason;
use crate::{Image, Size};

/// The size of the upright picture.
pub(super) fn upright_size(stored: Size, orientation: Orientation) -> Size {
    let turned = matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    );
    match turned {
        true => Size {
            height: stored.width,
            width: stored.height,
        },
        false => stored,
    }
}

pub(super) fn upright(
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
