//! Positions and contents of the pages of a column.
//!
//! Headers of pages are read here, not by the `parquet` crate, which allocates by their claims:
//! each number in them is held against the bytes that there are before it is used.

use std::ops::Range;

use bytes::Bytes;
use parquet::basic::{CompressionCodec, Encoding};
use parquet::column::page::Page;
use parquet::schema::types::ColumnDescPtr;

use super::super::files::ReadRange;
use super::codec;
use super::compact::{LIST, Reader, STRUCT};
use crate::decode::Reason;
use crate::source::parquet::failure::Failure;

/// A column of a row group.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) column: ColumnDescPtr,
    pub(super) codec: CompressionCodec,
    /// The position of its pages.
    pub(super) bytes: Range<u64>,
    /// Its rows; every one has a value or none.
    pub(super) rows: u64,
    /// Where the places of its pages are listed, in files that have such lists.
    pub(super) index: Option<Range<u64>>,
}

/// The pages of a chunk.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// The values that pages refer to, where they do.
    dictionary: Option<Range<u64>>,
    /// In the order of their rows, which follow each other from 0 to the last.
    pub(super) data: Vec<Place>,
}

/// Where a page of values lies, its header included, and the rows that it has.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    bytes: Range<u64>,
    pub(super) rows: Range<u64>,
}

impl Pages {
    /// Looks the pages of a chunk up: in the file's own list, or header by header.
    pub(super) fn of(file: &dyn ReadRange, chunk: &Chunk) -> Result<Self, Failure> {
        if let Some(index) = &chunk.index {
            /// Far more than lists of pages have.
            const LONGEST: u64 = 64 << 20;
            let length = index.end - index.start;
            if length <= LONGEST {
                let bytes = read(file, index)?;
                // A list that does not fit is left alone: the headers are there as well.
                if let Some(pages) = Self::listed(&bytes, chunk) {
                    return Ok(pages);
                }
            }
        }
        Self::walked(file, chunk)
    }

    /// By an offset index: `{1: [{1: offset, 2: bytes, 3: first row}]}`.
    fn listed(bytes: &[u8], chunk: &Chunk) -> Option<Self> {
        let mut data: Vec<Place> = Vec::new();
        Reader::new(bytes).structure(|reader, id, kind| {
            if (id, kind) != (1, LIST) {
                return Some(false);
            }
            let (count, kind) = reader.list()?;
            for _ in 0..count {
                if kind != STRUCT {
                    return None;
                }
                let mut place = [-1i64; 3];
                reader.structure(|reader, id, kind| match (id, kind) {
                    (1..=3, 4..=6) => {
                        place[id as usize - 1] = reader.number()?;
                        Some(true)
                    }
                    _ => Some(false),
                })?;
                let [offset, length, row] = place.map(|n| u64::try_from(n).ok());
                let (offset, row) = (offset?, row?);
                let end = offset.checked_add(length?)?;
                let (from, first) = match data.last_mut() {
                    Some(last) => {
                        last.rows.end = row;
                        (last.bytes.end, last.rows.start)
                    }
                    None if row != 0 => return None,
                    None => (chunk.bytes.start, 0),
                };
                if offset < from || end > chunk.bytes.end || row < first {
                    return None;
                }
                data.push(Place {
                    bytes: offset..end,
                    rows: row..chunk.rows,
                });
            }
            Some(true)
        })?;
        let first = data.first()?.bytes.start;
        let last = data.last()?;
        (last.rows.start <= last.rows.end).then_some(())?;
        let before = chunk.bytes.start..first;
        Some(Self {
            dictionary: (!before.is_empty()).then_some(before),
            data,
        })
    }

    /// Header by header, which is one small read for each page.
    fn walked(file: &dyn ReadRange, chunk: &Chunk) -> Result<Self, Failure> {
        let mut pages = Self::default();
        let (mut at, mut row) = (chunk.bytes.start, 0);
        while row < chunk.rows && at < chunk.bytes.end {
            let (header, length) = Header::at(file, at, chunk.bytes.end)?;
            let body = at + length;
            let end = body + u64::from(header.packed);
            if end > chunk.bytes.end {
                return Err("damaged: a page goes beyond the end of its column".into());
            }
            match header.kind {
                Kind::Dictionary if pages.dictionary.is_none() && pages.data.is_empty() => {
                    pages.dictionary = Some(at..end);
                }
                Kind::Dictionary => return Err("damaged: a second dictionary".into()),
                Kind::Values | Kind::ValuesV2 { .. } => {
                    let rows = row..row + u64::from(header.values);
                    row = rows.end;
                    pages.data.push(Place {
                        bytes: at..end,
                        rows,
                    });
                }
                Kind::Other => {}
            }
            at = end;
        }
        match row == chunk.rows {
            true => Ok(pages),
            false => Err(format!("damaged: pages of {row} rows instead of {}", chunk.rows).into()),
        }
    }

    /// Reads and unpacks all pages of a chunk, the dictionary first where there is one.
    ///
    /// For small columns: a dictionary that is unpacked for each page could keep a reader busy for
    /// as long as a file likes.
    pub(super) fn read_all(file: &dyn ReadRange, chunk: &Chunk) -> Result<Vec<Page>, Failure> {
        let found = Self::of(file, chunk)?;
        let mut pages = Vec::with_capacity(found.data.len() + 1);
        if let Some(dictionary) = &found.dictionary {
            pages.push(page(file, chunk, dictionary, None)?);
        }
        let mut bytes = 0;
        for place in &found.data {
            let rows = place.rows.end - place.rows.start;
            pages.push(page(file, chunk, &place.bytes, Some(rows))?);
            bytes += pages.last().map_or(0, |page| page.buffer().len() as u64);
            if bytes > codec::LARGEST {
                let name = chunk.column.path().string();
                return Err(format!("a row group with more than 1 GiB of {name}").into());
            }
        }
        Ok(pages)
    }

    /// Reads and unpacks a page of values, and the dictionary before it where there is one.
    pub(super) fn read(
        &self,
        file: &dyn ReadRange,
        chunk: &Chunk,
        number: usize,
    ) -> Result<Vec<Page>, Failure> {
        let place = &self.data[number];
        let mut pages = Vec::with_capacity(2);
        if let Some(dictionary) = &self.dictionary {
            pages.push(page(file, chunk, dictionary, None)?);
        }
        let rows = place.rows.end - place.rows.start;
        pages.push(page(file, chunk, &place.bytes, Some(rows))?);
        Ok(pages)
    }
}

/// A page of as many rows or, with `None`, a dictionary.
fn page(
    file: &dyn ReadRange,
    chunk: &Chunk,
    place: &Range<u64>,
    rows: Option<u64>,
) -> Result<Page, Failure> {
    codec::check(place.end - place.start, 0)?;
    let bytes = Bytes::from(read(file, place)?);
    let (header, length) = Header::of(&bytes).ok_or("damaged: a page without a header")?;
    let body = &bytes.slice(length..);
    if body.len() as u64 != u64::from(header.packed) {
        return Err("damaged: the length of a page contradicts its header".into());
    }
    codec::check(body.len() as u64, header.unpacked.into())?;
    let unpacked = header.unpacked as usize;
    let (values, encoding) = (header.values, encoding(header.encoding)?);
    Ok(match (header.kind, rows) {
        (Kind::Dictionary, None) => {
            let buf = codec::unpack(chunk.codec, body, unpacked)?;
            // Each takes four bytes at least.
            if u64::from(values) * 4 > buf.len() as u64 {
                return Err("damaged: a dictionary of fewer values than it says".into());
            }
            Page::DictionaryPage {
                buf,
                num_values: values,
                encoding,
                is_sorted: false,
            }
        }
        (Kind::Values, Some(rows)) if rows == u64::from(values) => {
            let buf = codec::unpack(chunk.codec, body, unpacked)?;
            let levels = match chunk.column.max_def_level() {
                0 => 0,
                _ => match buf.get(..4) {
                    Some(&[a, b, c, d]) => 4 + u64::from(u32::from_le_bytes([a, b, c, d])),
                    _ => return Err("damaged: a page that is cut off".into()),
                },
            };
            check_values(encoding, &buf, levels, values)?;
            if header.levels != RLE {
                return Err("its nulls are encoded in a way that is not read".into());
            }
            Page::DataPage {
                buf,
                num_values: values,
                encoding,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            }
        }
        (
            Kind::ValuesV2 {
                nulls,
                repetition,
                definition,
                compressed,
            },
            Some(rows),
        ) if rows == u64::from(values) => {
            // Levels lie before the values, and are never compressed.
            let levels = u64::from(repetition) + u64::from(definition);
            if levels > body.len() as u64 || levels > unpacked as u64 || nulls > values {
                return Err("damaged: a page of levels that do not fit".into());
            }
            let buf = match compressed && chunk.codec != CompressionCodec::UNCOMPRESSED {
                true => {
                    let packed = body.slice(levels as usize..);
                    let size = unpacked - levels as usize;
                    let values = codec::unpack(chunk.codec, &packed, size)?;
                    Bytes::from([&body[..levels as usize], &values].concat())
                }
                false => codec::unpack(CompressionCodec::UNCOMPRESSED, body, unpacked)?,
            };
            check_values(encoding, &buf, levels, values)?;
            Page::DataPageV2 {
                buf,
                num_values: values,
                encoding,
                num_nulls: nulls,
                num_rows: values,
                def_levels_byte_len: definition,
                rep_levels_byte_len: repetition,
                is_compressed: compressed,
                statistics: None,
            }
        }
        _ => return Err("damaged: the kind or the rows of a page contradict its header".into()),
    })
}

/// Holds the header of delta-encoded values, by which the decoder allocates, against the page.
fn check_values(encoding: Encoding, page: &[u8], levels: u64, values: u32) -> Result<(), Reason> {
    let damaged = || "damaged: a page whose values are cut off".to_owned();
    let levels = usize::try_from(levels).map_err(|_| damaged())?;
    let data = page.get(levels..).ok_or_else(damaged)?;
    if !matches!(
        encoding,
        Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY
    ) {
        return Ok(());
    }
    const LARGEST_BLOCK: u64 = 1 << 16;
    let mut reader = Reader::new(data);
    let mut number = || reader.unsigned().ok_or_else(damaged);
    let (block, parts, count) = (number()?, number()?, number()?);
    match block <= LARGEST_BLOCK && parts <= block && count <= u64::from(values) {
        true => Ok(()),
        false => Err("damaged: a page of more values than it says".into()),
    }
}

/// Encodings by their numbers. Others have no bound by the page's own size, or hold no bytes.
fn encoding(number: u32) -> Result<Encoding, Reason> {
    Ok(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        other => {
            let name = match other {
                3 => "RLE",
                4 => "BIT_PACKED",
                7 => "DELTA_BYTE_ARRAY",
                9 => "BYTE_STREAM_SPLIT",
                _ => "an unknown number",
            };
            return Err(format!(
                "a page in the encoding {name}, which is not read; write the file again with PLAIN"
            ));
        }
    })
}

const RLE: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Values,
    ValuesV2 {
        nulls: u32,
        repetition: u32,
        definition: u32,
        compressed: bool,
    },
    Dictionary,
    Other,
}

/// The header of a page.
#[derive(Debug, PartialEq)]
struct Header {
    kind: Kind,
    packed: u32,
    unpacked: u32,
    values: u32,
    encoding: u32,
    /// How nulls are encoded, in pages of the first version.
    levels: u32,
}

impl Header {
    /// Reads the header at a place before `end`; also gives its length.
    fn at(file: &dyn ReadRange, at: u64, end: u64) -> Result<(Self, u64), Failure> {
        // Least and greatest values may be in it, whole images among them.
        let mut length = 512;
        loop {
            let bytes = read(file, &(at..end.min(at + length)))?;
            match Self::of(&bytes) {
                Some((header, length)) => return Ok((header, length as u64)),
                None if at + length < end && length < 64 << 20 => length *= 8,
                None => return Err("damaged: a page without a header".into()),
            }
        }
    }

    fn of(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut reader = Reader::new(bytes);
        let (mut sizes, mut kind, mut values) = ([None; 3], None, None);
        reader.structure(|reader, id, field| match (id, field) {
            (1..=3, 4..=6) => {
                sizes[id as usize - 1] = Some(u32::try_from(reader.number()?).ok()?);
                Some(true)
            }
            (5 | 7 | 8, STRUCT) => {
                let mut numbers = [None; 6];
                let mut compressed = true;
                reader.structure(|reader, id, field| match (id, field) {
                    (1..=6, 4..=6) => {
                        numbers[id as usize - 1] = Some(u32::try_from(reader.number()?).ok()?);
                        Some(true)
                    }
                    (7, 1 | 2) => {
                        compressed = Reader::truth(field)?;
                        Some(true)
                    }
                    _ => Some(false),
                })?;
                let [first, second, third, fourth, fifth, sixth] = numbers;
                (kind, values) = match id {
                    5 => (Some(Kind::Values), Some((first?, second?, third?))),
                    7 => (Some(Kind::Dictionary), Some((first?, second?, RLE))),
                    _ => {
                        let kind = Kind::ValuesV2 {
                            nulls: second?,
                            definition: fifth?,
                            repetition: sixth?,
                            compressed,
                        };
                        (Some(kind), Some((first?, fourth?, RLE)))
                    }
                };
                Some(true)
            }
            _ => Some(false),
        })?;
        let [told, unpacked, packed] = sizes;
        let kind = match (told?, kind) {
            (0, Some(kind @ Kind::Values))
            | (2, Some(kind @ Kind::Dictionary))
            | (3, Some(kind @ Kind::ValuesV2 { .. })) => kind,
            (0 | 2 | 3, _) => return None,
            _ => Kind::Other,
        };
        let (values, encoding, levels) = values.unwrap_or_default();
        let header = Self {
            kind,
            packed: packed?,
            unpacked: unpacked?,
            values,
            encoding,
            levels,
        };
        Some((header, reader.position()))
    }
}

fn read(file: &dyn ReadRange, place: &Range<u64>) -> Result<Vec<u8>, Failure> {
    if place.start > place.end || place.end > file.len() {
        return Err("damaged: it goes beyond its end".into());
    }
    let mut bytes = vec![0; (place.end - place.start) as usize];
    file.read(place.start, &mut bytes).map_err(Failure::Read)?;
    Ok(bytes)
}
