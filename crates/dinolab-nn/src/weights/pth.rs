//! PyTorch checkpoints, read without executing anything they contain.

mod archive;
mod pickle;
mod write;

use std::path::Path;

pub use self::pickle::Value;
pub use self::write::write_pth;

use half::{bf16, f16};
use pytorch_reader::{DType, PickleValue, PytorchReader, Tensor};

use super::{Array, Weights, Which, bad, io};
use crate::Result;

/// Reads the network `which`, or the only one there is.
pub(super) fn read(path: &Path, which: Which) -> Result<Weights> {
    let fail = |error: pytorch_reader::PytorchError| bad(path, error.to_string());
    let archive = archive::Archive::of(path)?;
    let root = PytorchReader::read_pickle_data(archive.path(), None).map_err(fail)?;
    let PickleValue::Dict(root) = root else {
        return Err(bad(path, "is not a dictionary of tensors".into()));
    };
    let dict = |key: &str| matches!(root.get(key), Some(PickleValue::Dict(_)));
    if !dict(which.key()) && dict(which.other().key()) {
        return Err(bad(path, format!("has no {}", which.key())));
    }
    // Where people put a network's tensors, most specific first.
    let key = [which.key(), "model", "state_dict"]
        .into_iter()
        .find(|key| dict(key));
    let reader = match key {
        Some(key) => PytorchReader::with_top_level_key(archive.path(), key),
        None => PytorchReader::new(archive.path()),
    }
    .map_err(fail)?;
    let mut weights = Weights {
        which: (key == Some(which.key())).then_some(which),
        ..Weights::default()
    };
    let mut budget = Budget::of(path)?;
    for (name, tensor) in reader.tensors() {
        // Integer counters (`num_batches_tracked`) are not weights.
        if let Some(array) = array(path, tensor, &mut budget)? {
            weights.arrays.insert(name.clone(), array);
        }
    }
    if root.contains_key("dino_loss") {
        let loss = PytorchReader::with_top_level_key(archive.path(), "dino_loss").map_err(fail)?;
        if let Some(centre) = loss.get("center") {
            weights.centre = array(path, centre, &mut budget)?.map(|array| array.data);
        }
    }
    if let Some(PickleValue::Dict(args)) = root.get("args") {
        for (name, value) in args {
            let text = match value {
                PickleValue::Bool(value) => value.to_string(),
                PickleValue::Int(value) => value.to_string(),
                PickleValue::Float(value) => value.to_string(),
                PickleValue::String(value) => value.clone(),
                _ => continue,
            };
            weights.facts.insert(name.clone(), text);
        }
    }
    Ok(weights)
}

/// Bytes that a file's tensors may still take. A pickle can declare many tensors over one
/// storage, or views that repeat it; real weights take no more than the file itself.
struct Budget(u64);

impl Budget {
    fn of(path: &Path) -> Result<Self> {
        let file = std::fs::metadata(path).map_err(io(path))?;
        // Some room for tensors that share a storage, or a compressed archive.
        Ok(Self(file.len().saturating_mul(4)))
    }

    fn spend(&mut self, path: &Path, tensor: &Tensor) -> Result<()> {
        let claimed = tensor
            .shape()
            .iter()
            .try_fold(tensor.dtype().size(), |all, &n| all.checked_mul(n))
            .and_then(|bytes| self.0.checked_sub(bytes as u64));
        self.0 = claimed.ok_or_else(|| {
            bad(
                path,
                format!(
                    "claims more values than it can hold, at tensor {} of shape {:?}",
                    tensor.name,
                    tensor.shape()
                ),
            )
        })?;
        Ok(())
    }
}

fn array(path: &Path, tensor: &Tensor, budget: &mut Budget) -> Result<Option<Array>> {
    if !matches!(
        tensor.dtype(),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16
    ) {
        return Ok(None);
    }
    budget.spend(path, tensor)?;
    let bytes = tensor
        .read()
        .map_err(|error| bad(path, error.to_string()))?;
    let data: Vec<f32> = match tensor.dtype() {
        DType::F32 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect(),
        DType::F64 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| f64::from_le_bytes(*b) as f32)
            .collect(),
        DType::F16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| f16::from_le_bytes(*b).to_f32())
            .collect(),
        _ => bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| bf16::from_le_bytes(*b).to_f32())
            .collect(),
    };
    if data.len() != tensor.num_elements() {
        return Err(bad(path, format!("tensor {} is cut short", tensor.name)));
    }
    Ok(Some(Array {
        shape: tensor.shape().to_vec(),
        data,
    }))
}
