//! The weight file in a model's folder of Hugging Face or timm.

use std::path::{Path, PathBuf};

use super::bad;
use super::sidecar::IN_FOLDERS;
use crate::Result;

/// Returns `path` itself, or the weight file in it if it is a folder.
pub(super) fn weight_file(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    let mut files = IN_FOLDERS.iter().map(|name| path.join(name));
    if let Some(file) = files.find(|file| file.is_file()) {
        return Ok(file);
    }
    let reason = "is not a model folder: found neither model.safetensors, its index nor \
                  pytorch_model.bin";
    Err(bad(path, reason.into()))
}
