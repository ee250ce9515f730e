//! Image operations and the multi-crop augmentation built from them.
//!
//! The operations follow Pillow's 8-bit arithmetic (what the published DINO
//! weights were trained with), one concern per module. They work on planes of `u8` pixels in
//! place; [`MultiCrop`] composes them and normalises the result to `f32`. Images of other channels or
//! depths go through [`multichannel`] instead.

pub mod bilinear;
pub mod blur;
pub mod colour;
pub mod eval;
pub mod multichannel;
pub mod multicrop;
pub mod normalise;
pub mod planes;
pub mod resize;
pub mod scaled;
pub mod stage_timer;

pub use multichannel::ChannelNormaliser;
pub use multicrop::{MultiCrop, Scratch};
pub use normalise::{IMAGENET_MEAN, IMAGENET_STD, Normaliser};
pub use resize::{CropBox, Filter, Resizer};
pub use stage_timer::{Stage, StageTimer};
