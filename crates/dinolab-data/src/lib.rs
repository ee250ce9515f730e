//! Images in, crops out.
//!
//! ```text
//! source ──► decode ──► augment (multi-crop) ──► loader ──► Crops
//! ```
//!
//! This crate knows of no tensors and no framework: images are buffers of samples in
//! height × width × channel order (8-bit RGB unless asked otherwise), crops are `f32` buffers in
//! view × image × channel × height × width order.

pub mod augment;
pub mod decode;
pub mod error;
pub mod file;
pub mod image;
pub mod loader;
pub mod random;
pub mod shapes;
pub mod size;
pub mod source;
pub mod statistics;
pub mod video;

pub use crate::decode::Pixels;
pub use crate::error::{Error, Result};
pub use crate::image::{Depth, Image, Mask};
pub use crate::loader::{Crops, Loader, LoaderConfig};
pub use crate::size::Size;
pub use crate::source::Source;
