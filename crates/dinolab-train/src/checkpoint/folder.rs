//! The checkpoints of a folder: which there are, and which stay.

use std::fs;
use std::path::{Path, PathBuf};

use super::{file_name, io, write_atomically};
use crate::Result;

/// What checkpoints that a diverged run left are renamed with.
const ASIDE: &str = "unsound-";

/// Checkpoints of a folder, newest first.
pub fn list(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("");
            name.starts_with("step-") && name.ends_with(".safetensors")
        })
        .collect();
    found.sort();
    found.reverse();
    found
}

/// The steps done at a checkpoint, by its name.
fn step_of(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    stem.strip_prefix("step-")?.parse().ok()
}

/// Removes all but the newest `keep` checkpoints, and those `spared`.
pub fn prune(folder: &Path, keep: usize, spared: impl Fn(u64) -> bool) {
    for path in list(folder).into_iter().skip(keep.max(1)) {
        if step_of(&path).is_some_and(|step| !spared(step)) {
            // A checkpoint that stays too long harms nothing.
            let _ = fs::remove_file(path);
        }
    }
}

/// Renames all checkpoints after `sound` steps, or all there are, so that nothing takes them for
/// the newest any more, and points `latest` at what is left. Returns their new names.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io).
pub fn set_aside(folder: &Path, sound: Option<u64>) -> Result<Vec<PathBuf>> {
    let mut renamed = Vec::new();
    for path in list(folder) {
        let Some(step) = step_of(&path) else { continue };
        if sound.is_none_or(|sound| step > sound) {
            let aside = folder.join(format!("{ASIDE}{}", file_name(step)));
            fs::rename(&path, &aside).map_err(io(&path))?;
            renamed.push(aside);
        }
    }
    let latest = folder.join("latest");
    match list(folder).first().and_then(|path| step_of(path)) {
        Some(step) => write_atomically(&latest, file_name(step).as_bytes())?,
        None => {
            let _ = fs::remove_file(latest);
        }
    }
    renamed.reverse();
    Ok(renamed)
}

/// The checkpoints that were [set aside](set_aside), oldest first.
pub fn aside(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(ASIDE))
        })
        .collect();
    found.sort();
    found
}
