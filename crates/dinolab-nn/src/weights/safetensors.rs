//! The safetensors format.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;

use super::networks::Network;
use super::{Array, NetworkRole, Weights, bad, check_finite, io};
use crate::Result;

/// The metadata key that names the network to use by default, by the prefix of its tensors.
const EVALUATED: &str = "evaluated";
/// The tensor that a checkpoint keeps the centre in.
const CENTRE: &str = "centre";
/// The largest header of the format.
const MAX_HEADER: u64 = 100_000_000;

/// Reads the network with `role` of a checkpoint, or the only one there is.
pub(super) fn read(path: &Path, role: Option<NetworkRole>) -> Result<Weights> {
    let (arrays, metadata) = read_arrays(path)?;
    from_arrays(path, arrays, metadata, role)
}

/// The network with `role` among the arrays of a checkpoint that was read from `path`, or the one
/// that the file's `metadata` names as evaluated, or the only one.
///
/// # Errors
/// As [`super::read`], but for those of the file itself.
pub fn from_arrays(
    path: &Path,
    mut arrays: BTreeMap<String, Array>,
    metadata: BTreeMap<String, String>,
    role: Option<NetworkRole>,
) -> Result<Weights> {
    let evaluated = metadata.get(EVALUATED).map(String::as_str);
    let network = Network::find(path, arrays.keys().map(String::as_str), role, evaluated)?;
    let centre = arrays.remove(CENTRE);
    check_finite(path, centre.iter().map(|array| (CENTRE, array)))?;
    arrays.retain(|name, _| network.local(name).is_some());
    let (arrays, naming) = super::network(path, &network, arrays.into_iter().collect(), true)?;
    Ok(Weights {
        path: path.into(),
        arrays,
        naming,
        centre: centre.map(|array| array.data),
        metadata,
        role: network.role,
    })
}

/// All floating-point arrays of a file, and its metadata.
///
/// # Errors
/// [`crate::Error::Io`], and [`crate::Error::BadWeights`] for a file that is not a safetensors file or
/// whose length differs from its header; such a file is not read.
pub fn read_arrays(path: &Path) -> Result<(BTreeMap<String, Array>, BTreeMap<String, String>)> {
    file_arrays(path, &whole(path)?)
}

/// A file's bytes, after its length has been checked against its header: a file of any size may begin
/// like a safetensors file.
fn whole(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).map_err(io(path))?;
    let length = file.metadata().map_err(io(path))?.len();
    let mut head = [0; 8];
    file.read_exact(&mut head).map_err(io(path))?;
    let header = u64::from_le_bytes(head);
    if header > MAX_HEADER {
        return Err(bad(
            path,
            format!("its header would be {header} bytes long"),
        ));
    }
    let mut bytes = head.to_vec();
    let mut start = file.by_ref().take(header);
    start.read_to_end(&mut bytes).map_err(io(path))?;
    let entries: BTreeMap<String, Value> = serde_json::from_slice(&bytes[head.len()..])
        .map_err(|error| bad(path, format!("its header: {error}")))?;
    let end = |entry: &Value| entry.get("data_offsets")?.get(1)?.as_u64();
    let data = entries.values().filter_map(end).max().unwrap_or(0);
    let claimed = data.saturating_add(header + head.len() as u64);
    if claimed != length {
        let reason = format!(
            "is {length} bytes long and would be {claimed} by its header: cut short or damaged"
        );
        return Err(bad(path, reason));
    }
    file.read_to_end(&mut bytes).map_err(io(path))?;
    Ok(bytes)
}

/// All floating-point arrays of a file's bytes, and its metadata.
///
/// # Errors
/// [`crate::Error::BadWeights`] if the bytes are not a complete safetensors file.
pub fn file_arrays(
    path: &Path,
    bytes: &[u8],
) -> Result<(BTreeMap<String, Array>, BTreeMap<String, String>)> {
    let fail = |error: safetensors::SafeTensorError| bad(path, error.to_string());
    let file = SafeTensors::deserialize(bytes).map_err(fail)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(fail)?;
    let metadata = header
        .metadata()
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let mut arrays = BTreeMap::new();
    for (name, view) in file.tensors() {
        let raw = view.data();
        let data: Vec<f32> = match view.dtype() {
            Dtype::F32 => raw
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            Dtype::F64 => raw
                .as_chunks()
                .0
                .iter()
                .map(|b| f64::from_le_bytes(*b) as f32)
                .collect(),
            Dtype::F16 => raw
                .as_chunks()
                .0
                .iter()
                .map(|b| f16::from_le_bytes(*b).to_f32())
                .collect(),
            Dtype::BF16 => raw
                .as_chunks()
                .0
                .iter()
                .map(|b| bf16::from_le_bytes(*b).to_f32())
                .collect(),
            _ => continue,
        };
        arrays.insert(
            name,
            Array {
                shape: view.shape().to_vec(),
                data,
            },
        );
    }
    Ok((arrays, metadata))
}

/// A safetensors file of `arrays` with `metadata`: the same bytes for the same contents.
///
/// # Errors
/// [`crate::Error::BadWeights`] if an array's values do not fill its shape.
pub fn to_bytes(
    arrays: &BTreeMap<String, Array>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let fail =
        |error: safetensors::SafeTensorError| bad(Path::new("safetensors"), error.to_string());
    let raw: Vec<(&String, &Array, Vec<u8>)> = arrays
        .iter()
        .map(|(name, array)| {
            (
                name,
                array,
                array.data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            )
        })
        .collect();
    let views = raw
        .iter()
        .map(|(name, array, bytes)| {
            Ok((
                *name,
                TensorView::new(Dtype::F32, array.shape.clone(), bytes)?,
            ))
        })
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(fail)?;
    let metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    let mut bytes = safetensors::serialize(views, Some(metadata)).map_err(fail)?;
    sort_header(&mut bytes);
    Ok(bytes)
}

/// Puts the entries of a file's header in the order of their names, in place of that of a hash map.
fn sort_header(bytes: &mut Vec<u8>) {
    let (length, rest) = bytes.split_first_chunk().expect("a header has a length");
    let end = 8 + u64::from_le_bytes(*length) as usize;
    let header: BTreeMap<String, Entry> =
        serde_json::from_slice(&rest[..end - 8]).expect("just written");
    let mut header = serde_json::to_vec(&header).expect("plain data");
    // Values begin at a multiple of their size.
    header.resize(header.len().next_multiple_of(8), b' ');
    bytes[..8].copy_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.splice(8..end, header);
}

/// An entry of a header.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Entry {
    Tensor {
        dtype: String,
        shape: Vec<usize>,
        data_offsets: [u64; 2],
    },
    Metadata(BTreeMap<String, String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_contents_are_equal_bytes() {
        let array = |values: &[f32]| Array {
            shape: vec![values.len()],
            data: values.to_vec(),
        };
        let arrays = BTreeMap::from([
            ("b".into(), array(&[1.0, 2.0])),
            ("a".into(), array(&[3.0])),
        ]);
        let metadata = (0..20).map(|i| (format!("key {i}"), format!("\"{i}\" ä\n")));
        let metadata: BTreeMap<String, String> = metadata.collect();
        let bytes = to_bytes(&arrays, &metadata).unwrap();
        for _ in 0..5 {
            assert_eq!(to_bytes(&arrays, &metadata).unwrap(), bytes);
        }
        let (read, said) = file_arrays(Path::new("file"), &bytes).unwrap();
        assert_eq!((read, said), (arrays, metadata));
        let header = u64::from_le_bytes(*bytes.first_chunk().unwrap());
        assert_eq!(bytes.len() as u64, 8 + header + 12);
        let text = String::from_utf8_lossy(&bytes);
        let places: Vec<_> = ["key 0", "key 1", "key 9"]
            .map(|key| text.find(key))
            .to_vec();
        assert!(places.is_sorted() && places[0].is_some());
    }
}
