//! The one way from `W`, a run folder, a checkpoint, a weight file or a model's folder, to weights:
//! found, read and verified once.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use dinolab_nn::weights::{self, Weights, Which};
use dinolab_train::checkpoint::Checkpoint;

use crate::error::Result;

/// Attempts at a run folder whose checkpoints change meanwhile.
const ATTEMPTS: usize = 3;
/// The largest header of a checkpoint that is looked at.
const MAX_HEADER: u64 = 100_000_000;

/// Reads the network `which` that `w` stands for: of a run folder its newest whole checkpoint, of a
/// model's folder its weight file, else the file itself. Checkpoints are read by their checksum.
///
/// # Errors
/// [`Error::Train`](crate::Error::Train) for checkpoints that are damaged,
/// [`Error::Model`](crate::Error::Model) for whatever else holds no such weights.
pub fn read(w: &Path, which: Which) -> Result<Weights> {
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        if let Some((checkpoint, _)) = Checkpoint::latest(&w.join("checkpoints"))? {
            return Ok(checkpoint.weights(which)?);
        }
        let file = weights::locate(w)?;
        if is_checkpoint(&file) {
            return Ok(Checkpoint::read(&file)?.weights(which)?);
        }
        match weights::read(&file, which) {
            Ok(weights) => return Ok(weights),
            // Someone else has replaced it since.
            Err(_) if attempts > 0 && w.is_dir() && !file.exists() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The networks of the training checkpoint at `w`: those of the two that it has, the student first.
///
/// # Errors
/// As [`read`].
pub fn read_both(w: &Path) -> Result<Vec<(Which, Weights)>> {
    let mut found = Vec::new();
    for which in [Which::Student, Which::Teacher] {
        match read(w, which) {
            Ok(weights) if weights.which == Some(which) => found.push((which, weights)),
            Ok(_) => {}
            // The other one is there, or the file would not have been read before.
            Err(_) if found.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Whether a file says that it is a checkpoint of dinolab, whose checksum can be verified.
fn is_checkpoint(path: &Path) -> bool {
    let header = || -> Option<serde_json::Value> {
        let mut file = File::open(path).ok()?;
        let mut length = [0; 8];
        file.read_exact(&mut length).ok()?;
        let length = u64::from_le_bytes(length);
        let mut text = Vec::new();
        (length <= MAX_HEADER).then_some(())?;
        file.take(length).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    };
    header().is_some_and(|header| {
        let said = header.get("__metadata__");
        ["dinolab_version", "checksum", "position"]
            .iter()
            .all(|name| said.is_some_and(|said| said.get(name).is_some()))
    })
}
