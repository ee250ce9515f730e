//! The pictures that a run stored: attention or activation at each evaluation.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::answer::{Answer, Failure};

/// A stored picture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Picture {
    /// Epochs done.
    pub epochs: u64,
    /// Its file's name.
    pub name: String,
}

/// Pictures of attention or activation, the earliest first.
pub fn list(run: &Path) -> Vec<Picture> {
    let mut found: Vec<Picture> = fs::read_dir(run.join("pictures"))
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let (kind, epochs) = name.strip_suffix(".png")?.split_once("-epoch-")?;
            if !["attention", "activation"].contains(&kind) {
                return None;
            }
            let epochs = epochs.parse().ok()?;
            Some(Picture { epochs, name })
        })
        .collect();
    found.sort();
    found
}

/// The picture `name`, which must be one of [`list`].
pub fn read(run: &Path, name: &str) -> Answer<Vec<u8>> {
    match list(run).iter().any(|picture| picture.name == name) {
        true => Ok(fs::read(run.join("pictures").join(name))?),
        false => Err(Failure::missing("no such picture")),
    }
}
