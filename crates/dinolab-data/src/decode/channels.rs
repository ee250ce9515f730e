//! Limits on the channels of images that are taken as stored.

use super::refused::{Reason, not_read};
use crate::Image;
use crate::image::Depth;

/// The most channels that an image may have.
pub const MAX_CHANNELS: usize = 16;

/// Numbers must be in 0–1: brightness, contrast and solarisation need to know the range.
pub(super) fn in_range(image: Image) -> Result<Image, Reason> {
    if image.depth == Depth::Float {
        let mut values = image
            .data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|v| f32::from_ne_bytes(*v));
        if let Some(wrong) = values.find(|v| !(0.0..=1.0).contains(v)) {
            return Err(not_read(
                &format!("floats beyond 0–1 ({wrong})"),
                "divide them by their range, or bring them to unsigned 16 bits",
            ));
        }
    }
    Ok(image)
}

/// Whether a file may have that many channels.
pub(super) type Check<'a> = &'a dyn Fn(usize) -> Result<(), Reason>;
