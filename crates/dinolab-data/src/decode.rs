//! Image files to pixels.
//!
//! The format is told by the bytes, never by the name. What comes out is upright (EXIF
//! orientation applied) and, unless asked otherwise ([`Pixels`]), 8-bit RGB with transparency laid
//! over black.
//! A damaged file is an error, never a half-grey image: self-supervised training
//! would happily learn the damage.

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
