//! Features with their names and labels, in memory and in files.
//!
//! `photos.npy` (or `.safetensors`, tensor `features`) holds `[N, D]`. Next to it,
//! `photos.paths.txt` holds the names of the rows and `photos.labels.txt` their classes, one line
//! per row, empty for a row without class. `photos.whitening.safetensors` holds the whitening of
//! features that were whitened. All companions are optional.
//!
//! Features of very many images are a folder of Parquet files, `parts`.

mod companions;
#[cfg(feature = "parquet")]
pub mod parts;
mod verified;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use dinolab_data::Source;
use dinolab_data::slice::check_length;
use dinolab_data::source::{RemoteOptions, is_remote};
use dinolab_eval::whitening::Whitening;
use dinolab_features::Features;
use dinolab_files::FileSet;
use dinolab_nn::weights::{Array, read_arrays, to_bytes};

pub use self::companions::{labels_file, names_file};
pub(crate) use self::companions::{names_and_labels, write_companions};
use self::companions::{read_lines, some};
pub use self::verified::Verified;
use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::npy::{read_npy_f32, write_npy_to};

/// What a folder of features is known by. Readers of folders of Parquet files pass over names that begin with an
/// underscore.
const MANIFEST: &str = "_manifest.json";

/// Name of the tensor in a safetensors file.
const TENSOR: &str = "features";

/// Features with the names and classes of their images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureSet {
    /// Width of a feature, `D`.
    pub dim: usize,
    /// `[N, D]`.
    pub data: Vec<f32>,
    /// `N` names, if known.
    pub names: Option<Vec<String>>,
    /// `N` class names, some of which may be missing; `None` without labels.
    pub labels: Option<Vec<Option<String>>>,
}

impl FeatureSet {
    /// Adds the source's names and labels to the features of its images.
    pub fn of_source(features: Features, source: &dyn Source) -> Self {
        let (names, labels) = names_and_labels(&features.indices, source);
        Self {
            dim: features.dim,
            data: features.data,
            names: Some(names),
            labels,
        }
    }

    /// Returns whether a path is that of a feature file, by its extension, or of a folder of features.
    pub fn is_file_of(path: &Path) -> bool {
        match path.is_dir() {
            true => path.join(MANIFEST).is_file(),
            false => file_format(path).is_some(),
        }
    }

    /// [`FeatureSet::is_file_of`], and of a location such as `s3://bucket/folder` whether a folder of
    /// features lies there.
    ///
    /// # Errors
    /// A location that could not be reached.
    pub fn is_saved(path: &Path, remote: &RemoteOptions) -> Result<bool> {
        if !is_remote(path) {
            return Ok(Self::is_file_of(path));
        }
        // A file is no folder, and looking into it as one may not be allowed.
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("tar" | "parquet" | "txt" | "tsv" | "lst")) {
            return Ok(false);
        }
        #[cfg(feature = "parquet")]
        // A web server, or a location that this build does not know, is told by who reads images.
        if let Ok(folder) = parts::PartFolder::open(path, remote) {
            return Ok(folder.manifest()?.is_some());
        }
        let _ = remote;
        Ok(false)
    }

    /// Returns whether features at this path or location are a folder.
    ///
    /// # Errors
    /// A location that could not be reached.
    pub fn is_folder(path: &Path, remote: &RemoteOptions) -> Result<bool> {
        Ok((path.is_dir() || is_remote(path)) && Self::is_saved(path, remote)?)
    }

    /// [`FeatureSet::read`], also of a location such as `s3://bucket/folder`.
    ///
    /// # Errors
    /// As [`FeatureSet::read`]; a location that could not be reached.
    pub fn load(path: &Path, remote: &RemoteOptions) -> Result<Self> {
        #[cfg(feature = "parquet")]
        if is_remote(path) {
            return parts::read(path, remote);
        }
        let _ = remote;
        Self::read(path)
    }

    /// Returns the number of rows, `N`.
    pub fn len(&self) -> usize {
        self.data.len() / self.dim.max(1)
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Returns the distinct class names, sorted; empty without labels.
    pub fn classes(&self) -> Vec<String> {
        let classes: BTreeSet<&String> = self.labels.iter().flatten().flatten().collect();
        classes.into_iter().cloned().collect()
    }

    /// Returns the rows' classes as indices into `classes`. Other classes get their own numbers from
    /// `classes.len()`, which a classifier of `classes` never predicts.
    ///
    /// # Errors
    /// [`Error::Invalid`] without labels, or if a row has none (see [`FeatureSet::labelled`]).
    pub fn label_numbers(&self, classes: &[String]) -> Result<Vec<usize>> {
        let labels = self
            .labels
            .as_ref()
            .context("labels: the features have no labels")?;
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        for class in classes {
            known.insert(class, known.len());
        }
        labels
            .iter()
            .map(|label| {
                let label = label.as_ref().context("labels: a row has no label")?;
                let next = known.len();
                Ok(*known.entry(label).or_insert(next))
            })
            .collect()
    }

    /// Returns the rows with a label and the number of rows without. A set without labels is returned
    /// unchanged.
    pub fn labelled(self) -> (Self, usize) {
        let Some(labels) = &self.labels else {
            return (self, 0);
        };
        let keep: Vec<bool> = labels.iter().map(Option::is_some).collect();
        let without = keep.iter().filter(|&&keep| !keep).count();
        if without == 0 {
            return (self, 0);
        }
        let rows = self.data.chunks_exact(self.dim.max(1)).zip(&keep);
        let data = rows.filter(|(_, keep)| **keep).flat_map(|(row, _)| row);
        let kept = Self {
            dim: self.dim,
            data: data.copied().collect(),
            names: self.names.map(|names| of_kept(names, &keep)),
            labels: self.labels.map(|labels| of_kept(labels, &keep)),
        };
        (kept, without)
    }

    /// Writes the features and their companions, and removes companions of an earlier set that this
    /// one lacks.
    ///
    /// # Errors
    /// A path that ends in neither `.npy` nor `.safetensors`; a file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.write_with(path, None)
    }

    /// [`FeatureSet::write`] of features that were whitened, with their whitening.
    ///
    /// # Errors
    /// As [`FeatureSet::write`].
    pub fn write_whitened(&self, path: &Path, whitening: &Whitening) -> Result<()> {
        self.write_with(path, Some(whitening))
    }

    fn write_with(&self, path: &Path, whitening: Option<&Whitening>) -> Result<()> {
        let shape = [self.len(), self.dim];
        check_length("features", shape[0] * shape[1], self.data.len())?;
        let mut files = FileSet::default();
        match file_format(path) {
            Some(FileFormat::Npy) => files.write(path, |out| write_npy_to(out, &shape, &self.data)),
            Some(FileFormat::Safetensors) => {
                let array = Array {
                    shape: shape.to_vec(),
                    data: self.data.clone(),
                };
                let bytes = to_bytes(
                    &BTreeMap::from([(TENSOR.to_owned(), array)]),
                    &BTreeMap::new(),
                )?;
                files.write(path, |out| out.write_all(&bytes))
            }
            None => {
                bail!("{}: features go to .npy or .safetensors", path.display());
            }
        }
        .with_context(|| unwritten(path))?;
        let (names, labels) = (self.names.as_deref(), self.labels.as_deref());
        write_companions(&mut files, path, names, labels)?;
        let companion = Whitening::file_of(path);
        match whitening.map(Whitening::to_bytes).transpose()? {
            Some(bytes) => files
                .write(&companion, |out| out.write_all(&bytes))
                .with_context(|| unwritten(&companion))?,
            None => files.without(&companion),
        }
        files.keep().with_context(|| unwritten(path))
    }

    /// Reads features and their companions.
    ///
    /// # Errors
    /// A file that cannot be read, is not a matrix, has values that are NaN or infinite, or whose
    /// companions have another number of lines.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |reason: String| Error::Invalid(format!("{}: {reason}", path.display()));
        if path.is_dir() {
            #[cfg(feature = "parquet")]
            return parts::read(path, &RemoteOptions::default());
            #[cfg(not(feature = "parquet"))]
            return Err(without_parquet(path));
        }
        let (shape, data) = match file_format(path) {
            Some(FileFormat::Npy) => {
                let array = read_npy_f32(path)?;
                (array.shape, array.data)
            }
            Some(FileFormat::Safetensors) => {
                let (mut arrays, _) = read_arrays(path)?;
                let array = arrays
                    .remove(TENSOR)
                    .ok_or_else(|| wrong(format!("has no tensor {TENSOR}")))?;
                (array.shape, array.data)
            }
            None => return Err(wrong("features come from .npy or .safetensors".into())),
        };
        let &[rows, dim] = shape.as_slice() else {
            return Err(wrong(format!(
                "features are a matrix [images, width], this is {shape:?}"
            )));
        };
        check_length("features", rows * dim, data.len())?;
        if data.is_empty() {
            return Err(wrong("holds no features".into()));
        }
        let names = read_lines(&names_file(path), rows)?;
        let bad = |row: &[f32]| row.iter().any(|value| !value.is_finite());
        let mut bad = (0..rows).filter(|&row| bad(&data[row * dim..][..dim]));
        if let Some(row) = bad.next() {
            let name = names
                .as_ref()
                .map_or(String::new(), |n| format!(" ({})", n[row]));
            return Err(wrong(format!(
                "{} of {rows} rows have values that are not finite, the first is row {row}{name}; \
                 recompute the features with valid weights",
                1 + bad.count()
            )));
        }
        Ok(Self {
            dim,
            data,
            names,
            labels: read_lines(&labels_file(path), rows)?.and_then(|lines| {
                let label = |line: String| (!line.is_empty()).then_some(line);
                some(lines.into_iter().map(label).collect())
            }),
        })
    }
}

/// Reads all parts of a folder of features, one after the other, and compares them with its manifest and their
/// checksums.
///
/// # Errors
/// A folder without a manifest, or one that could not be read; a build without Parquet.
pub fn verify(env: &Environment<'_>, folder: &Path) -> Result<Verified> {
    #[cfg(feature = "parquet")]
    return parts::verify(env, folder);
    #[cfg(not(feature = "parquet"))]
    {
        let _ = env;
        Err(without_parquet(folder))
    }
}

/// Says that this build does not read a folder of features.
#[cfg(not(feature = "parquet"))]
pub(crate) fn without_parquet(folder: &Path) -> Error {
    let reason = "features in Parquet files take a build with Parquet";
    Error::Invalid(format!("{}: {reason}", folder.display()))
}

/// Says that a file could not be written.
pub(crate) fn unwritten(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

fn of_kept<T>(all: Vec<T>, keep: &[bool]) -> Vec<T> {
    let pairs = all.into_iter().zip(keep);
    pairs
        .filter(|(_, keep)| **keep)
        .map(|(one, _)| one)
        .collect()
}

/// The format of a feature file.
pub(crate) enum FileFormat {
    Npy,
    Safetensors,
}

pub(crate) fn file_format(path: &Path) -> Option<FileFormat> {
    match path.extension()?.to_str()? {
        "npy" => Some(FileFormat::Npy),
        "safetensors" => Some(FileFormat::Safetensors),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::npy::write_npy_f32;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.to_owned()).collect()
    }

    fn set() -> FeatureSet {
        FeatureSet {
            dim: 2,
            data: vec![1.0, -2.0, 0.5, 3.0, 0.0, 1e-9],
            names: Some(words(&["b/1.jpg", "a/2.jpg", "c/ü 3.jpg"])),
            labels: Some(words(&["b", "a", "c"]).into_iter().map(Some).collect()),
        }
    }

    #[test]
    fn rows_without_a_label_are_kept_but_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.npy");
        let mut partly = set();
        partly.labels = Some(vec![Some("b".into()), None, Some("c".into())]);
        partly.write(&path).unwrap();
        let text = fs::read_to_string(folder.path().join("f.labels.txt")).unwrap();
        assert_eq!(text, "b\n\nc\n");
        assert_eq!(FeatureSet::read(&path).unwrap(), partly);
        assert_eq!(partly.classes(), words(&["b", "c"]));
        assert!(partly.label_numbers(&partly.classes()).is_err());
        let (rest, without) = partly.labelled();
        assert_eq!((rest.len(), without), (2, 1));
        assert_eq!(rest.data, [1.0, -2.0, 0.0, 1e-9]);
        assert_eq!(rest.names, Some(words(&["b/1.jpg", "c/ü 3.jpg"])));
        assert_eq!(rest.label_numbers(&rest.classes()).unwrap(), [0, 1]);
        assert_eq!(set().labelled(), (set(), 0));
        // A mark that an editor put in front is no part of the first class.
        fs::write(folder.path().join("f.labels.txt"), "\u{feff}b\na\nc\n").unwrap();
        assert_eq!(FeatureSet::read(&path).unwrap().labels, set().labels);
    }

    #[test]
    fn files_give_back_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["new/f.npy", "new/g.safetensors"] {
            let path = folder.path().join(name);
            set().write(&path).unwrap();
            assert!(FeatureSet::is_file_of(&path));
            assert_eq!(FeatureSet::read(&path).unwrap(), set());
            // The labels of another time do not stay beside features that have none.
            let bare = FeatureSet {
                labels: None,
                ..set()
            };
            bare.write(&path).unwrap();
            assert_eq!(FeatureSet::read(&path).unwrap(), bare);
        }
        assert!(!FeatureSet::is_file_of(folder.path()));
        assert!(set().write(&folder.path().join("f.csv")).is_err());
    }

    #[test]
    fn companions_that_do_not_fit_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.npy");
        set().write(&path).unwrap();
        fs::write(folder.path().join("f.labels.txt"), "a\nb\n").unwrap();
        let told = FeatureSet::read(&path).unwrap_err().to_string();
        assert!(
            told.contains("f.labels.txt") && told.contains("2 lines"),
            "{told}"
        );
        write_npy_f32(&path, &[6], &[0.0; 6]).unwrap();
        assert!(FeatureSet::read(&path).is_err());
        write_npy_f32(&path, &[0, 6], &[]).unwrap();
        assert!(FeatureSet::read(&path).is_err());
    }

    #[test]
    fn rows_that_are_no_numbers_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["f.npy", "g.safetensors"] {
            let path = folder.path().join(name);
            let mut set = set();
            set.data[3] = f32::NAN;
            set.data[4] = f32::INFINITY;
            set.write(&path).unwrap();
            let told = FeatureSet::read(&path).unwrap_err().to_string();
            let parts = [name, "row 1 (a/2.jpg)", "2 of 3 rows"];
            assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        }
    }

    #[test]
    fn headers_that_claim_more_than_there_is_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.npy");
        write_npy_f32(&path, &[111111, 1], &vec![0.5; 111_111]).unwrap();
        let bytes = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes[..128]).into_owned();
        for shape in ["(999999, 9)", "(9 ** 9, 1)", "(4 << 60, 9)"] {
            // As long as what it takes the place of.
            let claim = format!("{shape:11}");
            let at = text.find("(111111, 1").unwrap();
            let mut lie = bytes.clone();
            lie[at..at + claim.len()].copy_from_slice(claim.as_bytes());
            fs::write(&path, lie).unwrap();
            let told = FeatureSet::read(&path).unwrap_err().to_string();
            assert!(told.contains("f.npy"), "{told}");
        }
    }

    #[test]
    fn classes_count_by_name() {
        let set = set();
        assert_eq!(set.classes(), words(&["a", "b", "c"]));
        assert_eq!(set.label_numbers(&set.classes()).unwrap(), [1, 0, 2]);
        // "b" and "c" are not among these classes and are different from each other.
        assert_eq!(set.label_numbers(&words(&["a", "x"])).unwrap(), [2, 0, 3]);
        assert!(
            FeatureSet {
                labels: None,
                ..set
            }
            .label_numbers(&[])
            .is_err()
        );
    }
}
