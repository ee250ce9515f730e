//! JSON sidecar files: the configurations that Hugging Face and timm keep next to weights.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::scheme::Naming;
use super::shards::INDEX;
use super::{Weights, bad, convnext, hugging_face, io, preprocess, resnet, timm};
use crate::Result;

/// Larger files are refused.
const MAX_BYTES: u64 = 1 << 20;
/// Names of weight files in a model's folder.
pub(super) const IN_FOLDERS: [&str; 3] = ["model.safetensors", INDEX, "pytorch_model.bin"];

/// Adds the content of `config.json` and `preprocessor_config.json` in the file's folder to the
/// metadata of `weights`. The file's own metadata takes precedence.
///
/// # Errors
/// [`crate::Error::Io`] and [`crate::Error::BadWeights`], which name the JSON file.
pub(super) fn read(path: &Path, weights: &mut Weights) -> Result<()> {
    let named = path.file_name().and_then(|name| name.to_str());
    let hugging_face = matches!(weights.naming, Naming::HuggingFace(_));
    // Next to a file of another name, the configuration may be of something else.
    if !hugging_face && !named.is_some_and(|name| IN_FOLDERS.contains(&name)) {
        return Ok(());
    }
    let mut metadata = Vec::new();
    let at = path.with_file_name("config.json");
    if let Some(config) = json(&at)? {
        if resnet::is(&weights.arrays) {
            hugging_face::resnet::check_config(&at, &config)?;
            let found = timm::metadata(&config).into_iter().flatten();
            metadata.extend(found.filter(|(name, _)| name == preprocess::KEY));
        } else if convnext::is(&weights.arrays) {
            metadata.extend(hugging_face::convnext::metadata(&at, &config)?);
            let found = timm::metadata(&config).into_iter().flatten();
            metadata.extend(found.filter(|(name, _)| name == preprocess::KEY));
        } else if hugging_face {
            metadata.extend(hugging_face::metadata(&at, &config)?);
        } else if let Some(found) = timm::metadata(&config) {
            metadata.extend(found);
            if weights.naming == Naming::Reference {
                weights.naming = Naming::Timm;
            }
        }
    }
    if let Some(config) = json(&path.with_file_name("preprocessor_config.json"))? {
        let found = hugging_face::preparation(&config);
        metadata.extend(found.map(|preparation| preparation.metadata_entry()));
    }
    for (name, value) in metadata {
        weights.metadata.entry(name).or_insert(value);
    }
    Ok(())
}

/// The content of a JSON file; `None` if there is no such file.
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
