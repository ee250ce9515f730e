//! Weights that are split over several safetensors files: an index names the file of each tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::{NetworkRole, Weights, bad, io, safetensors};
use crate::Result;

/// The name of the index in a model's folder.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Larger indices are refused; a tensor's entry has about a hundred bytes.
const MAX_BYTES: u64 = 1 << 24;

/// The names of the files that an index names, which are in its own folder.
///
/// # Errors
/// [`crate::Error::Io`], and [`crate::Error::BadWeights`] for a file that is not an index, or names files
/// elsewhere.
pub fn shards(index: &Path) -> Result<Vec<String>> {
    let file = std::fs::File::open(index).map_err(io(index))?;
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(io(index))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(bad(index, "is too large for an index".into()));
    }
    let value: Value = serde_json::from_slice(&text).map_err(|e| bad(index, e.to_string()))?;
    let map = value.get("weight_map").and_then(Value::as_object);
    let map = map.filter(|map| !map.is_empty());
    let map = map.ok_or_else(|| bad(index, "names no files (weight_map)".into()))?;
    let mut names = BTreeSet::new();
    for (tensor, name) in map {
        let name = name.as_str().filter(|name| is_plain(name));
        let name = name.ok_or_else(|| {
            bad(
                index,
                format!("the file of {tensor} is not a .safetensors file in this folder"),
            )
        })?;
        names.insert(name.to_owned());
    }
    Ok(names.into_iter().collect())
}

/// Whether a name is that of a safetensors file in the same folder.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.ends_with(".safetensors") && !name.starts_with('.') && name.chars().all(allowed)
}

/// Reads the network with `role` from the files of an index.
pub(super) fn read(index: &Path, role: Option<NetworkRole>) -> Result<Weights> {
    let mut arrays = BTreeMap::new();
    let mut metadata = BTreeMap::new();
    for name in shards(index)? {
        let path = index.with_file_name(name);
        let (of_file, said) = safetensors::read_arrays(&path)?;
        metadata.extend(said);
        for (name, array) in of_file {
            if arrays.insert(name.clone(), array).is_some() {
                return Err(bad(
                    &path,
                    format!("{name} is in another file of the index too"),
                ));
            }
        }
    }
    safetensors::from_arrays(index, arrays, metadata, role)
}
