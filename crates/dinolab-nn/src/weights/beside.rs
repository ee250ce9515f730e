//! The JSON files that Hugging Face and timm keep beside weights.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::naming::Naming;
use super::{Weights, bad, hugging_face, io, timm};
use crate::Result;

/// Larger ones are none.
const MAX_BYTES: u64 = 1 << 20;
/// Names of weight files in the folders of a model.
pub(super) const IN_FOLDERS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// Adds to `weights` what `config.json` and `preprocessor_config.json` in the file's folder say.
/// What the file itself says takes precedence.
///
/// # Errors
/// [`crate::Error::Io`] and [`crate::Error::BadWeights`], which name the JSON file.
pub(super) fn read(path: &Path, weights: &mut Weights) -> Result<()> {
    let named = path.file_name().and_then(|name| name.to_str());
    let hugging_face = matches!(weights.naming, Naming::HuggingFace(_));
    // A file by another name may lie beside the configuration of something else.
    if !hugging_face && !named.is_some_and(|name| IN_FOLDERS.contains(&name)) {
        return Ok(());
    }
    let mut facts = Vec::new();
    let at = path.with_file_name("config.json");
    if let Some(config) = json(&at)? {
        if hugging_face {
            facts.extend(hugging_face::facts(&at, &config)?);
        } else if let Some(found) = timm::facts(&config) {
            facts.extend(found);
            if weights.naming == Naming::Reference {
                weights.naming = Naming::Timm;
            }
        }
    }
    if let Some(config) = json(&path.with_file_name("preprocessor_config.json"))? {
        let found = hugging_face::preparation(&config);
        facts.extend(found.map(|preparation| preparation.fact()));
    }
    for (name, value) in facts {
        weights.facts.entry(name).or_insert(value);
    }
    Ok(())
}

/// The content of a JSON file, `None` where there is no such file.
fn json(path: &Path) -> Result<Option<Value>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(path)(error)),
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(io(path))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(bad(path, "is too large for a configuration".into()));
    }
    let value = serde_json::from_slice(&text).map_err(|error| bad(path, error.to_string()))?;
    Ok(Some(value))
}
