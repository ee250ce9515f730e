//! The one way from `W`, a run folder, a checkpoint, a weight file or a model's folder, to weights:
//! found, read and verified once. [`crate::hub::local`] makes a model's folder of an address of the hub.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use dinolab_nn::weights::{self, NetworkRole, Weights};
use dinolab_train::checkpoint::Checkpoint;

use crate::error::{Error, Result};

/// The largest header of a checkpoint that is looked at.
const MAX_HEADER: u64 = 100_000_000;

/// Reads the network with `role`, by default the evaluated one, of `w`: the newest intact checkpoint of a
/// run folder, the weight file of a model's folder, or the file itself. Checkpoints are verified by
/// their checksum.
///
/// # Errors
/// [`Error::Train`] for checkpoints that are damaged,
/// [`Error::Model`] for whatever else holds no such weights.
pub fn read(w: &Path, role: Option<NetworkRole>) -> Result<Weights> {
    if let Some((checkpoint, _)) = Checkpoint::latest(&w.join("checkpoints"))? {
        return Ok(checkpoint.weights(role)?);
    }
    if is_checkpoint(w) {
        return Ok(Checkpoint::read(w)?.weights(role)?);
    }
    Ok(weights::read(w, role).map_err(|error| match error {
        dinolab_nn::Error::BadWeights { path, reason } if path == w && w.is_dir() => {
            let reason = format!("has no checkpoints of a run, and {reason}");
            dinolab_nn::Error::BadWeights { path, reason }
        }
        error => error,
    })?)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::PathBuf;

    use dinolab_nn::init::Init;
    use dinolab_nn::weights::{arrays, to_bytes};
    use dinolab_nn::{Vit, VitConfig, device};
    use dinolab_train::checkpoint::save_weights;

    use super::*;

    /// A run folder with one checkpoint, whose file is returned.
    fn run(root: &Path) -> PathBuf {
        let config = VitConfig {
            image_size: 16,
            patch_size: 8,
            width: 8,
            depth: 1,
            heads: 2,
            ..VitConfig::default()
        };
        let vit = Vit::new(&config, &mut Init::new(0), &device::by_name("cpu").unwrap()).unwrap();
        let arrays = arrays(&vit, "teacher.backbone");
        let vit = serde_json::to_string(&config).unwrap();
        let metadata = BTreeMap::from([("vit".to_owned(), vit)]);
        save_weights(&root.join("checkpoints"), &arrays, &metadata).unwrap()
    }

    #[test]
    fn a_run_its_checkpoint_and_a_plain_file_are_the_same_weights() {
        let root = tempfile::tempdir().unwrap();
        let file = run(root.path());
        let weights = read(root.path(), None).unwrap();
        assert_eq!(weights.path, file);
        assert_eq!(weights.role, Some(NetworkRole::Teacher));
        let same = read(&file, None).unwrap();
        assert_eq!(same.arrays, weights.arrays);
        assert_eq!(same.metadata, weights.metadata);
        let plain = root.path().join("plain.safetensors");
        fs::write(&plain, to_bytes(&weights.arrays, &BTreeMap::new()).unwrap()).unwrap();
        let plain = read(&plain, None).unwrap();
        assert_eq!(plain.arrays, weights.arrays);
        let model = root.path().join("model");
        fs::create_dir(&model).unwrap();
        fs::copy(&plain.path, model.join("model.safetensors")).unwrap();
        assert_eq!(read(&model, None).unwrap().arrays, weights.arrays);
        let both = read_all(root.path()).unwrap();
        assert_eq!(both.len(), 1);
        assert_eq!(both[0].0, NetworkRole::Teacher);
    }

    #[test]
    fn the_newest_intact_checkpoint_is_read_whatever_latest_names() {
        let root = tempfile::tempdir().unwrap();
        let file = run(root.path());
        let newer = file.with_file_name("step-000000007.safetensors");
        fs::write(&newer, &fs::read(&file).unwrap()[..100]).unwrap();
        fs::write(file.with_file_name("latest"), "step-000000007.safetensors").unwrap();
        assert_eq!(read(root.path(), None).unwrap().path, file);
    }

    #[test]
    fn a_folder_of_neither_kind_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = read(root.path(), None).unwrap_err().to_string();
        assert!(
            error.contains("has no checkpoints of a run, and is not a model folder"),
            "{error}"
        );
    }

    /// Its values are those of no network any more, though the file can be read.
    #[test]
    fn a_checkpoint_that_was_altered_is_refused_however_it_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = run(root.path());
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, bytes).unwrap();
        assert!(weights::read(&file, None).is_ok());
        for w in [root.path(), &file] {
            let error = read(w, None).unwrap_err().to_string();
            assert!(error.contains("checksum does not match"), "{error}");
        }
    }
}
