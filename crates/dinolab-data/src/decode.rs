//! Image files to pixels.
//!
//! The format is detected from the bytes, never from the name. Images are upright (EXIF orientation
//! applied) and by default ([`Pixels`]) 8-bit RGB, with transparency composited over black.
//! A damaged file is an error, never an image that is partly grey: self-supervised training would
//! learn the damage.

mod channels;
mod file;
mod format;
mod jpeg;
mod kind;
mod mask;
mod npy;
mod orientation;
mod other;
mod pixels;
mod refused;
mod scaled;
mod stored;
mod tiff;

pub use channels::MAX_CHANNELS;
pub use file::{decode, decode_mask, decode_to, dimensions, is_array};
pub use format::{Format, sniff};
pub use kind::stored_kind;
pub use pixels::{Pixels, StoredKind};
pub(crate) use refused::Reason;
#[cfg(feature = "parquet")]
pub(crate) use refused::caught;
pub use scaled::{SCALES, ScaleOf, Scaled, decode_scaled};
