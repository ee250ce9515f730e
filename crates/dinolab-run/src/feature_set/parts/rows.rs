//! The features of a folder by row, in any order: read from the files when they are needed.
//!
//! Every part is read once to find where its values lie. They lie plainly, as numbers of equal width, so that a row is
//! read by one request to the system; the system's cache keeps what it has memory for.

use std::fs::File;
#[cfg(feature = "remote")]
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dinolab_data::file::read_at;
use dinolab_data::slice::check_length;
use dinolab_eval::feature_rows::FeatureRows;
use dinolab_files::PartFile;
use dinolab_kernels::{append_f16, append_f32};
use parquet::column::page::Page;
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{ChunkReader, Length};

use super::Stored;
use super::file::open;
use super::folder::PartReader;
use super::pages::for_pages;
use crate::error::{Context, Result};

/// Files that stay open; those of further parts are opened for each read.
const OPEN: usize = 128;

/// Some rows of a folder, in its order.
pub(crate) struct StoredRows {
    dim: usize,
    parts: Vec<PartRows>,
    /// Part and row in it, of each row.
    places: Vec<(u32, u32)>,
}

/// Where the values of a part lie.
struct PartRows {
    path: PathBuf,
    open: Option<File>,
    /// What removes the file, if it is a copy of a part in a store.
    _copy: Option<PartFile>,
    /// Of each page, the number of its first value in the part, and the file's byte where that lies.
    pages: Vec<(u64, u64)>,
    /// Values of the part.
    values: u64,
    /// Bytes of a value.
    width: usize,
}

impl Stored {
    /// The rows of the folder for which `keep(part, row)` holds. Parts of a store are copied to the folder for
    /// temporary files for as long as the rows live.
    ///
    /// # Errors
    /// A part that is missing, damaged or of another folder; features that are not finite or differ in width; no
    /// row that is kept.
    pub fn rows(&self, keep: impl Fn(usize, usize) -> bool) -> Result<StoredRows> {
        let mut all = StoredRows {
            dim: 0,
            parts: Vec::with_capacity(self.parts()),
            places: Vec::new(),
        };
        for part in 0..self.parts() {
            let read = self.part_rows(part, &keep, &mut all);
            let read = read.with_context(|| self.folder.path_of(part).display().to_string())?;
            all.parts.push(read);
        }
        ensure!(!all.places.is_empty(), "{}: holds no features", self.folder);
        Ok(all)
    }

    /// One part; adds its rows to `all`.
    fn part_rows(
        &self,
        part: usize,
        keep: impl Fn(usize, usize) -> bool,
        all: &mut StoredRows,
    ) -> Result<PartRows> {
        let (file, path, copy) = match self.folder.part(part)?.context("is missing")? {
            PartReader::File(file) => (file, self.folder.path_of(part), None),
            #[cfg(feature = "remote")]
            other => local_copy(&other.whole()?)?,
        };
        let last = Arc::new(Mutex::new(0..0));
        let located = Located {
            file: PartReader::File(file.try_clone()?),
            last: Arc::clone(&last),
        };
        let reader = open(located, &self.identity, part)?;
        let mut found = PartRows {
            path,
            open: (part < OPEN).then_some(file),
            _copy: copy,
            pages: Vec::new(),
            values: 0,
            width: 0,
        };
        let mut seen = 0;
        let StoredRows { dim, places, .. } = all;
        for_pages(
            &reader,
            |rows, width| {
                ensure!(
                    *dim == 0 || *dim == width,
                    "has features of width {width}, others of {dim}"
                );
                *dim = width;
                for row in rows.chunks_exact(width) {
                    if keep(part, seen) {
                        let finite = row.iter().all(|value| value.is_finite());
                        ensure!(finite, "row {seen} has values that are not finite");
                        places.push((part as u32, seen as u32));
                    }
                    seen += 1;
                }
                Ok(())
            },
            |page, width| {
                found.add(
                    page,
                    &last.lock().unwrap_or_else(PoisonError::into_inner),
                    width,
                )
            },
        )?;
        Ok(found)
    }
}

/// A part of a store, in a file of this machine.
#[cfg(feature = "remote")]
fn local_copy(part: &PartReader) -> Result<(File, PathBuf, Option<PartFile>)> {
    let place = std::env::temp_dir().join("dinolab-features");
    let (copy, mut file) = PartFile::create(&place)?;
    let bytes = part.get_bytes(0, Length::len(part) as usize);
    let bytes = bytes.map_err(|error| super::folder::refused(&error))?;
    file.write_all(&bytes)
        .with_context(|| format!("cannot write {}", copy.temporary().display()))?;
    let path = copy.temporary().to_owned();
    Ok((File::open(&path)?, path, Some(copy)))
}

impl PartRows {
    /// Adds a page that lies at `bytes` of the file; its last bytes are its values.
    fn add(&mut self, page: &Page, bytes: &Range<u64>, width: usize) -> Result<()> {
        let values = u64::from(page.num_values());
        let length = values * width as u64;
        // A page that is packed is longer once it is read.
        ensure!(
            page.buffer().len() as u64 == bytes.end - bytes.start
                && length <= bytes.end - bytes.start,
            "is not as dinolab writes it"
        );
        self.pages.push((self.values, bytes.end - length));
        self.values += values;
        self.width = width;
        Ok(())
    }

    /// Reads values from number `first` on.
    fn read(&self, mut first: u64, mut out: &mut [f32]) -> std::io::Result<()> {
        let opened;
        let file = match &self.open {
            Some(file) => file,
            None => {
                opened = File::open(&self.path)?;
                &opened
            }
        };
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        while !out.is_empty() {
            let page = self.pages.partition_point(|(start, _)| *start <= first) - 1;
            let (start, place) = self.pages[page];
            let next = self.pages.get(page + 1).map_or(self.values, |next| next.0);
            let count = out.len().min((next - first) as usize);
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            bytes.resize(count * self.width, 0);
            read_at(
                file,
                place + (first - start) * self.width as u64,
                &mut bytes,
            )?;
            values.clear();
            match self.width {
                2 => append_f16(&bytes, &mut values),
                _ => append_f32(&bytes, &mut values),
            }
            let (here, rest) = out.split_at_mut(count);
            here.copy_from_slice(&values);
            (out, first) = (rest, first + count as u64);
        }
        Ok(())
    }
}

impl FeatureRows for StoredRows {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn read(&self, first: usize, out: &mut [f32]) -> dinolab_eval::Result<()> {
        let rows = out.len() / self.dim;
        let left = self.places.get(first..).unwrap_or_default();
        check_length("features", rows * self.dim, out.len())?;
        check_length("rows", rows, left.len().min(rows))?;
        let mut out = out;
        // Rows that follow each other in a part are read at once.
        let follow = |a: &(u32, u32), b: &(u32, u32)| a.0 == b.0 && a.1 + 1 == b.1;
        for run in left[..rows].chunk_by(follow) {
            let (here, rest) = out.split_at_mut(run.len() * self.dim);
            let (part, row) = run[0];
            let part = &self.parts[part as usize];
            let read = part.read(u64::from(row) * self.dim as u64, here);
            read.map_err(|source| dinolab_eval::Error::Io {
                path: part.path.clone(),
                source,
            })?;
            out = rest;
        }
        Ok(())
    }
}

/// A file that knows which of its bytes were read last.
struct Located {
    file: PartReader,
    last: Arc<Mutex<Range<u64>>>,
}

impl Length for Located {
    fn len(&self) -> u64 {
        Length::len(&self.file)
    }
}

impl ChunkReader for Located {
    type T = <PartReader as ChunkReader>::T;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = start..start + length as u64;
        drop(last);
        self.file.get_bytes(start, length)
    }
}

#[cfg(test)]
mod tests {
    use dinolab_data::source::RemoteOptions;

    use super::*;
    use crate::feature_set::parts::stored::made;
    use crate::feature_set::parts::{FeatureType, read};

    #[test]
    fn any_row_is_that_of_all_in_memory() {
        let root = tempfile::tempdir().unwrap();
        // Pages of a megabyte end within these rows.
        let sizes = [(3, 40, 6), (2, 70, 30_011)];
        for (number, (parts, size, dim)) in sizes.into_iter().enumerate() {
            for kind in [FeatureType::F32, FeatureType::F16] {
                let path = root.path().join(format!("{number}-{kind:?}"));
                made(&path, (parts, size, dim), kind);
                let whole = read(&path, &RemoteOptions::default()).unwrap();
                let stored = Stored::open(&path, &RemoteOptions::default()).unwrap();
                let rows = stored.rows(|_, _| true).unwrap();
                assert_eq!((rows.len(), rows.dim()), (parts * size, dim));
                let mut all = vec![0.0; whole.data.len()];
                rows.read(0, &mut all).unwrap();
                assert_eq!(all, whole.data);
                let asked: Vec<usize> = (0..50).map(|i| i * 37 % rows.len()).collect();
                let mut some = vec![0.0; asked.len() * dim];
                rows.gather(&asked, &mut some).unwrap();
                for (row, found) in asked.iter().zip(some.chunks(dim)) {
                    assert_eq!(found, &whole.data[row * dim..][..dim]);
                }
                assert!(rows.read(rows.len() - 1, &mut all[..2 * dim]).is_err());
                assert!(rows.gather(&[rows.len()], &mut all[..dim]).is_err());

                // Every third, across parts.
                let some = stored.rows(|part, row| (part + row) % 3 == 0).unwrap();
                let mut found = vec![0.0; some.len() * dim];
                some.read(0, &mut found).unwrap();
                let kept = (0..parts * size).filter(|i| (i / size + i % size) % 3 == 0);
                let kept: Vec<f32> = kept
                    .flat_map(|row| whole.data[row * dim..][..dim].to_vec())
                    .collect();
                assert_eq!(found, kept);
                assert!(stored.rows(|_, _| false).is_err());
            }
        }
    }

    #[test]
    fn a_part_that_is_gone_or_cut_is_an_error_with_its_name() {
        let root = tempfile::tempdir().unwrap();
        made(root.path(), (2, 50, 8), FeatureType::F32);
        let stored = Stored::open(root.path(), &RemoteOptions::default()).unwrap();
        let rows = stored.rows(|_, _| true).unwrap();
        let path = stored.folder.path_of(1);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..200]).unwrap();
        let error = rows.read(99, &mut [0.0; 8]).unwrap_err().to_string();
        assert!(error.contains("part-000001"), "{error}");
        let error = stored.rows(|_, _| true).err().unwrap().to_string();
        assert!(
            error.contains("part-000001") && error.contains("damaged"),
            "{error}"
        );
    }
}
