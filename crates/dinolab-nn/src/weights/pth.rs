//! PyTorch checkpoints, read without executing anything they contain.

use std::path::Path;

use half::{bf16, f16};
use pytorch_reader::{DType, PickleValue, PytorchReader, Tensor};

use super::{Array, Weights, Which, bad};
use crate::Result;

/// Reads the network `which`, or the only one there is.
pub(super) fn read(path: &Path, which: Which) -> Result<Weights> {
    let fail = |error: pytorch_reader::PytorchError| bad(path, error.to_string());
    let root = PytorchReader::read_pickle_data(path, None).map_err(fail)?;
    let PickleValue::Dict(root) = root else {
        return Err(bad(path, "is not a dictionary of tensors".into()));
    };
    // Where people put a network's tensors, most specific first.
    let key = [which.key(), "model", "state_dict"]
        .into_iter()
        .find(|key| matches!(root.get(*key), Some(PickleValue::Dict(_))));
    let reader = match key {
        Some(key) => PytorchReader::with_top_level_key(path, key),
        None => PytorchReader::new(path),
    }
    .map_err(fail)?;
    let mut weights = Weights::default();
    for (name, tensor) in reader.tensors() {
        // Integer counters (`num_batches_tracked`) are not weights.
        if let Some(array) = array(path, tensor)? {
            weights.arrays.insert(name.clone(), array);
        }
    }
    if root.contains_key("dino_loss") {
        let loss = PytorchReader::with_top_level_key(path, "dino_loss").map_err(fail)?;
        if let Some(centre) = loss.get("center") {
            weights.centre = array(path, centre)?.map(|array| array.data);
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

fn array(path: &Path, tensor: &Tensor) -> Result<Option<Array>> {
    if !matches!(
        tensor.dtype(),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16
    ) {
        return Ok(None);
    }
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
