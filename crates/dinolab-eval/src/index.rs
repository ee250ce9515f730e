//! Features of a set of images, kept in a file, so that only what is new has to be embedded.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use dinolab_nn::weights::{Array, file_arrays, to_bytes};

use crate::error::check_length;
use crate::file::write_whole;
use crate::{Error, Result};

/// Of the layout of the file.
const VERSION: &str = "1";

/// What is known of an image without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// The image's name in its source.
    pub name: String,
    /// Size in bytes of its file, or of the archive that holds it.
    pub size: u64,
    /// When that was last changed, in nanoseconds since 1970.
    pub modified: i64,
}

/// Features of images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// What the features depend on beside the images: weights and preprocessing, in words of
    /// the caller's. An index of another key is of no use.
    pub key: String,
    /// Width of a feature, `D`.
    pub dim: usize,
    /// `N` images.
    pub stamps: Vec<Stamp>,
    /// `[N, D]`.
    pub data: Vec<f32>,
}

/// What an old index saves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Images whose features are known: place among the present images, row in the old index.
    pub known: Vec<(usize, usize)>,
    /// Places of the images to embed.
    pub new: Vec<usize>,
    /// Rows of the old index that are of no image any more, or of a changed one.
    pub gone: usize,
}

impl Index {
    /// Compares with the images that there are now. With another key nothing is known.
    pub fn plan(&self, key: &str, images: &[Stamp]) -> Plan {
        let mut rows: HashMap<&Stamp, usize> = HashMap::new();
        if self.key == key {
            rows.extend(
                self.stamps
                    .iter()
                    .enumerate()
                    .map(|(row, stamp)| (stamp, row)),
            );
        }
        let mut plan = Plan::default();
        for (place, stamp) in images.iter().enumerate() {
            match rows.get(stamp) {
                Some(&row) => plan.known.push((place, row)),
                None => plan.new.push(place),
            }
        }
        plan.gone = self.stamps.len().saturating_sub(plan.known.len());
        plan
    }

    /// The feature of an image.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.dim..][..self.dim]
    }

    /// Adds an image.
    ///
    /// # Errors
    /// A feature of another width.
    pub fn push(&mut self, stamp: Stamp, feature: &[f32]) -> Result<()> {
        check_length("feature", self.dim, feature.len())?;
        self.stamps.push(stamp);
        self.data.extend_from_slice(feature);
        Ok(())
    }

    /// Writes the index, whole or not at all: a safetensors file whose tensor `features` has a
    /// row per image, and whose metadata hold key and stamps.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        check_length("index", self.stamps.len() * self.dim, self.data.len())?;
        let array = Array {
            shape: vec![self.stamps.len(), self.dim],
            data: self.data.clone(),
        };
        let stamps = serde_json::to_string(&self.stamps).map_err(|error| Error::Format {
            path: path.into(),
            reason: error.to_string(),
        })?;
        let facts = BTreeMap::from([
            ("dinolab_index".to_owned(), VERSION.to_owned()),
            ("key".to_owned(), self.key.clone()),
            ("images".to_owned(), stamps),
        ]);
        let bytes = to_bytes(&BTreeMap::from([("features".to_owned(), array)]), &facts)?;
        write_whole(path, |out| out.write_all(&bytes))
    }

    /// Reads an index; `None` where there is no file.
    ///
    /// # Errors
    /// A file that cannot be read, or is no index of this layout.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(Error::Io {
                    path: path.into(),
                    source,
                });
            }
        };
        let wrong = |reason: &str| Error::Format {
            path: path.into(),
            reason: format!("is no index of this version: {reason}"),
        };
        let (mut arrays, mut facts) = file_arrays(path, &bytes)?;
        if facts.get("dinolab_index").map(String::as_str) != Some(VERSION) {
            return Err(wrong("no version in its metadata, or another"));
        }
        let features = arrays
            .remove("features")
            .ok_or_else(|| wrong("no features"))?;
        let images = facts.remove("images").ok_or_else(|| wrong("no images"))?;
        let stamps: Vec<Stamp> =
            serde_json::from_str(&images).map_err(|error| wrong(&error.to_string()))?;
        let [rows, dim] = features.shape[..] else {
            return Err(wrong("the features are no matrix"));
        };
        if rows != stamps.len() || features.data.iter().any(|v| !v.is_finite()) {
            return Err(wrong("its images and features do not fit together"));
        }
        Ok(Some(Self {
            key: facts.remove("key").unwrap_or_default(),
            dim,
            stamps,
            data: features.data,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(name: &str, modified: i64) -> Stamp {
        Stamp {
            name: name.into(),
            size: 5,
            modified,
        }
    }

    #[test]
    fn only_what_changed_is_new() {
        let mut index = Index {
            key: "w1".into(),
            dim: 2,
            ..Index::default()
        };
        index.push(stamp("a", 1), &[1.0, 0.0]).unwrap();
        index.push(stamp("b", 1), &[0.0, 1.0]).unwrap();
        index.push(stamp("c", 1), &[0.5, 0.5]).unwrap();
        assert!(index.push(stamp("d", 1), &[0.5]).is_err());
        let now = [stamp("a", 1), stamp("aa", 1), stamp("b", 2), stamp("c", 1)];
        let plan = index.plan("w1", &now);
        assert_eq!(plan.known, [(0, 0), (3, 2)]);
        assert_eq!(plan.new, [1, 2]);
        assert_eq!(plan.gone, 1);
        assert_eq!(index.plan("w2", &now).new, [0, 1, 2, 3]);
        assert_eq!(index.row(2), [0.5, 0.5]);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/index.safetensors");
        assert_eq!(Index::read(&path).unwrap(), None);
        index.write(&path).unwrap();
        assert_eq!(Index::read(&path).unwrap(), Some(index));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(Index::read(&path).is_err());
    }
}
