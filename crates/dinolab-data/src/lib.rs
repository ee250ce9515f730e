//! Images in, crops out.
//!
//! ```text
//! source ──► decode ──► augment (multi-crop) ──► loader ──► Crops
//! ```
//!
//! The crate depends on no tensor framework: images are buffers of samples in
//! height × width × channel order (8-bit RGB by default), crops are `f32` buffers in
//! view × image × channel × height × width order.
//!
//! ```
//! use std::sync::Arc;
//!
//! use dinolab_data::augment::MultiCrop;
//! use dinolab_data::shapes::Shapes;
//! use dinolab_data::{Loader, LoaderConfig, Size};
//!
//! # fn main() -> dinolab_data::Result<()> {
//! // Any `Source` will do; `source::open` makes one of a folder, a list, tar shards and more.
//! let images = Arc::new(Shapes::new(0, 16));
//! let crops = MultiCrop {
//!     global_size: Size::square(48),
//!     local_size: Size::square(24),
//!     local_views: 4,
//!     ..MultiCrop::default()
//! };
//! let config = LoaderConfig {
//!     batch_size: 8,
//!     workers: 2,
//!     ..LoaderConfig::default()
//! };
//! let loader = Loader::new(images, crops, config)?;
//! for batch in loader.epoch(0, 0) {
//!     let batch = batch?;
//!     assert_eq!(batch.batch(), 8);
//!     assert_eq!(batch.global().len(), 2 * 8 * 3 * 48 * 48);
//!     assert_eq!(batch.local().len(), 4 * 8 * 3 * 24 * 24);
//!     loader.recycle(batch);
//! }
//! # Ok(())
//! # }
//! ```

pub mod augment;
pub mod decode;
pub mod error;
pub mod file;
pub mod image;
pub mod loader;
pub mod npy;
pub mod random;
pub mod shapes;
pub mod size;
pub mod slice;
pub mod source;
pub mod statistics;
pub mod video;

pub use crate::decode::Pixels;
pub use crate::error::{Error, Result};
pub use crate::image::{Depth, Image, Mask};
pub use crate::loader::{Crops, Loader, LoaderConfig, Share};
pub use crate::size::Size;
pub use crate::source::Source;
