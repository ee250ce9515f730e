//! Sources of images.
//!
//! [`open`] opens a folder, a list file, tar shards, Parquet files or a VOC tree; all of them are
//! read through one trait, [`Source`]. [`Subset`] and [`split`] divide a source into parts.

mod braces;
mod compressed;
mod dataset;
mod file_kind;
mod files;
mod folder;
mod labels;
mod list;
mod mask;
mod names;
mod note;
mod open;
mod options;
#[cfg(feature = "parquet")]
mod parquet;
mod remote;
mod run_folder;
mod subset;
mod tar;
mod text;
mod voc;

pub use dataset::Source;
pub use note::{Note, Tally};
pub use open::{is_remote, open, refuse_remote};
pub use options::{Decoding, MaskKind, SourceOptions};
pub use remote::{CacheOptions, RemoteOptions};
#[cfg(feature = "remote")]
pub use remote::{FoundObject, Objects};
pub use subset::{Subset, split};
pub use tar::contents::CLASSES as SHARD_CLASSES;
pub use voc::VOC_CLASSES;
