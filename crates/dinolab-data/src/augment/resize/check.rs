//! Checks before an image is resized.

use super::crop_box::CropBox;
use crate::{Error, Image, Result, Size};

/// Larger images are not made of smaller ones: as many pixels as the largest square side has.
const MAX_PIXELS: usize = crate::size::MAX_SIDE * crate::size::MAX_SIDE;

pub(super) fn describe(image: &Image) -> String {
    format!("image of {} × {}", image.width, image.height)
}

/// Refuses what cannot be resized, so that nothing below can fail or overflow, or take more memory
/// than any sensible image does.
pub(super) fn check(image: &Image, crop: CropBox, target: Size) -> Result<()> {
    check_sides(image, crop, target)?;
    check_room(image, crop, target)
}

/// Rows are brought to their new width first, columns to their new height then: refuses a strip
/// that would be far larger in between, or afterwards, than images are.
pub(super) fn check_room(image: &Image, crop: CropBox, Size { height, width }: Size) -> Result<()> {
    let most = crop.height.max(height).saturating_mul(width);
    if most <= MAX_PIXELS.max(image.width * image.height) {
        return Ok(());
    }
    Err(Error::BadImage {
        name: describe(image),
        reason: format!("is too elongated to be resized to {width} × {height}"),
    })
}

pub(super) fn check_sides(image: &Image, crop: CropBox, target: Size) -> Result<()> {
    let bad = |reason: String| {
        Err(Error::BadImage {
            name: describe(image),
            reason,
        })
    };
    check_rgb(image)?;
    let CropBox {
        top,
        left,
        height,
        width,
    } = crop;
    if !crop.is_inside(image) {
        return bad(format!(
            "a crop of {width} × {height} at ({left}, {top}) is not inside it"
        ));
    }
    let limit = u32::MAX as usize;
    if [image.width, image.height, target.width, target.height]
        .iter()
        .any(|&side| side == 0 || side > limit)
    {
        return bad(format!(
            "cannot be resized to {} × {}",
            target.width, target.height
        ));
    }
    Ok(())
}

/// Refuses an image that is empty, not RGB, or shorter than it says.
pub(crate) fn check_rgb(image: &Image) -> Result<()> {
    let bad = |reason: String| {
        Err(Error::BadImage {
            name: describe(image),
            reason,
        })
    };
    if image.channels != 3 {
        return bad(format!("has {} channels instead of 3", image.channels));
    }
    if !image.is_rgb() {
        return bad(format!("is {} instead of 8 bit", image.depth));
    }
    if image.width == 0 || image.height == 0 {
        return bad("is empty".into());
    }
    let expected = image
        .width
        .checked_mul(image.height)
        .and_then(|area| area.checked_mul(3));
    if expected != Some(image.data.len()) {
        return bad(format!("has {} values", image.data.len()));
    }
    Ok(())
}
