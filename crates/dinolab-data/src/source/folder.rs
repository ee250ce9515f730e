//! A folder of images, flat or nested.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::{
    Decoding, Found, Kind, Labels, SourceOptions, extension, io_error, is_hidden, kind_of,
    read_file, read_image, slashed,
};
use crate::decode::{Pixels, sniff};
use crate::{Error, Image, Result, Source};

#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    images: Vec<PathBuf>,
    labels: Labels,
    decoding: Decoding,
}

/// Looks through a folder. Hidden files and folders are skipped, links are followed.
pub(super) fn scan(root: &Path, pixels: Pixels) -> Result<Found> {
    let mut found = Found::default();
    let walk = WalkDir::new(root)
        .follow_links(true)
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.file_name()));
    for entry in walk {
        let entry = match entry {
            Ok(entry) => entry,
            // A link back to a folder above: everything there is found anyway.
            Err(error) if error.loop_ancestor().is_some() => continue,
            Err(error) => {
                let path = error.path().unwrap_or(root).to_path_buf();
                return Err(io_error(&path, error.into()));
            }
        };
        if !entry.file_type().is_file() {
            continue;
        }
        let path = entry.path();
        let is_image = match kind_of(path, pixels) {
            Kind::Image => true,
            Kind::Other => false,
            Kind::Unknown => begins_like_image(path)?,
        };
        if is_image {
            found
                .images
                .push(path.strip_prefix(root).unwrap_or(path).to_path_buf());
        } else if entry.depth() == 1 && extension(path) == "tar" {
            found.tars.push(path.to_path_buf());
        } else if entry.depth() == 1 && extension(path) == "parquet" {
            found.parquets.push(path.to_path_buf());
        } else {
            found.others += 1;
            found.arrays += usize::from(extension(path) == "npy");
        }
    }
    found.images.sort();
    found.tars.sort();
    found.parquets.sort();
    Ok(found)
}

fn begins_like_image(path: &Path) -> Result<bool> {
    let mut head = Vec::with_capacity(16);
    let file = File::open(path).map_err(|source| io_error(path, source))?;
    file.take(16)
        .read_to_end(&mut head)
        .map_err(|source| io_error(path, source))?;
    Ok(sniff(&head).is_some())
}

impl Folder {
    pub(super) fn new(root: &Path, found: Found, options: &SourceOptions) -> Result<Self> {
        if found.images.is_empty() {
            let reason = match found.others {
                0 => "the folder holds no files".to_owned(),
                n if found.arrays > 0 => format!(
                    "the folder holds {n} files, none of them an image; {} are .npy arrays, which \
                     are images where their channels are given (--in-chans)",
                    found.arrays
                ),
                n => format!("the folder holds {n} files, none of them an image"),
            };
            return Err(Error::NoImages {
                path: root.to_path_buf(),
                reason,
            });
        }
        let labels = Labels::from_folders(found.images.iter().map(PathBuf::as_path));
        Ok(Self {
            root: root.to_path_buf(),
            images: found.images,
            labels,
            decoding: options.decoding(),
        })
    }
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn name(&self, index: usize) -> String {
        slashed(&self.images[index])
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.labels.label(index)
    }

    fn classes(&self) -> &[String] {
        &self.labels.classes
    }

    fn image(&self, index: usize) -> Result<Image> {
        read_image(self, index)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        read_file(&self.root.join(&self.images[index])).map(Some)
    }

    fn decoding(&self) -> Option<Decoding> {
        Some(self.decoding)
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        Some(self.root.join(&self.images[index]))
    }
}
