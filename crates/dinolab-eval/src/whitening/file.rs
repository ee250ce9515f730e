//! A whitening transform in a file, next to the features it was fitted to.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use dinolab_nn::weights::{Array, file_arrays, read_arrays, to_bytes};

use super::Whitening;
use crate::file::write_whole;
use crate::{Error, Result};

/// Value of the metadata entry `format`.
const FORMAT: &str = "dinolab whitening 1";

impl Whitening {
    /// Returns the path of the whitening of the features in `path`.
    pub fn file_of(path: &Path) -> PathBuf {
        path.with_extension("whitening.safetensors")
    }

    /// Writes the transform, complete or not at all: a safetensors file with the tensors `mean`
    /// `[D]`, `components` `[D, D]` (orthonormal rows, in descending order of variance) and
    /// `deviations` `[D]`.
    ///
    /// # Errors
    /// [`Error::Write`] if the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = self.to_bytes()?;
        write_whole(path, |out| out.write_all(&bytes))
    }

    /// Returns the bytes of the file.
    ///
    /// # Errors
    /// [`Error::Model`] if they cannot be made.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let dim = self.dim();
        let array = |shape: &[usize], values: &[f64]| Array {
            shape: shape.to_vec(),
            data: values.iter().map(|&v| v as f32).collect(),
        };
        let arrays = BTreeMap::from([
            ("mean".to_owned(), array(&[dim], &self.mean)),
            (
                "components".to_owned(),
                array(&[dim, dim], &self.components),
            ),
            ("deviations".to_owned(), array(&[dim], &self.deviations)),
        ]);
        let metadata = BTreeMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("images".to_owned(), self.images.to_string()),
        ]);
        Ok(to_bytes(&arrays, &metadata)?)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Model`] if the file cannot be read; [`Error::Format`] if it is not a whitening.
    pub fn read(path: &Path) -> Result<Self> {
        let (arrays, metadata) = read_arrays(path)?;
        Self::of_arrays(path, arrays, &metadata)
    }

    /// Reads the content of a file, which `path` names in errors.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        let (arrays, metadata) = file_arrays(path, bytes)?;
        Self::of_arrays(path, arrays, &metadata)
    }

    fn of_arrays(
        path: &Path,
        mut arrays: BTreeMap<String, Array>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let wrong = |reason: String| Error::Format {
            path: path.into(),
            reason,
        };
        let said = |key: &str| metadata.get(key).map(String::as_str);
        if said("format") != Some(FORMAT) {
            return Err(wrong("is not a whitening written by `embed`".into()));
        }
        let mut take = |name: &str| {
            let array = arrays.remove(name);
            array.ok_or_else(|| wrong(format!("has no tensor {name}")))
        };
        let [mean, components, deviations] =
            [take("mean")?, take("components")?, take("deviations")?];
        let dim = mean.data.len();
        let fits = dim > 0
            && mean.shape == [dim]
            && components.shape == [dim, dim]
            && deviations.shape == [dim];
        if !fits {
            let shapes = [mean.shape, components.shape, deviations.shape];
            return Err(wrong(format!("its tensors do not fit: {shapes:?}")));
        }
        let finite = |array: &Array| array.data.iter().all(|v| v.is_finite());
        let positive = deviations.data.iter().all(|&v| v > 0.0);
        if !(finite(&mean) && finite(&components) && finite(&deviations) && positive) {
            return Err(wrong("has values that no fit gives".into()));
        }
        let wide = |array: Array| array.data.into_iter().map(f64::from).collect();
        let images = said("images").and_then(|text| text.parse().ok());
        let [mean, components, deviations] = [mean, components, deviations].map(wide);
        Ok(Self::new(
            images.unwrap_or_default(),
            mean,
            components,
            deviations,
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn rows(seed: usize) -> Vec<f32> {
        (0..60 * 5)
            .map(|i| ((i * 7919 + seed * 13) % 1009) as f32 / 300.0 * (1 + i % 5) as f32)
            .collect()
    }

    #[test]
    fn a_file_is_the_same_transform() {
        let folder = tempfile::tempdir().unwrap();
        let path = Whitening::file_of(&folder.path().join("new/photos.npy"));
        assert!(path.ends_with("new/photos.whitening.safetensors"));
        let fitted = Whitening::fit_rows(&rows(1), 5).unwrap();
        fitted.write(&path).unwrap();
        let read = Whitening::read(&path).unwrap();
        assert_eq!(read, fitted);
        assert_eq!((read.dim(), read.images()), (5, 60));
        let [mut a, mut b] = [rows(2), rows(2)];
        fitted.apply(&mut a).unwrap();
        read.apply(&mut b).unwrap();
        assert_eq!(a, b);

        let bytes = fs::read(&path).unwrap();
        assert_eq!(Whitening::from_bytes(&path, &bytes).unwrap(), fitted);
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(Whitening::read(&path).is_err());
        // The last tensor is the mean: not a number.
        let mut other = bytes.clone();
        let end = other.len() - 4;
        other[end..].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(&path, other).unwrap();
        let error = Whitening::read(&path).unwrap_err().to_string();
        assert!(error.contains("no fit gives"), "{error}");
        assert!(Whitening::read(&folder.path().join("absent")).is_err());
        let array = Array {
            shape: vec![1, 2],
            data: vec![1.0, 2.0],
        };
        let arrays = BTreeMap::from([("features".to_owned(), array)]);
        fs::write(&path, to_bytes(&arrays, &BTreeMap::new()).unwrap()).unwrap();
        let error = Whitening::read(&path).unwrap_err().to_string();
        assert!(error.contains("not a whitening"), "{error}");
    }
}
