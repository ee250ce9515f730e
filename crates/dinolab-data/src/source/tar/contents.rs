//! What a shard holds: one walk over its headers.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::super::files::{Cursor, RangeFile};
use super::super::{Kind, is_hidden, kind_of};
use crate::decode::{Pixels, sniff};
use crate::{Error, Result};

/// The member that names the classes, one a line, in the order of the numbers in `.cls` members.
/// Readers of WebDataset pass over members in folders of such a name.
pub const CLASSES: &str = "__meta__/classes.txt";

/// The images and labels of a shard, in its order.
#[derive(Debug, Default, PartialEq)]
#[cfg_attr(feature = "remote", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::source) struct Contents {
    pub(in crate::source) images: Vec<Place>,
    /// Key of an image, and what its `.cls` member says.
    pub(in crate::source) labels: Vec<(PathBuf, String)>,
    /// The lines of [`CLASSES`].
    pub(in crate::source) classes: Option<Vec<String>>,
}

/// Where an image lies.
#[derive(Debug, PartialEq)]
#[cfg_attr(feature = "remote", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::source) struct Place {
    pub(in crate::source) path: PathBuf,
    pub(in crate::source) offset: u64,
    pub(in crate::source) size: u64,
}

/// The part of a member's path that an image shares with its label.
pub(super) fn key(path: &Path) -> PathBuf {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    path.with_file_name(name.split('.').next().unwrap_or_default())
}

impl Contents {
    /// Walks over a tar file, reading `block` bytes at a time where there is something to read.
    /// What counts as an image depends on the `pixels` that are wanted.
    pub(in crate::source) fn of(
        file: &dyn RangeFile,
        block: usize,
        pixels: Pixels,
    ) -> Result<Self> {
        /// Far more than any label needs; keeps a mislabelled file from being read in whole.
        const LONGEST_LABEL: u64 = 4096;
        const LONGEST_CLASSES: u64 = 64 << 20;
        let bad = |reason: String| Error::BadSource {
            path: file.path().to_path_buf(),
            reason,
        };
        let damaged = |error: std::io::Error| bad(format!("damaged or not a tar file: {error}"));
        let mut contents = Self::default();
        let mut archive = ::tar::Archive::new(Cursor::new(file, block));
        for entry in archive.entries_with_seek().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path: PathBuf = entry
                .path()
                .map_err(damaged)?
                .components()
                .filter(|c| *c != Component::CurDir)
                .collect();
            if path.iter().any(is_hidden) {
                continue;
            }
            let (offset, size) = (entry.raw_file_position(), entry.size());
            if offset.saturating_add(size) > file.len() {
                return Err(bad(format!(
                    "truncated: {} goes beyond its end",
                    path.display()
                )));
            }
            let text = |entry: ::tar::Entry<'_, _>, most: u64| {
                let mut text = String::new();
                entry
                    .take(most)
                    .read_to_string(&mut text)
                    .map_err(|e| bad(format!("{}: {e}", path.display())))?;
                Ok::<_, Error>(text)
            };
            let is_image = match kind_of(&path, pixels) {
                Kind::Image => true,
                Kind::Other if path == Path::new(CLASSES) => {
                    let text = text(entry, LONGEST_CLASSES)?;
                    contents.classes = Some(text.lines().map(str::to_owned).collect());
                    false
                }
                Kind::Other => {
                    if path.extension().is_some_and(|e| e == "cls") {
                        let label = text(entry, LONGEST_LABEL)?.trim().to_owned();
                        contents.labels.push((key(&path), label));
                    }
                    false
                }
                Kind::Unknown => {
                    let mut head = Vec::with_capacity(16);
                    entry.take(16).read_to_end(&mut head).map_err(damaged)?;
                    sniff(&head).is_some()
                }
            };
            if is_image {
                contents.images.push(Place { path, offset, size });
            }
        }
        Ok(contents)
    }
}
