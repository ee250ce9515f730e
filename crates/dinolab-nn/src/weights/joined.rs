//! Linear maps that files hold in parts and the reference as one.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Array, bad};
use crate::Result;

/// The parts of joint maps, by the name of the whole.
#[derive(Debug, Default)]
pub(super) struct Joined(BTreeMap<String, Vec<Option<Array>>>);

impl Joined {
    /// Adds part number `part` of `of`, which come one below another.
    pub fn add(&mut self, whole: String, part: usize, of: usize, array: Array) {
        self.0.entry(whole).or_insert_with(|| vec![None; of])[part] = Some(array);
    }

    /// The whole maps. With `absent_biases`, those that some parts lack are 0.
    ///
    /// # Errors
    /// [`crate::Error::BadWeights`] if parts are missing, or do not fit each other.
    pub fn finish(self, path: &Path, absent_biases: bool) -> Result<BTreeMap<String, Array>> {
        let mut arrays = BTreeMap::new();
        for (name, mut parts) in self.0 {
            let what = match parts.len() {
                3 => "query, key and value",
                _ => "gates and values",
            };
            let present = parts.iter().flatten().next();
            let zeros = present.map(|array| Array {
                shape: array.shape.clone(),
                data: vec![0.0; array.data.len()],
            });
            if absent_biases && name.ends_with(".bias") {
                for part in &mut parts {
                    *part = part.take().or_else(|| zeros.clone());
                }
            }
            let Some(parts) = parts.into_iter().collect::<Option<Vec<Array>>>() else {
                return Err(bad(path, format!("does not have all of {what} of {name}")));
            };
            let first = &parts[0].shape;
            if first.is_empty() || parts.iter().any(|part| part.shape != *first) {
                let shapes: Vec<_> = parts.iter().map(|p| format!("{:?}", p.shape)).collect();
                return Err(bad(
                    path,
                    format!("{what} of {name} differ in shape: {}", shapes.join(", ")),
                ));
            }
            let mut shape = first.clone();
            shape[0] = shape[0].saturating_mul(parts.len());
            let data = parts.into_iter().flat_map(|part| part.data).collect();
            arrays.insert(name, Array { shape, data });
        }
        Ok(arrays)
    }
}

/// The parts of a joint map, one for each name.
pub(super) fn split<const N: usize>(array: &Array, names: [String; N]) -> Vec<(String, Array)> {
    let part = array.data.len() / N;
    let mut shape = array.shape.clone();
    shape[0] /= N;
    let parts = names.into_iter().enumerate().map(|(i, name)| {
        let shape = shape.clone();
        let data = array.data[i * part..][..part].to_vec();
        (name, Array { shape, data })
    });
    parts.collect()
}
