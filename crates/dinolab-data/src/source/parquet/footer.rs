//! The footer of a Parquet file: its columns and their positions.

use std::ops::Range;

use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};

use super::super::files::ReadRange;
use super::compact::{LIST, Reader, STRUCT};
use super::page::Chunk;
use super::{codec, shape};
use crate::decode::{Reason, caught};
use crate::source::parquet::failure::Failure;

/// Both ends of a file.
const MAGIC: &[u8] = b"PAR1";
const ENCRYPTED: &[u8] = b"PARE";

/// Reads the footer of a file.
pub(super) fn read(file: &dyn ReadRange) -> Result<ParquetMetaData, Failure> {
    /// Ten thousand row groups of ten columns take a tenth of it.
    const LONGEST: u64 = 128 << 20;
    let no_parquet = || Failure::from("no Parquet file: it does not end like one");
    let length = file.len();
    let mut tail = [0; 8];
    let before = length.checked_sub(8).ok_or_else(no_parquet)?;
    get(file, before, &mut tail)?;
    let (size, magic) = tail.split_at(4);
    if magic == ENCRYPTED {
        return Err("an encrypted Parquet file cannot be read".into());
    }
    if magic != MAGIC {
        return Err(no_parquet());
    }
    let size = size.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
    if size > before.saturating_sub(MAGIC.len() as u64) || size > LONGEST {
        return Err(format!("damaged: a footer of {size} bytes").into());
    }
    let mut footer = vec![0; size as usize];
    get(file, before - size, &mut footer)?;
    if !shape::fits(&footer) || check(&footer).is_none() {
        return Err("damaged: its footer cannot be read".into());
    }
    Ok(caught(|| {
        ParquetMetaDataReader::decode_metadata(&footer)
            .map_err(|e| format!("damaged: its footer cannot be read: {e}"))
    })?)
}

/// Walks over the whole footer before it is given to the crate, which reads the columns by
/// recursion and allocates by the numbers of their parts.
fn check(footer: &[u8]) -> Option<()> {
    const MOST_COLUMNS: usize = 1 << 16;
    const DEEPEST: usize = 24;
    Reader::new(footer).structure(|reader, id, kind| {
        if (id, kind) != (2, LIST) {
            return Some(false);
        }
        let (count, kind) = reader.list()?;
        if kind != STRUCT || count > MOST_COLUMNS {
            return None;
        }
        // How many parts are still missing of each group that the next element lies in.
        let mut open: Vec<usize> = Vec::new();
        for _ in 0..count {
            let mut parts = 0;
            reader.structure(|reader, id, kind| match (id, kind) {
                (5, 4..=6) => {
                    parts = usize::try_from(reader.number()?).ok()?;
                    Some(true)
                }
                _ => Some(false),
            })?;
            if parts > count || open.len() > DEEPEST {
                return None;
            }
            if let Some(missing) = open.last_mut() {
                *missing = missing.checked_sub(1)?;
            }
            open.push(parts);
            while open.last() == Some(&0) {
                open.pop();
            }
        }
        Some(true)
    })
}

/// A column of a row group, within the file.
pub(super) fn chunk(
    file: &dyn ReadRange,
    rows: u64,
    column: &ColumnChunkMetaData,
) -> Result<Chunk, Reason> {
    let name = column.column_path().string();
    let outside = || format!("damaged: the column {name} lies outside of it");
    if column.file_path().is_some_and(|path| !path.is_empty()) {
        return Err(format!(
            "the column {name} lies in another file, which is not read"
        ));
    }
    codec::check_codec(column.compression_codec())?;
    let data = column.data_page_offset();
    // Some writers give 0 where there is no dictionary.
    let start = match column.dictionary_page_offset() {
        Some(dictionary) if dictionary > 0 => dictionary.min(data),
        _ => data,
    };
    let (start, size) = match (
        u64::try_from(start),
        u64::try_from(column.compressed_size()),
    ) {
        (Ok(start), Ok(size)) => (start, size),
        _ => return Err(outside()),
    };
    let within = |start: u64, size: u64| -> Option<Range<u64>> {
        let end = start.checked_add(size)?;
        (end <= file.len()).then_some(start..end)
    };
    let index = match (column.offset_index_offset(), column.offset_index_length()) {
        (Some(start), Some(size)) => u64::try_from(start)
            .ok()
            .zip(u64::try_from(size).ok())
            .and_then(|(start, size)| within(start, size)),
        _ => None,
    };
    Ok(Chunk {
        column: column.column_descr_ptr(),
        codec: column.compression_codec(),
        bytes: within(start, size).ok_or_else(outside)?,
        rows,
        index,
    })
}

fn get(file: &dyn ReadRange, start: u64, bytes: &mut [u8]) -> Result<(), Failure> {
    file.read(start, bytes).map_err(Failure::Read)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer of nothing but columns: each the number of its parts.
    fn footer(parts: &[u64]) -> Vec<u8> {
        fn varint(mut n: u64, to: &mut Vec<u8>) {
            while n > 127 {
                to.push(n as u8 | 128);
                n >>= 7;
            }
            to.push(n as u8);
        }
        let mut bytes = vec![0x29, 0xFC];
        varint(parts.len() as u64, &mut bytes);
        for &parts in parts {
            bytes.push(0x55);
            varint(2 * parts, &mut bytes);
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }

    #[test]
    fn columns_are_counted_before_they_are_believed() {
        assert!(check(&footer(&[2, 0, 2, 0, 0])).is_some());
        assert!(check(&footer(&[u32::MAX.into(), 0])).is_none());
        assert!(check(&footer(&vec![1; 30_000])).is_none());
        assert!(check(&footer(&vec![0; 70_000])).is_none());
        assert!(check(&footer(&[2, 0, 0])[..7]).is_none());
    }
}
