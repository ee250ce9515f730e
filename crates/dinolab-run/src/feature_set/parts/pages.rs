//! The features of a part as they lie in its file, for a search through all of them.
//!
//! A column of lists has, beside its values, levels that say where lists begin. The features of a part all have
//! the same width and none is missing, so that its values are read without them, which saves most of the time.

use dinolab_kernels::{append_f16, append_f32};
use parquet::basic::{Encoding, Type};
use parquet::column::page::Page;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};

use super::file::open;
use super::folder::{PartFolder, refused};
use crate::error::{Context, Error, Result};

/// Gives the features of a part of the folder that is known by `identity`, `dim` wide, to `each`: some rows at a
/// time. Neither names nor the checksum are read: `embed --verify` does that.
///
/// # Errors
/// [`Error::Invalid`] says what is wrong with the file; errors of `each`.
pub(crate) fn for_features(
    folder: &PartFolder,
    identity: &str,
    number: usize,
    each: impl FnMut(&[f32], usize) -> Result<()>,
) -> Result<()> {
    let part = folder.part(number)?.context("is missing")?;
    let reader = open(part.whole()?, identity, number)?;
    for_pages(&reader, each, |_, _| Ok(()))
}

/// Gives the features of an open part to `each`, some rows and their width at a time, and each page and the bytes of
/// a value to `page`.
///
/// # Errors
/// As [`for_features`]; errors of `page`.
pub(super) fn for_pages<R: ChunkReader + 'static>(
    reader: &SerializedFileReader<R>,
    mut each: impl FnMut(&[f32], usize) -> Result<()>,
    mut page: impl FnMut(&Page, usize) -> Result<()>,
) -> Result<()> {
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let columns = schema.columns().iter();
    let mut columns = columns.enumerate();
    let column = columns.find(|(_, column)| column.path().parts()[0] == "feature");
    let Some((place, column)) = column else {
        bail!("has no column of features");
    };
    let mut values = Vec::new();
    for group in 0..reader.num_row_groups() {
        let group = reader
            .get_row_group(group)
            .map_err(|error| refused(&error))?;
        let rows = group.metadata().num_rows() as usize;
        if rows == 0 {
            continue;
        }
        let all = group.metadata().column(place).num_values() as usize;
        let dim = all / rows;
        let differ = || Error::Invalid("is damaged: its features differ in width".into());
        if dim == 0 || dim * rows != all {
            return Err(differ());
        }
        let mut given = 0;
        let pages = group.get_column_page_reader(place);
        for found in pages.map_err(|error| refused(&error))? {
            let found = found.map_err(|error| refused(&error))?;
            let width = append(&found, column.physical_type(), &mut values)?;
            page(&found, width)?;
            // A page may end within a row.
            let whole = values.len() / dim * dim;
            each(&values[..whole], dim)?;
            values.drain(..whole);
            given += whole / dim;
        }
        if given != rows || !values.is_empty() {
            return Err(differ());
        }
    }
    Ok(())
}

/// Adds the values of a page, which are its last bytes, and returns the bytes of a value.
fn append(page: &Page, stored: Type, values: &mut Vec<f32>) -> Result<usize> {
    let width = match stored {
        Type::FLOAT => 4,
        Type::FIXED_LEN_BYTE_ARRAY => 2,
        other => bail!("has features of {other}"),
    };
    let bytes = page.buffer();
    let length = page.num_values() as usize * width;
    if !page.is_data_page() || page.encoding() != Encoding::PLAIN || bytes.len() < length {
        bail!("is not as dinolab writes it");
    }
    let bytes = &bytes[bytes.len() - length..];
    match width {
        4 => append_f32(bytes, values),
        _ => append_f16(bytes, values),
    }
    Ok(width)
}
