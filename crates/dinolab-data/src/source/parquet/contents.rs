//! The contents of a file: its row groups, and the names and labels of their images.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::result::Result;
use std::sync::{Arc, OnceLock};

use parquet::basic::Type;
use parquet::data_type::{ByteArrayType, Int32Type, Int64Type};
use parquet::file::metadata::ParquetMetaData;

use super::super::files::ReadRange;
use super::columns::{self, Columns};
use super::page::{Chunk, Pages};
use super::{footer, values};
use crate::decode::Reason;
use crate::source::labels::Labels;
use crate::source::parquet::failure::Failure;

/// The images of a row group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) file: usize,
    /// Number of its first row in the source.
    pub(super) first: usize,
    /// The same in its file.
    pub(super) first_in_file: usize,
    pub(super) images: Chunk,
    pub(super) pages: OnceLock<Result<Pages, Reason>>,
}

/// Names of images, empty where there is none. No two of a file are alike.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    ends: Vec<usize>,
}

impl Names {
    fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }

    pub(super) fn get(&self, index: usize) -> &str {
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

/// What was found in the files that were opened so far.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) groups: Vec<Group>,
    pub(super) rows: usize,
    pub(super) names: Names,
    labels: Vec<Label>,
    /// The names of the classes, and the file that has them.
    classes: Option<(PathBuf, Vec<String>)>,
    /// Names of classes that were met in rows.
    met: BTreeSet<Arc<str>>,
}

impl Contents {
    /// Adds the file of a number.
    pub(super) fn add(&mut self, number: usize, file: &dyn ReadRange) -> Result<(), Failure> {
        let metadata = footer::read(file)?;
        let columns = Columns::of(metadata.file_metadata().schema_descr())?;
        self.described(file, &metadata, columns.label)?;
        let first = self.rows;
        let mut taken = HashSet::new();
        for group in metadata.row_groups() {
            let rows = u64::try_from(group.num_rows()).unwrap_or(u64::MAX);
            // An image takes more than a byte; names and labels take memory by the row.
            let before = (self.rows - first) as u64;
            if rows > file.len().saturating_sub(before) {
                let length = file.len();
                let what = format!("damaged: a row group of {rows} rows in {length} bytes");
                return Err(what.into());
            }
            if rows == 0 {
                continue;
            }
            let chunk = |column: usize| footer::chunk(file, rows, group.column(column));
            let paths = columns.path.map(chunk).transpose()?;
            self.names(&mut taken, file, paths, rows)?;
            let labels = columns.label.map(chunk).transpose()?;
            self.labels_of(file, labels, rows)?;
            self.groups.push(Group {
                file: number,
                first: self.rows,
                first_in_file: self.rows - first,
                images: chunk(columns.image)?,
                pages: OnceLock::new(),
            });
            self.rows += rows as usize;
        }
        Ok(())
    }

    /// Takes the names of the classes from the description of a file.
    fn described(
        &mut self,
        file: &dyn ReadRange,
        metadata: &ParquetMetaData,
        label: Option<usize>,
    ) -> Result<(), Failure> {
        let metadata = metadata.file_metadata();
        let mut notes = metadata.key_value_metadata().into_iter().flatten();
        let text = notes
            .find(|note| note.key == "huggingface")
            .and_then(|note| note.value.as_deref());
        let names = label.zip(text).and_then(|(label, text)| {
            columns::classes(text, metadata.schema_descr().column(label).name())
        });
        match (names, &self.classes) {
            (Some(names), Some((other, known))) if *known != names => {
                Err(format!("its classes are not those of {}", other.display()).into())
            }
            (Some(names), None) => {
                self.classes = Some((file.path().to_path_buf(), names));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn names(
        &mut self,
        taken: &mut HashSet<String>,
        file: &dyn ReadRange,
        paths: Option<Chunk>,
        rows: u64,
    ) -> Result<(), Failure> {
        let names = &mut self.names;
        let Some(chunk) = paths else {
            (0..rows).for_each(|_| names.push(""));
            return Ok(());
        };
        // A dictionary can make a few bytes of the file as many names as it likes.
        let most = names.text.len() as u64 + file.len();
        let wanted = names.ends.len() + rows as usize;
        let pages = Pages::read_all(file, &chunk)?;
        values::each::<ByteArrayType>(&chunk.column, pages, |path| {
            match path.and_then(|path| name(path.data())) {
                Some(name) if names.text.len() as u64 <= most && taken.insert(name.clone()) => {
                    names.push(&name);
                }
                _ => names.push(""),
            }
            Ok(())
        })?;
        match names.ends.len() == wanted {
            true => Ok(()),
            false => Err("damaged: names of other rows than there are".into()),
        }
    }

    fn labels_of(
        &mut self,
        file: &dyn ReadRange,
        labels: Option<Chunk>,
        rows: u64,
    ) -> Result<(), Failure> {
        /// Far more than any class's name needs.
        const LONGEST: usize = 4096;
        let wanted = self.labels.len() + rows as usize;
        let Some(chunk) = labels else {
            self.labels.resize(wanted, Label::None);
            return Ok(());
        };
        let (labels, met) = (&mut self.labels, &mut self.met);
        let mut push = |label: Option<Label>| {
            labels.push(label.unwrap_or(Label::None));
            Ok(())
        };
        let pages = Pages::read_all(file, &chunk)?;
        let column = &chunk.column;
        match column.physical_type() {
            Type::INT32 => values::each::<Int32Type>(column, pages, |value| {
                push(value.map(|number| Label::Number(number.into())))
            }),
            Type::INT64 => {
                values::each::<Int64Type>(column, pages, |value| push(value.map(Label::Number)))
            }
            _ => values::each::<ByteArrayType>(column, pages, |value| {
                let Some(value) = value else {
                    return push(None);
                };
                let name = std::str::from_utf8(value.data())
                    .ok()
                    .filter(|name| name.len() <= LONGEST)
                    .ok_or("a label that is no text")?;
                let name = match met.get(name) {
                    Some(name) => Arc::clone(name),
                    None => Arc::from(name),
                };
                met.insert(Arc::clone(&name));
                push(Some(Label::Name(name)))
            }),
        }?;
        match self.labels.len() == wanted {
            true => Ok(()),
            false => Err("damaged: labels of other rows than there are".into()),
        }
    }

    /// Labels of all rows. An error comes with the row.
    pub(super) fn labels(&mut self) -> Result<Labels, (usize, String)> {
        const MOST: usize = 1_000_000;
        // Hugging Face marks images without a label by -1.
        let none = |label: &Label| matches!(label, Label::None | Label::Number(-1));
        if self.labels.iter().all(none) {
            return Ok(Labels::default());
        }
        let told = self.classes.take().map(|(_, names)| names);
        let met: Vec<String> = self.met.iter().map(|name| (**name).to_owned()).collect();
        let classes = if met.is_empty() { told } else { Some(met) };
        let most = classes.as_ref().map_or(MOST, Vec::len);
        let mut of = Vec::with_capacity(self.labels.len());
        for (row, label) in self.labels.iter().enumerate() {
            let number = match label {
                Label::None => None,
                Label::Number(_) if !self.met.is_empty() => None,
                Label::Number(number) => usize::try_from(*number).ok(),
                Label::Name(name) => classes
                    .as_ref()
                    .and_then(|names| names.binary_search_by(|n| (**n).cmp(name)).ok()),
            };
            match number.filter(|&number| number < most) {
                Some(number) => of.push(number as u32),
                None if none(label) => {
                    return Err((row, "it has no label, others have one".into()));
                }
                None => {
                    return Err((
                        row,
                        format!("its label is not one of {most} classes: {label:?}"),
                    ));
                }
            }
        }
        let classes = classes.unwrap_or_else(|| {
            let count = of.iter().max().map_or(0, |&most| most + 1);
            (0..count).map(|n| n.to_string()).collect()
        });
        Ok(Labels::new(classes, of.into_iter().map(Some)))
    }
}

/// The name that a path gives: without roots and ways up.
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
