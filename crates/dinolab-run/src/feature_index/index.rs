//! Features of a set of images, kept in a file so that only new images have to be embedded.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use dinolab_data::slice::check_length;
use dinolab_nn::weights::{Array, file_arrays, to_bytes};

use crate::error::{Context, Error, Result};

/// Version of the file's layout.
const VERSION: &str = "1";

/// Identifies the content of an image without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct FileFingerprint {
    /// The image's name in its source.
    pub name: String,
    /// Size in bytes of its file, or of the archive that holds it.
    pub size: u64,
    /// Its last modification, in nanoseconds since 1970.
    pub modified: i64,
}

/// Features of a set of images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// Identifies what the features depend on besides the images, such as weights and
    /// preprocessing. An index with another key is stale.
    pub key: String,
    /// Width of a feature, `D`.
    pub dim: usize,
    /// Fingerprints of the `N` images.
    pub fingerprints: Vec<FileFingerprint>,
    /// `[N, D]`.
    pub data: Vec<f32>,
}

/// The changes between an index and the present images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexUpdate {
    /// Images whose features are known: position among the present images, row in the index.
    pub known: Vec<(usize, usize)>,
    /// Positions of the images to embed.
    pub new: Vec<usize>,
    /// Rows of the index whose images are gone or have changed.
    pub gone: usize,
}

impl Index {
    /// Compares the index with the present images. With another key, all images are new.
    pub fn compare(&self, key: &str, images: &[FileFingerprint]) -> IndexUpdate {
        let mut rows: HashMap<&FileFingerprint, usize> = HashMap::new();
        if self.key == key {
            rows.extend(
                self.fingerprints
                    .iter()
                    .enumerate()
                    .map(|(row, fingerprint)| (fingerprint, row)),
            );
        }
        let mut update = IndexUpdate::default();
        for (place, fingerprint) in images.iter().enumerate() {
            match rows.get(fingerprint) {
                Some(&row) => update.known.push((place, row)),
                None => update.new.push(place),
            }
        }
        update.gone = self.fingerprints.len().saturating_sub(update.known.len());
        update
    }

    /// Returns the feature of an image.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.dim..][..self.dim]
    }

    /// Adds an image.
    ///
    /// # Errors
    /// [`Error::Slice`] for a feature of another width.
    pub fn push(&mut self, fingerprint: FileFingerprint, feature: &[f32]) -> Result<()> {
        check_length("feature", self.dim, feature.len())?;
        self.fingerprints.push(fingerprint);
        self.data.extend_from_slice(feature);
        Ok(())
    }

    /// Writes the index, complete or not at all: a safetensors file whose tensor `features` has a
    /// row per image, with key and fingerprints as metadata.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        check_length("index", self.fingerprints.len() * self.dim, self.data.len())?;
        let array = Array {
            shape: vec![self.fingerprints.len(), self.dim],
            data: self.data.clone(),
        };
        let fingerprints = serde_json::to_string(&self.fingerprints)
            .with_context(|| path.display().to_string())?;
        let facts = BTreeMap::from([
            ("dinolab_index".to_owned(), VERSION.to_owned()),
            ("key".to_owned(), self.key.clone()),
            ("images".to_owned(), fingerprints),
        ]);
        let bytes = to_bytes(&BTreeMap::from([("features".to_owned(), array)]), &facts)?;
        dinolab_files::write_whole(path, |out| out.write_all(&bytes))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads an index; `None` if there is no file.
    ///
    /// # Errors
    /// A file that cannot be read, or is not an index of this version.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let wrong = |reason: &str| {
            let path = path.display();
            Error::Invalid(format!("{path}: is not an index of this version: {reason}"))
        };
        let (mut arrays, mut facts) = file_arrays(path, &bytes)?;
        if facts.get("dinolab_index").map(String::as_str) != Some(VERSION) {
            return Err(wrong("its metadata has no version or another one"));
        }
        let features = arrays
            .remove("features")
            .ok_or_else(|| wrong("no features"))?;
        let images = facts.remove("images").ok_or_else(|| wrong("no images"))?;
        let fingerprints: Vec<FileFingerprint> =
            serde_json::from_str(&images).map_err(|error| wrong(&error.to_string()))?;
        let [rows, dim] = features.shape[..] else {
            return Err(wrong("its features are not a matrix"));
        };
        if rows != fingerprints.len() || features.data.iter().any(|v| !v.is_finite()) {
            return Err(wrong("its images and features do not match"));
        }
        Ok(Some(Self {
            key: facts.remove("key").unwrap_or_default(),
            dim,
            fingerprints,
            data: features.data,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(name: &str, modified: i64) -> FileFingerprint {
        FileFingerprint {
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
        index.push(fingerprint("a", 1), &[1.0, 0.0]).unwrap();
        index.push(fingerprint("b", 1), &[0.0, 1.0]).unwrap();
        index.push(fingerprint("c", 1), &[0.5, 0.5]).unwrap();
        assert!(index.push(fingerprint("d", 1), &[0.5]).is_err());
        let now = [
            fingerprint("a", 1),
            fingerprint("aa", 1),
            fingerprint("b", 2),
            fingerprint("c", 1),
        ];
        let update = index.compare("w1", &now);
        assert_eq!(update.known, [(0, 0), (3, 2)]);
        assert_eq!(update.new, [1, 2]);
        assert_eq!(update.gone, 1);
        assert_eq!(index.compare("w2", &now).new, [0, 1, 2, 3]);
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
