//! From what a user names to the file that holds the weights.

use std::path::{Path, PathBuf};

use super::bad;
use crate::Result;

/// The weight file that `path` stands for: itself, or the newest checkpoint of a run folder.
///
/// # Errors
/// [`crate::Error::BadWeights`] for a folder without checkpoints.
pub fn locate(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    let folder = path.join("checkpoints");
    let named = std::fs::read_to_string(folder.join("latest")).unwrap_or_default();
    let named = folder.join(named.trim());
    if named.is_file() {
        return Ok(named);
    }
    Err(bad(path, "is no run folder: it has no checkpoints".into()))
}
