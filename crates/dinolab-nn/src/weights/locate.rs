//! The weight file behind a path that a user gives.

use std::path::{Path, PathBuf};

use super::bad;
use super::sidecar::IN_FOLDERS;
use crate::Result;

/// Returns the weight file for `path`: `path` itself, the newest checkpoint of a run folder, or the
/// weights in a model's folder of Hugging Face or timm.
///
/// # Errors
/// [`crate::Error::BadWeights`] for a folder without any.
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
        "has its weights in several files, which is not supported"
    } else {
        "not a run or model folder: found neither checkpoints/ nor model.safetensors"
    };
    Err(bad(path, reason.into()))
}
