//! The layout of a DAVIS tree: `JPEGImages/480p/SEQUENCE/00000.jpg`,
//! `Annotations/480p/SEQUENCE/00000.png`, `ImageSets/YEAR/SPLIT.txt`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Error, Result};

/// An edition of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Year {
    /// One object per sequence: every label except 0.
    #[serde(rename = "2016")]
    Single,
    /// Several objects per sequence, numbered from 1 by palette index.
    #[serde(rename = "2017")]
    Multiple,
}

impl FromStr for Year {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "2016" => Ok(Self::Single),
            "2017" => Ok(Self::Multiple),
            _ => Err("one of 2016 (one object), 2017 (several)".into()),
        }
    }
}

impl Year {
    /// Returns the folders below `ImageSets` that may hold this edition's lists, in order of
    /// preference. The archive of 2016 names its folder by the resolution.
    fn lists(self) -> &'static [&'static str] {
        match self {
            Self::Single => &["2016", "480p"],
            Self::Multiple => &["2017"],
        }
    }

    /// Converts labels of a mask file to object numbers; 0 is background. In 2016 all other labels
    /// are object 1; in 2017 the void label 255 is background, as in the benchmark.
    pub(crate) fn objects(self, labels: &mut [u8]) {
        for label in labels {
            *label = match (self, *label) {
                (Self::Single, 0) => 0,
                (Self::Single, _) => 1,
                (Self::Multiple, 255) => 0,
                (Self::Multiple, object) => object,
            };
        }
    }
}

/// One video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Name of the sequence and of its folders.
    pub name: String,
    /// Names of the frames without extension, in order.
    pub frames: Vec<String>,
    /// Images of the frames; may be empty if results are only scored.
    pub images: Vec<PathBuf>,
    /// Annotations of the first frame or of all frames.
    pub annotations: Vec<PathBuf>,
}

impl Sequence {
    /// Returns whether every frame is annotated, which scoring requires.
    pub fn is_annotated(&self) -> bool {
        self.annotations.len() == self.frames.len()
    }
}

/// The sequences of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The edition.
    pub year: Year,
    /// The sequences, in the order of the list.
    pub sequences: Vec<Sequence>,
}

impl Tree {
    /// Reads the list of `split` and finds its frames. Without a `year`, 2017 is preferred if the
    /// tree has both.
    ///
    /// # Errors
    /// [`Error::Format`] for a folder or list that is missing or inconsistent.
    pub fn open(root: &Path, year: Option<Year>, split: &str, resolution: &str) -> Result<Self> {
        let years = match &year {
            Some(year) => std::slice::from_ref(year),
            None => &[Year::Multiple, Year::Single],
        };
        let sets = root.join("ImageSets");
        let found = years
            .iter()
            .flat_map(|year| year.lists().iter().map(move |folder| (*year, folder)))
            .map(|(year, folder)| (year, sets.join(folder).join(format!("{split}.txt"))))
            .find(|(_, list)| list.is_file());
        let Some((year, list)) = found else {
            let tried: Vec<String> = years
                .iter()
                .flat_map(|year| year.lists())
                .map(|folder| format!("ImageSets/{folder}/{split}.txt"))
                .collect();
            return Err(format_error(
                root,
                format!(
                    "is not a DAVIS tree with this split: found no {}",
                    tried.join(" and no ")
                ),
            ));
        };
        let text = fs::read_to_string(&list).map_err(|source| Error::Io {
            path: list.clone(),
            source,
        })?;
        let mut names: Vec<&str> = Vec::new();
        // Some editors put a byte order mark in front.
        for line in text.trim_start_matches('\u{feff}').lines() {
            if let Some(name) = sequence_of(line)
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        if names.is_empty() {
            return Err(format_error(&list, "lists no sequence"));
        }
        // A sequence is a folder of the tree, and of the results.
        let outside = |name: &&&str| matches!(**name, "." | "..") || name.contains(['\\', ':']);
        if let Some(name) = names.iter().find(outside) {
            return Err(format_error(
                &list,
                format!("{name} is not the name of a sequence"),
            ));
        }
        let sequences = names
            .into_iter()
            .map(|name| sequence(root, resolution, name))
            .collect::<Result<_>>()?;
        Ok(Self { year, sequences })
    }
}

/// Returns the sequence of a line: its name, or the folder of the listed frame.
fn sequence_of(line: &str) -> Option<&str> {
    let first = line.split_whitespace().next()?;
    match first.rsplit_once('/') {
        None => Some(first),
        Some((folder, _)) => folder.rsplit('/').next(),
    }
}

fn sequence(root: &Path, resolution: &str, name: &str) -> Result<Sequence> {
    let folder = |kind: &str| root.join(kind).join(resolution).join(name);
    let images = files(&folder("JPEGImages"), &["jpg", "jpeg", "png"])?;
    let annotations = files(&folder("Annotations"), &["png"])?;
    if annotations.is_empty() {
        return Err(format_error(&folder("Annotations"), "has no masks (.png)"));
    }
    let frames: Vec<String> = match images.is_empty() {
        true => annotations.iter().map(|path| stem(path)).collect(),
        false => images.iter().map(|path| stem(path)).collect(),
    };
    // Their masks would overwrite each other.
    let mut known = BTreeSet::new();
    if let Some(frame) = frames
        .iter()
        .find(|name| !known.insert(name.to_lowercase()))
    {
        let reason = format!("has the frame {frame} twice");
        return Err(format_error(&folder("JPEGImages"), reason));
    }
    // Annotations are those of the first frames, or of all.
    let fits = annotations.len() == frames.len() || annotations.len() == 1;
    if let Some((path, frame)) = annotations
        .iter()
        .zip(&frames)
        .find(|(path, frame)| stem(path) != **frame)
    {
        return Err(format_error(
            path,
            format!("belongs to no frame; frame {frame} comes next"),
        ));
    }
    if !fits {
        return Err(format_error(
            &folder("Annotations"),
            format!(
                "has {} masks for {} frames; there must be one, of the first frame, or all",
                annotations.len(),
                frames.len()
            ),
        ));
    }
    Ok(Sequence {
        name: name.to_owned(),
        frames,
        images,
        annotations,
    })
}

/// Returns the files of a folder with one of the extensions, by name; none if there is no folder.
fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let error = |source| Error::Io {
        path: folder.to_path_buf(),
        source,
    };
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        let hidden = stem(&path).starts_with('.');
        if !hidden && extensions.iter().any(|e| extension.eq_ignore_ascii_case(e)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn format_error(path: &Path, reason: impl Into<String>) -> Error {
    Error::Format {
        path: path.to_path_buf(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn trees_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for frame in ["00000", "00001", "00002"] {
            touch(&root.join(format!("JPEGImages/480p/swan/{frame}.jpg")));
            touch(&root.join(format!("Annotations/480p/swan/{frame}.png")));
        }
        touch(&root.join("Annotations/480p/swan/.hidden.png"));
        let list = root.join("ImageSets/480p/val.txt");
        touch(&list);
        let open = |year| Tree::open(root, year, "val", "480p");
        assert!(open(None).unwrap_err().to_string().contains("no sequence"));
        let lines: String = (0..3)
            .map(|i| {
                format!("/JPEGImages/480p/swan/0000{i}.jpg /Annotations/480p/swan/0000{i}.png\n")
            })
            .collect();
        fs::write(&list, lines).unwrap();
        let tree = open(None).unwrap();
        assert_eq!(tree.year, Year::Single);
        assert_eq!(tree.sequences.len(), 1);
        assert_eq!(tree.sequences[0].frames, ["00000", "00001", "00002"]);
        assert!(tree.sequences[0].is_annotated());
        let error = open(Some(Year::Multiple)).unwrap_err().to_string();
        assert!(error.contains("ImageSets/2017/val.txt"), "{error}");

        touch(&root.join("ImageSets/2017/val.txt"));
        fs::write(root.join("ImageSets/2017/val.txt"), "swan\n\n").unwrap();
        assert_eq!(open(None).unwrap().year, Year::Multiple);

        // What would be written elsewhere, or twice.
        fs::write(root.join("ImageSets/2017/val.txt"), "swan\n..\n").unwrap();
        let error = open(None).unwrap_err().to_string();
        assert!(error.contains(".. is not the name"), "{error}");
        fs::write(root.join("ImageSets/2017/val.txt"), "swan\n").unwrap();
        let twice = root.join("JPEGImages/480p/swan/00001.png");
        touch(&twice);
        let error = open(None).unwrap_err().to_string();
        assert!(error.contains("00001 twice"), "{error}");
        fs::remove_file(twice).unwrap();

        // The first frame alone is annotated: masks can be made, not scored.
        fs::remove_file(root.join("Annotations/480p/swan/00002.png")).unwrap();
        assert!(
            open(None)
                .unwrap_err()
                .to_string()
                .contains("2 masks for 3 frames")
        );
        fs::remove_file(root.join("Annotations/480p/swan/00001.png")).unwrap();
        assert!(!open(None).unwrap().sequences[0].is_annotated());
        touch(&root.join("Annotations/480p/swan/00005.png"));
        assert!(open(None).is_err());
    }

    #[test]
    fn labels_by_year() {
        let mut labels = [0, 1, 2, 255];
        Year::Multiple.objects(&mut labels);
        assert_eq!(labels, [0, 1, 2, 0]);
        let mut labels = [0, 1, 2, 255];
        Year::Single.objects(&mut labels);
        assert_eq!(labels, [0, 1, 1, 1]);
    }
}
