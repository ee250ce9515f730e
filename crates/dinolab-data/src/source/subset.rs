//! Parts of a source.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::decode::{ScaleOf, Scaled};
use crate::random::{Purpose, Random};
use crate::source::Note;
use crate::{Error, Image, Mask, Result, Source};

/// Some images of another source, with their names, labels and masks.
#[derive(Clone)]
pub struct Subset {
    source: Arc<dyn Source>,
    indices: Vec<usize>,
}

impl Subset {
    /// The images at `indices`, in that order.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where an index is not in the source.
    pub fn new(source: Arc<dyn Source>, indices: Vec<usize>) -> Result<Self> {
        match indices.iter().find(|&&index| index >= source.len()) {
            Some(index) => {
                let reason = format!("image {index} of a source of {}", source.len());
                Err(Error::BadSetting {
                    field: "subset",
                    reason,
                })
            }
            None => Ok(Self { source, indices }),
        }
    }

    /// The indices into the underlying source.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

impl std::fmt::Debug for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subset")
            .field("indices", &self.indices)
            .finish_non_exhaustive()
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(self.indices[index])
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.source.label(self.indices[index])
    }

    fn classes(&self) -> &[String] {
        self.source.classes()
    }

    fn notes(&self) -> &[Note] {
        self.source.notes()
    }

    fn image(&self, index: usize) -> Result<Image> {
        self.source.image(self.indices[index])
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.source.encoded(self.indices[index])
    }

    fn read_contiguous(&self, indices: &[usize], most: u64) -> Result<Vec<Vec<u8>>> {
        let indices: Vec<usize> = indices.iter().map(|&index| self.indices[index]).collect();
        self.source.read_contiguous(&indices, most)
    }

    fn contiguous_len(&self, indices: &[usize], most: u64) -> usize {
        let indices: Vec<usize> = indices.iter().map(|&index| self.indices[index]).collect();
        self.source.contiguous_len(&indices, most)
    }

    fn decode(&self, index: usize, bytes: &[u8]) -> Result<Image> {
        self.source.decode(self.indices[index], bytes)
    }

    fn decode_scaled(&self, index: usize, bytes: &[u8], scale_of: ScaleOf) -> Result<Scaled> {
        let index = self.indices[index];
        self.source.decode_scaled(index, bytes, scale_of)
    }

    fn shard(&self, index: usize) -> Option<usize> {
        self.source.shard(self.indices[index])
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        self.source.file(self.indices[index])
    }

    fn stamp(&self, index: usize) -> Option<(u64, i64)> {
        self.source.stamp(self.indices[index])
    }

    fn size(&self, index: usize) -> Option<u64> {
        self.source.size(self.indices[index])
    }

    fn mask(&self, index: usize) -> Result<Option<Mask>> {
        self.source.mask(self.indices[index])
    }
}

/// Holds out a validation part: `(the rest, held out)`, both in the source's order.
///
/// `fraction` (0–1) of every class is held out, or of the whole where there are no labels,
/// rounded, but never the last image of a class that has only one, and at least one of a
/// class that has more; of images without a label in a source that has some, none. What is held out
/// depends on nothing but the source and `seed`.
///
/// # Errors
/// [`Error::BadSetting`] where `fraction` is not between 0 and 1.
pub fn split(source: Arc<dyn Source>, fraction: f64, seed: u64) -> Result<(Subset, Subset)> {
    if !(fraction > 0.0 && fraction < 1.0) {
        let reason = format!("must be above 0 and below 1, not {fraction}");
        return Err(Error::BadSetting {
            field: "holdout",
            reason,
        });
    }
    let mut groups: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
    for index in 0..source.len() {
        groups.entry(source.label(index)).or_default().push(index);
    }
    let (mut kept, mut held) = (Vec::new(), Vec::new());
    if groups.len() > 1 {
        kept = groups.remove(&None).unwrap_or_default();
    }
    for (group, mut indices) in groups.into_values().enumerate() {
        let count = match indices.len() {
            0 | 1 => 0,
            n => ((n as f64 * fraction).round() as usize).clamp(1, n - 1),
        };
        let mut random = Random::new(seed, 0, group as u64, Purpose::Validation);
        // Fisher–Yates, as far as it is needed.
        for i in 0..count {
            let other = i + random.below((indices.len() - i) as u64) as usize;
            indices.swap(i, other);
        }
        kept.extend_from_slice(&indices[count..]);
        held.extend_from_slice(&indices[..count]);
    }
    kept.sort_unstable();
    held.sort_unstable();
    Ok((
        Subset {
            source: source.clone(),
            indices: kept,
        },
        Subset {
            source,
            indices: held,
        },
    ))
}
