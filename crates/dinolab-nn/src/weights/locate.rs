//! From what a user names to the file that holds the weights.

use std::path::{Path, PathBuf};

use super::bad;
use super::beside::IN_FOLDERS;
use crate::Result;

/// The weight file that `path` stands for: itself, the newest checkpoint of a run folder, or the
/// weights in a folder of Hugging Face's or timm's.
///
/// # Errors
/// [`crate::Error::BadWeights`] for a folder with neither.
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
    for name in IN_FOLDERS {
        let file = path.join(name);
        if file.is_file() {
            return Ok(file);
        }
    }
    let reason = if path.join("model.safetensors.index.json").is_file() {
        "has its weights in several files, which cannot be read"
    } else {
        "is no folder of weights: it has no checkpoints of a run and no model.safetensors"
    };
    Err(bad(path, reason.into()))
}
