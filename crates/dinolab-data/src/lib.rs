//! Images in, crops out.
//!
//! ```text
//! source ──► decode ──► augment (multi-crop) ──► loader ──► Crops
//! ```
//!
//! This crate knows of no tensors and no framework: images are `u8` buffers in
//! height × width × channel order, crops are `f32` buffers in view × image ×
//! channel × height × width order.

pub mod augment;
pub mod decode;
pub mod error;
pub mod image;
pub mod loader;
pub mod random;
pub mod shapes;
pub mod source;
pub mod video;

pub use crate::error::{Error, Result};
pub use crate::image::{Image, Mask};
pub use crate::loader::{Crops, Loader, LoaderConfig};
pub use crate::source::Source;
