//! Features of very many images: a folder of Parquet files, its parts.
//!
//! Images are sorted by name and divided into parts of equal number. A part is a file that appears whole or not at
//! all. `_manifest.json` says which set, weights and preparation the folder is of.
//!
//! Columns: `path` (text), `feature` (list of fixed size of `f32` or `f16`), and `label` (text) where images have
//! classes. A folder of patch tokens has a column `patch_tokens` in place of `feature`: a list holds
//! `[rows, columns, width]`, which the manifest and the footers of the parts say. Grids that differ between images
//! stand in two further columns, `rows` and `columns`.

mod file;
mod folder;
mod hash;
mod labelled;
mod manifest;
mod pages;
mod rows;
mod shard;
pub(crate) mod stored;
mod tokens;
mod verify;

use std::path::Path;

use dinolab_data::source::RemoteOptions;

use super::FeatureSet;
use crate::error::Result;

pub(crate) use self::file::{Part, is_whole};
pub(crate) use self::folder::PartFolder;
pub(crate) use self::hash::Hash;
pub(crate) use self::labelled::LabelledParts;
pub(crate) use self::manifest::Manifest;
pub(crate) use self::rows::StoredRows;
pub use self::shard::Shard;
pub(crate) use self::stored::Stored;
pub(crate) use self::tokens::{Grid, TokenShape};
pub(super) use self::verify::verify;

/// The numbers that features are stored in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum FeatureType {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, half the space.
    F16,
}

/// All features of a folder.
///
/// # Errors
/// A folder of which a part is missing or damaged, or that has no features.
pub(crate) fn read(folder: &Path, remote: &RemoteOptions) -> Result<FeatureSet> {
    let stored = Stored::open(folder, remote)?;
    let mut all = FeatureSet {
        names: Some(Vec::new()),
        labels: Some(Vec::new()),
        ..FeatureSet::default()
    };
    for part in 0..stored.parts() {
        let set = stored.read(part)?;
        let rows = set.len();
        if rows > 0 {
            all.dim = set.dim;
        }
        all.data.extend(set.data);
        all.names
            .get_or_insert_default()
            .extend(set.names.unwrap_or_default());
        let labels = set.labels.unwrap_or_else(|| vec![None; rows]);
        all.labels.get_or_insert_default().extend(labels);
    }
    if all.is_empty() {
        bail!("{}: holds no features", folder.display());
    }
    all.labels = all.labels.and_then(super::some);
    Ok(all)
}
