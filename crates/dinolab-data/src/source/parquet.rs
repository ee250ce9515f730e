//! Images in the rows of Parquet files.
//!
//! Opening a file reads its footer and its columns of names and labels. An image is a value in a
//! page of many, all of which have to be unpacked to get it: [`cache`] keeps the last ones.
//! Row groups are the shards, so that a shuffle buffer goes through each page once.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ::parquet::basic::Type;
use ::parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};

use self::cache::{Cache, Rows};
use self::columns::Columns;
use self::page::{Chunk, Pages};
use super::files::{LocalFile, OpenFiles, RangeFile};
use super::{Decoding, Labels, SourceOptions, io_error, read_image};
use crate::decode::{Reason, caught};
use crate::{Error, Image, Mask, Result, Source};

mod cache;
mod codec;
mod columns;
mod compact;
mod footer;
mod page;
#[cfg(test)]
mod reads;
mod values;

/// Unpacked pages that are kept, in bytes.
const CACHE: usize = 256 << 20;

/// Why a part of a file cannot be had.
#[derive(Clone, Debug)]
enum Failure {
    /// It is damaged, or of a kind that is not read.
    Bad(Reason),
    /// Reading failed, and may not fail again.
    Read(io::ErrorKind, String),
}

impl<T: Into<String>> From<T> for Failure {
    fn from(reason: T) -> Self {
        Self::Bad(reason.into())
    }
}

impl Failure {
    /// Of a whole file.
    fn of_file(self, path: &Path) -> Error {
        let path = path.to_path_buf();
        match self {
            Self::Bad(reason) => Error::BadSource { path, reason },
            Self::Read(kind, reason) => Error::Io {
                path,
                source: io::Error::new(kind, reason),
            },
        }
    }

    /// Of one image.
    fn of_image(self, path: &Path, name: String) -> Error {
        match self {
            Self::Bad(reason) => Error::BadImage { name, reason },
            read => read.of_file(path),
        }
    }
}

#[derive(Debug)]
pub(super) struct Parquet {
    files: Vec<Box<dyn RangeFile>>,
    groups: Vec<Group>,
    len: usize,
    names: Names,
    labels: Labels,
    decoding: Decoding,
    cache: Cache,
}

/// The images of a row group.
#[derive(Debug)]
struct Group {
    file: usize,
    /// Number of its first row in the source, and in its file.
    first: usize,
    first_in_file: usize,
    images: Chunk,
    pages: OnceLock<std::result::Result<Pages, Failure>>,
}

/// Names of images, empty where there is none.
#[derive(Debug, Default)]
struct Names {
    text: String,
    ends: Vec<usize>,
}

impl Names {
    fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }

    fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }
}

/// What a label column holds in a row.
#[derive(Clone, Debug)]
enum Label {
    None,
    Number(i64),
    Name(Arc<str>),
}

impl Parquet {
    /// `source` is what the user named, for errors.
    pub(super) fn open(source: &Path, files: &[PathBuf], options: &SourceOptions) -> Result<Self> {
        let open = Arc::new(OpenFiles::default());
        let files = files.iter().map(|path| {
            let file = LocalFile::new(path, &open).map_err(|source| io_error(path, source))?;
            Ok(Box::new(file) as Box<dyn RangeFile>)
        });
        Self::new(source, files.collect::<Result<_>>()?, options)
    }

    /// Files that lie anywhere.
    pub(super) fn new(
        source: &Path,
        files: Vec<Box<dyn RangeFile>>,
        options: &SourceOptions,
    ) -> Result<Self> {
        let mut found = Contents::default();
        for (number, file) in files.iter().enumerate() {
            found
                .add(number, &**file, files.len() > 1)
                .map_err(|failure| failure.of_file(file.path()))?;
        }
        if found.rows == 0 {
            return Err(Error::NoImages {
                path: source.to_path_buf(),
                reason: format!("{} Parquet file(s) without a row", files.len()),
            });
        }
        let labels = labels(&found.labels, found.classes).map_err(|(row, reason)| {
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
            None => match Pages::of(file, &group.images) {
                Err(failure @ Failure::Read(..)) => return Err(failure),
                pages => group.pages.get_or_init(|| pages),
            },
        };
        let pages = pages.as_ref().map_err(Clone::clone)?;
        let row = (indices[0] - group.first) as u64;
        let page = pages.data.partition_point(|page| page.rows.end <= row);
        let place = pages.data.get(page).ok_or("damaged: its page is missing")?;
        let first = group.first + place.rows.start as usize;
        let unpack = || rows(&group.images, pages.read(file, &group.images, page)?);
        self.cache.with((number, page), unpack, |rows| {
            let mut run: Vec<Vec<u8>> = Vec::new();
            let (mut bytes, mut last) = (0, None);
            for &index in indices {
                let Some(row) = index.checked_sub(first).filter(|_| last < Some(index)) else {
                    break;
                };
                let Some(value) = rows.values.get(row) else {
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
        })
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

/// What was found in the files that were opened so far.
#[derive(Default)]
struct Contents {
    groups: Vec<Group>,
    rows: usize,
    names: Names,
    taken: HashSet<String>,
    labels: Vec<Label>,
    /// The names of the classes, and the file that has them.
    classes: Option<(PathBuf, Vec<String>)>,
    /// Names of classes that were met in rows.
    met: BTreeSet<Arc<str>>,
}

impl Contents {
    fn add(
        &mut self,
        number: usize,
        file: &dyn RangeFile,
        several: bool,
    ) -> std::result::Result<(), Failure> {
        let metadata = footer::read(file)?;
        let schema = metadata.file_metadata().schema_descr();
        let columns = Columns::of(schema)?;
        let label_name = columns
            .label
            .map(|label| schema.column(label).name().to_owned());
        let notes = metadata.file_metadata().key_value_metadata();
        let description = notes.into_iter().flatten().find(|n| n.key == "huggingface");
        if let (Some(label), Some(text)) =
            (&label_name, description.and_then(|d| d.value.as_deref()))
            && let Some(names) = columns::classes(text, label)
        {
            match &self.classes {
                Some((other, known)) if *known != names => {
                    return Err(format!("its classes are not those of {}", other.display()).into());
                }
                Some(_) => {}
                None => self.classes = Some((file.path().to_path_buf(), names)),
            }
        }
        let first_of_file = self.rows;
        let prefix = match (several, file.path().file_name()) {
            (true, Some(name)) => format!("{}/", name.to_string_lossy()),
            _ => String::new(),
        };
        for group in metadata.row_groups() {
            let rows = u64::try_from(group.num_rows()).unwrap_or(u64::MAX);
            // An image takes more than a byte, and memory is taken by the row.
            let before = (self.rows - first_of_file) as u64;
            if rows > file.len().saturating_sub(before) {
                return Err(format!(
                    "damaged: {rows} rows in a row group of a file of {} bytes",
                    file.len()
                )
                .into());
            }
            if rows == 0 {
                continue;
            }
            let chunk = |column: usize| footer::chunk(file, rows, group.column(column));
            self.names(&prefix, file, columns.path.map(chunk).transpose()?, rows)?;
            self.labels(file, columns.label.map(chunk).transpose()?, rows)?;
            self.groups.push(Group {
                file: number,
                first: self.rows,
                first_in_file: self.rows - first_of_file,
                images: chunk(columns.image)?,
                pages: OnceLock::new(),
            });
            self.rows += rows as usize;
        }
        Ok(())
    }

    fn names(
        &mut self,
        prefix: &str,
        file: &dyn RangeFile,
        paths: Option<Chunk>,
        rows: u64,
    ) -> std::result::Result<(), Failure> {
        let Some(chunk) = paths else {
            (0..rows).for_each(|_| self.names.push(""));
            return Ok(());
        };
        let pages = Pages::of(file, &chunk)?;
        let mut left = rows;
        for number in 0..pages.data.len() {
            let page = pages.read(file, &chunk, number)?;
            values::each::<ByteArrayType>(&chunk.column, page, |path| {
                left = left
                    .checked_sub(1)
                    .ok_or("damaged: names of too many rows")?;
                let name = path.and_then(|path| name(path.data())).unwrap_or_default();
                let name = format!("{prefix}{name}");
                // A name that was met before says nothing; neither do names longer than files.
                let fits = name.len() > prefix.len()
                    && self.names.text.len() as u64 <= file.len().saturating_add(1 << 20);
                if fits && !self.taken.contains(&name) {
                    self.names.push(&name);
                    self.taken.insert(name);
                } else {
                    self.names.push("");
                }
                Ok(())
            })?;
        }
        match left {
            0 => Ok(()),
            _ => Err("damaged: names of too few rows".into()),
        }
    }

    fn labels(
        &mut self,
        file: &dyn RangeFile,
        labels: Option<Chunk>,
        rows: u64,
    ) -> std::result::Result<(), Failure> {
        let Some(chunk) = labels else {
            self.labels.extend((0..rows).map(|_| Label::None));
            return Ok(());
        };
        let wanted = self.labels.len() + rows as usize;
        let pages = Pages::of(file, &chunk)?;
        let column = &chunk.column;
        for number in 0..pages.data.len() {
            let page = pages.read(file, &chunk, number)?;
            let (labels, met) = (&mut self.labels, &mut self.met);
            let mut push = |label: Label| match labels.len() < wanted {
                true => {
                    labels.push(label);
                    Ok(())
                }
                false => Err("damaged: labels of too many rows".to_owned()),
            };
            let number = |n: Option<i64>| n.map_or(Label::None, Label::Number);
            match column.physical_type() {
                Type::INT32 => values::each::<Int32Type>(column, page, |value| {
                    push(number(value.map(i64::from)))
                })?,
                Type::INT64 => {
                    values::each::<Int64Type>(column, page, |value| push(number(value)))?;
                }
                _ => values::each::<ByteArrayType>(column, page, |value| {
                    let Some(value) = value else {
                        return push(Label::None);
                    };
                    /// Far more than any class's name needs.
                    const LONGEST: usize = 4096;
                    let name = std::str::from_utf8(value.data())
                        .ok()
                        .filter(|name| name.len() <= LONGEST)
                        .ok_or("a label that is no text")?;
                    let name = met.get(name).cloned().unwrap_or_else(|| name.into());
                    met.insert(Arc::clone(&name));
                    push(Label::Name(name))
                })?,
            }
        }
        match self.labels.len() == wanted {
            true => Ok(()),
            false => Err("damaged: labels of too few rows".into()),
        }
    }
}

/// The name that a path gives: without roots, drives and ways up.
fn name(path: &[u8]) -> Option<String> {
    const LONGEST: usize = 4096;
    let path = std::str::from_utf8(path).ok()?;
    if path.len() > LONGEST || path.contains(char::is_control) {
        return None;
    }
    let parts: Vec<&str> = path
        .split(['/', '\\'])
        .filter(|part| !matches!(*part, "" | "." | ".."))
        .collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Labels of all rows. An error comes with the row.
fn labels(
    labels: &[Label],
    classes: Option<(PathBuf, Vec<String>)>,
) -> std::result::Result<Labels, (usize, String)> {
    const MOST: usize = 1_000_000;
    // Hugging Face marks images without a label by -1.
    let none = |label: &Label| matches!(label, Label::None | Label::Number(-1));
    if labels.iter().all(none) {
        return Ok(Labels::default());
    }
    let named = labels.iter().any(|label| matches!(label, Label::Name(_)));
    let mut classes = classes.map(|(_, names)| names);
    if named {
        let names: BTreeSet<&str> = labels
            .iter()
            .filter_map(|label| match label {
                Label::Name(name) => Some(&**name),
                _ => None,
            })
            .collect();
        classes = Some(names.into_iter().map(str::to_owned).collect());
    }
    let most = classes.as_ref().map_or(MOST, Vec::len);
    let mut of = Vec::with_capacity(labels.len());
    for (row, label) in labels.iter().enumerate() {
        let number = match label {
            Label::Name(name) => classes
                .iter()
                .find_map(|names| names.binary_search_by(|n| (**n).cmp(name)).ok()),
            Label::Number(number) if !named => usize::try_from(*number).ok(),
            _ => None,
        };
        match number.filter(|&number| number < most) {
            Some(number) => of.push(number as u32),
            None if none(label) => {
                return Err((row, "it has no label, others have one".into()));
            }
            None => {
                return Err((
                    row,
                    format!("its label is none of {most} classes: {label:?}"),
                ));
            }
        }
    }
    let classes = classes.unwrap_or_else(|| {
        let count = of.iter().max().map_or(0, |&most| most + 1);
        (0..count).map(|n| n.to_string()).collect()
    });
    Ok(Labels { classes, of })
}

impl Source for Parquet {
    fn len(&self) -> usize {
        self.len
    }

    fn name(&self, index: usize) -> String {
        match self.names.get(index) {
            "" => {
                let group = &self.groups[self.group(index)];
                let file = self.path(index).file_name().unwrap_or_default();
                let row = group.first_in_file + index - group.first;
                format!("{}/{row}", file.to_string_lossy())
            }
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
        let mut run = self.encoded_run(&[index], 0)?;
        Ok(run.pop())
    }

    fn encoded_run(&self, indices: &[usize], most: u64) -> Result<Vec<Vec<u8>>> {
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

    fn mask(&self, _index: usize) -> Result<Option<Mask>> {
        Ok(None)
    }
}
