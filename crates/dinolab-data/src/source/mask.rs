//! Masks in files of their own.

use std::path::Path;

use crate::file::read as read_file;
use crate::{Error, Mask, Result, Size, decode};

/// Reads a mask and checks it against its image, whose header alone is read.
pub(super) fn read_mask(image: &Path, mask: &Path, name: &str, max_pixels: u64) -> Result<Mask> {
    let bytes = read_file(mask)?;
    let mask_name = mask.to_string_lossy();
    let found = decode::decode_mask(&mask_name, &bytes, max_pixels)?;
    let bytes = read_file(image)?;
    let Size { height, width } = decode::dimensions(name, &bytes)?;
    if (found.width, found.height) != (width, height) {
        let reason = format!(
            "the mask is {}×{}, its image is {width}×{height}",
            found.width, found.height
        );
        return Err(Error::BadImage {
            name: mask_name.into_owned(),
            reason,
        });
    }
    Ok(found)
}
