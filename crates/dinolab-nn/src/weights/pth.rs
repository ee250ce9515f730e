//! PyTorch checkpoints, read without executing their content.

mod archive;
mod pickle;
mod write;

use std::path::Path;

pub use self::pickle::Value;
pub use self::write::write_pth;

use half::{bf16, f16};
use pytorch_reader::{DType, PickleValue, PytorchReader, Tensor};

use super::networks::Network;
use super::{Array, NetworkRole, Weights, bad, check_finite, io};
use crate::Result;

/// The reference's name of the centre.
const CENTRE: &str = "dino_loss.center";

/// Reads the network with `role`, or the only one.
pub(super) fn read(path: &Path, role: Option<NetworkRole>) -> Result<Weights> {
    let fail = |error: pytorch_reader::PytorchError| {
        let reason = error.to_string();
        // All that the reader of archives knows of a file that breaks off.
        match reason.contains("invalid Zip archive") {
            true => bad(path, format!("is cut short or damaged ({reason})")),
            false => bad(path, reason),
        }
    };
    let archive = archive::Archive::of(path)?;
    let root = PytorchReader::read_pickle_data(archive.path(), None).map_err(fail)?;
    let PickleValue::Dict(root) = root else {
        return Err(bad(path, "is not a dictionary of tensors".into()));
    };
    let reader = PytorchReader::new(archive.path()).map_err(fail)?;
    // Integer counters (`num_batches_tracked`) are not weights.
    let names = || {
        let weights = reader
            .tensors()
            .iter()
            .filter(|(_, tensor)| is_weight(tensor));
        weights.map(|(name, _)| name.as_str())
    };
    let network = Network::find(path, names(), role, None)?;
    let mut budget = Budget::of(path)?;
    let mut raw = Vec::new();
    for name in names().filter(|name| network.local(name).is_some()) {
        let tensor = &reader.tensors()[name];
        raw.push((name.to_owned(), array(path, tensor, &mut budget)?));
    }
    let (arrays, naming) = super::network(path, &network, raw, false)?;
    let mut weights = Weights {
        arrays,
        naming,
        role: network.role,
        ..Weights::default()
    };
    if let Some(centre) = reader.get(CENTRE).filter(|tensor| is_weight(tensor)) {
        let centre = array(path, centre, &mut budget)?;
        check_finite(path, [(CENTRE, &centre)].into_iter())?;
        weights.centre = Some(centre.data);
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
            weights.metadata.insert(name.clone(), text);
        }
    }
    Ok(weights)
}

/// Bytes that a file's tensors may still take. A pickle can declare many tensors over one storage, or
/// views that repeat it; genuine weights take no more than the file itself.
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

fn is_weight(tensor: &Tensor) -> bool {
    matches!(
        tensor.dtype(),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16
    )
}

fn array(path: &Path, tensor: &Tensor, budget: &mut Budget) -> Result<Array> {
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
    Ok(Array {
        shape: tensor.shape().to_vec(),
        data,
    })
}
