//! Images in the rows of Parquet files.
//!
//! Opening a file reads its footer and its columns of names and labels. An image is a value in a
//! page of many, all of which have to be unpacked to get it: [`cache`] keeps the last ones.
//! Row groups are the shards, so that a shuffle buffer goes through each page once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::data_type::{ByteArray, ByteArrayType};

use self::cache::{Cache, Rows};
use self::contents::{Contents, Group, Names};
use self::failure::Failure;
use self::page::{Chunk, Pages};
use super::files::{LocalFile, OpenFiles, ReadRange};
use crate::source::dataset::read_image;
use crate::source::files::io_error;
use crate::source::labels::Labels;
use crate::source::options::{Decoding, SourceOptions};
use crate::{Error, Image, Result, Source};

mod cache;
mod codec;
mod columns;
mod compact;
mod contents;
mod failure;
mod footer;
#[cfg(test)]
mod io_tests;
mod page;
mod shape;
mod values;

/// Unpacked pages that are kept, in bytes.
const CACHE: usize = 256 << 20;

#[derive(Debug)]
pub(super) struct Parquet {
    files: Vec<Box<dyn ReadRange>>,
    groups: Vec<Group>,
    len: usize,
    names: Names,
    labels: Labels,
    decoding: Decoding,
    cache: Cache,
}

impl Parquet {
    /// `source` is what the user named, for errors.
    pub(super) fn open(source: &Path, files: &[PathBuf], options: &SourceOptions) -> Result<Self> {
        let open = Arc::new(OpenFiles::default());
        let files = files.iter().map(|path| {
            let file = LocalFile::new(path, &open).map_err(|source| io_error(path, source))?;
            Ok(Box::new(file) as Box<dyn ReadRange>)
        });
        Self::new(source, files.collect::<Result<_>>()?, options)
    }

    /// Files at any location.
    pub(super) fn new(
        source: &Path,
        files: Vec<Box<dyn ReadRange>>,
        options: &SourceOptions,
    ) -> Result<Self> {
        let mut found = Contents::default();
        for (number, file) in files.iter().enumerate() {
            found
                .add(number, &**file)
                .map_err(|failure| failure.of_file(file.path()))?;
        }
        if found.rows == 0 {
            return Err(Error::NoImages {
                path: source.to_path_buf(),
                reason: format!("{} Parquet file(s) without a row", files.len()),
            });
        }
        let labels = found.labels().map_err(|(row, reason)| {
            let group = found.groups.partition_point(|group| group.first <= row) - 1;
            let group = &found.groups[group];
            let row = group.first_in_file + row - group.first;
            Error::BadSource {
                path: files[group.file].path().to_path_buf(),
                reason: format!("row {row}: {reason}"),
            }
        })?;
        Ok(Self {
            files,
            groups: found.groups,
            len: found.rows,
            names: found.names,
            labels,
            decoding: options.decoding(),
            cache: Cache::new(CACHE),
        })
    }

    fn group(&self, index: usize) -> usize {
        assert!(index < self.len, "image {index} of {}", self.len);
        self.groups.partition_point(|group| group.first <= index) - 1
    }

    fn path(&self, index: usize) -> &Path {
        self.files[self.groups[self.group(index)].file].path()
    }

    /// The values of the first of some rows that lie on one page, one behind the other, and take
    /// no more than `most` bytes together; at least one.
    fn run(&self, indices: &[usize], most: u64) -> std::result::Result<Vec<Vec<u8>>, Failure> {
        let number = self.group(indices[0]);
        let group = &self.groups[number];
        let file = &*self.files[group.file];
        let pages = match group.pages.get() {
            Some(pages) => pages,
            None => {
                let pages = match Pages::of(file, &group.images) {
                    Ok(pages) => Ok(pages),
                    Err(Failure::Bad(reason)) => Err(reason),
                    Err(failure) => return Err(failure),
                };
                group.pages.get_or_init(|| pages)
            }
        };
        let pages = pages.as_ref().map_err(Clone::clone)?;
        let row = (indices[0] - group.first) as u64;
        let page = pages.data.partition_point(|page| page.rows.end <= row);
        let place = pages.data.get(page).ok_or("damaged: its page is missing")?;
        let first = group.first + place.rows.start as usize;
        let unpack = || rows(&group.images, pages.read(file, &group.images, page)?);
        let rows = self.cache.rows((number, page), unpack)?;
        let mut run: Vec<Vec<u8>> = Vec::new();
        let (mut bytes, mut last) = (0, None);
        for &index in indices {
            let row = index.checked_sub(first).filter(|_| last < Some(index));
            let Some(value) = row.and_then(|row| rows.values.get(row)) else {
                break;
            };
            let value = value.as_ref().map_or(&[][..], ByteArray::data);
            bytes += value.len() as u64;
            if bytes > most && !run.is_empty() {
                break;
            }
            run.push(value.to_vec());
            last = Some(index);
        }
        match run.is_empty() {
            true => Err("damaged: its row is missing".into()),
            false => Ok(run),
        }
    }
}

/// The values of a page of images.
fn rows(
    images: &Chunk,
    pages: Vec<::parquet::column::page::Page>,
) -> std::result::Result<Rows, Failure> {
    let bytes: usize = pages.iter().map(|page| page.buffer().len()).sum();
    let mut values = Vec::new();
    values::each::<ByteArrayType>(&images.column, pages, |value| {
        values.push(value);
        Ok(())
    })?;
    Ok(Rows {
        bytes: bytes + values.len() * size_of::<Option<ByteArray>>(),
        values,
    })
}

impl Source for Parquet {
    fn len(&self) -> usize {
        self.len
    }

    fn name(&self, index: usize) -> String {
        let file = self.path(index).file_name().unwrap_or_default();
        match self.names.get(index) {
            "" => {
                let group = &self.groups[self.group(index)];
                let row = group.first_in_file + index - group.first;
                format!("{}/{row}", file.to_string_lossy())
            }
            name if self.files.len() > 1 => format!("{}/{name}", file.to_string_lossy()),
            name => name.to_owned(),
        }
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
        let mut run = self.read_contiguous(&[index], 0)?;
        Ok(run.pop())
    }

    fn read_contiguous(&self, indices: &[usize], most: u64) -> Result<Vec<Vec<u8>>> {
        let Some(&first) = indices.first() else {
            return Ok(Vec::new());
        };
        self.run(indices, most)
            .map_err(|failure| failure.of_image(self.path(first), self.name(first)))
    }

    fn decode(&self, index: usize, bytes: &[u8]) -> Result<Image> {
        if bytes.is_empty() {
            return Err(Error::BadImage {
                name: self.name(index),
                reason: "its row holds no image: a null, or only the path of a file".into(),
            });
        }
        self.decoding.decode(&self.name(index), bytes)
    }

    fn shard(&self, index: usize) -> Option<usize> {
        Some(self.group(index))
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        Some(self.path(index).to_path_buf())
    }
}
