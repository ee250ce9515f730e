//! The one way from `W`, a run folder, a checkpoint, a weight file or a model's folder, to weights:
//! found, read and verified once.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use dinolab_nn::weights::{self, NetworkRole, Weights};
use dinolab_train::checkpoint::Checkpoint;

use crate::error::{Error, Result};

/// Attempts at a run folder whose checkpoints change meanwhile.
const ATTEMPTS: usize = 3;
/// The largest header of a checkpoint that is looked at.
const MAX_HEADER: u64 = 100_000_000;

/// Reads the network with `role`, by default the evaluated one, that `w` stands for: of a run folder its newest whole checkpoint, of a
/// model's folder its weight file, else the file itself. Checkpoints are read by their checksum.
///
/// # Errors
/// [`Error::Train`](crate::Error::Train) for checkpoints that are damaged,
/// [`Error::Model`](crate::Error::Model) for whatever else holds no such weights.
pub fn read(w: &Path, role: Option<NetworkRole>) -> Result<Weights> {
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        if let Some((checkpoint, _)) = Checkpoint::latest(&w.join("checkpoints"))? {
            return Ok(checkpoint.weights(role)?);
        }
        let file = weights::locate(w)?;
        if is_checkpoint(&file) {
            return Ok(Checkpoint::read(&file)?.weights(role)?);
        }
        match weights::read(&file, role) {
            Ok(weights) => return Ok(weights),
            // Someone else has replaced it since.
            Err(_) if attempts > 0 && w.is_dir() && !file.exists() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// All networks of the training checkpoint at `w`, by their roles.
///
/// # Errors
/// As [`read`].
pub fn read_all(w: &Path) -> Result<Vec<(NetworkRole, Weights)>> {
    use dinolab_nn::Error::{NoSuchNetwork, SeveralNetworks};
    let absent = |error: &Error| match error {
        Error::Model(error) | Error::Train(dinolab_train::Error::Model(error)) => {
            matches!(error, NoSuchNetwork { .. } | SeveralNetworks { .. })
        }
        _ => false,
    };
    let mut found = Vec::new();
    for role in NetworkRole::ALL {
        match read(w, Some(role)) {
            Ok(weights) if weights.role == Some(role) => found.push((role, weights)),
            Ok(_) => {}
            Err(error) if absent(&error) => {}
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
