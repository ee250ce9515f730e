//! Kinds of pixels: as requested, and as stored.

use super::refused::bad;
use crate::{Image, Result};

/// What files are decoded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pixels {
    /// 8-bit RGB, whatever a file holds.
    #[default]
    Rgb,
    /// The channels and the depth that a file holds; one of another number of channels is bad.
    Stored {
        /// Channels that every file must have, at most [`MAX_CHANNELS`](crate::decode::MAX_CHANNELS).
        channels: usize,
    },
}

impl Pixels {
    /// Channels of an image, `C`.
    pub fn channels(self) -> usize {
        match self {
            Self::Rgb => 3,
            Self::Stored { channels } => channels,
        }
    }

    /// Checks an image: whole, and of the kind that [`decode_to`](crate::decode::decode_to) gives.
    ///
    /// # Errors
    /// [`Error::BadImage`](crate::Error::BadImage), named by its size.
    pub fn check(self, image: &Image) -> Result<()> {
        let reason = if image.channels != self.channels() {
            format!(
                "has {} channels instead of {}",
                image.channels,
                self.channels()
            )
        } else if self == Self::Rgb && !image.is_rgb() {
            format!("is {} instead of 8 bit", image.depth)
        } else if !image.is_whole() {
            "is empty, or shorter than it says".into()
        } else {
            return Ok(());
        };
        Err(bad(
            &format!("image of {} × {}", image.width, image.height),
            reason,
        ))
    }
}

/// The channels of a file and the bits of their samples, before any conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredKind {
    /// Samples per pixel; transparency counts, a palette's colours are looked up.
    pub channels: usize,
    /// Of a sample.
    pub bits: usize,
}

impl std::fmt::Display for StoredKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.channels == 1 { "" } else { "s" };
        write!(f, "{} channel{plural}, {} bit", self.channels, self.bits)
    }
}
