//! The directory of a TIFF's first page: numbered tags and their values.

use crate::decode::Reason;

/// The order of the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    /// A whole number of up to eight bytes.
    pub(super) fn number(self, bytes: &[u8]) -> u64 {
        let fold = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
        match self {
            Self::Little => bytes.iter().rev().fold(0, fold),
            Self::Big => bytes.iter().fold(0, fold),
        }
    }
}

/// The tags that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Tag {
    ImageWidth = 256,
    ImageLength = 257,
    BitsPerSample = 258,
    Compression = 259,
    Photometric = 262,
    FillOrder = 266,
    StripOffsets = 273,
    Orientation = 274,
    SamplesPerPixel = 277,
    RowsPerStrip = 278,
    StripByteCounts = 279,
    PlanarConfiguration = 284,
    T4Options = 292,
    Predictor = 317,
    ColorMap = 320,
    TileWidth = 322,
    TileLength = 323,
    TileOffsets = 324,
    TileByteCounts = 325,
    InkSet = 332,
    ExtraSamples = 338,
    SampleFormat = 339,
    JpegTables = 347,
    YCbCrCoefficients = 529,
    YCbCrSubSampling = 530,
    ReferenceBlackWhite = 532,
}

struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    /// Position of the values in the file.
    at: u64,
}

/// The first directory of a file.
pub(super) struct Directory<'a> {
    /// The whole file.
    pub(super) bytes: &'a [u8],
    pub(super) order: Order,
    entries: Vec<Entry>,
}

/// Bytes of a value of a type; `None` for an unknown type.
fn size_of(kind: u16) -> Option<u64> {
    Some(match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => return None,
    })
}

impl<'a> Directory<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Reason> {
        const CUT: &str = "truncated TIFF: its directory is cut off";
        let order = match bytes.get(..2) {
            Some(b"II") => Order::Little,
            _ => Order::Big,
        };
        let number = |at: u64, length: u64| -> Result<u64, Reason> {
            slice(bytes, at, length)
                .map(|bytes| order.number(bytes))
                .ok_or_else(|| CUT.into())
        };
        // Classic files count in 4 bytes, big ones in 8.
        let (word, counter) = match number(2, 2)? {
            42 => (4, 2),
            _ => (8, 8),
        };
        let start = number(word, word)?;
        let count = number(start, counter)?;
        let (size, first) = (4 + 2 * word, start.saturating_add(counter));
        // Behind it is the place of the next one.
        let room = (bytes.len() as u64).saturating_sub(first.saturating_add(word));
        if count > room / size {
            return Err(CUT.into());
        }
        let mut entries = Vec::new();
        for i in 0..count {
            let at = first + i * size;
            let (kind, count) = (number(at + 2, 2)? as u16, number(at + 4, word)?);
            let value = at + 4 + word;
            let inline = size_of(kind)
                .is_some_and(|size| size.checked_mul(count).is_some_and(|all| all <= word));
            entries.push(Entry {
                tag: number(at, 2)? as u16,
                kind,
                count,
                at: if inline { value } else { number(value, word)? },
            });
        }
        Ok(Self {
            bytes,
            order,
            entries,
        })
    }

    fn entry(&self, tag: Tag) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag as u16)
    }

    /// Up to `most` values of a tag, each as its bytes.
    fn values(
        &self,
        tag: Tag,
        most: usize,
    ) -> Result<Option<(u16, std::slice::ChunksExact<'a, u8>)>, Reason> {
        let Some(entry) = self.entry(tag) else {
            return Ok(None);
        };
        let wrong = || format!("damaged TIFF: its tag {tag:?} is not what it has to be");
        let size = size_of(entry.kind).ok_or_else(wrong)?;
        let length = size.checked_mul(entry.count.min(most as u64));
        let bytes = length.and_then(|length| slice(self.bytes, entry.at, length));
        let bytes = bytes.ok_or_else(|| {
            format!("truncated TIFF: its tag {tag:?} points beyond the end of the file")
        })?;
        Ok(Some((entry.kind, bytes.chunks_exact(size as usize))))
    }

    /// Up to `most` whole numbers.
    pub(super) fn numbers(&self, tag: Tag, most: usize) -> Result<Option<Vec<u64>>, Reason> {
        let Some((kind, values)) = self.values(tag, most)? else {
            return Ok(None);
        };
        match kind {
            1 | 3 | 4 | 13 | 16 | 18 => Ok(Some(values.map(|v| self.order.number(v)).collect())),
            _ => Err(format!(
                "damaged TIFF: its tag {tag:?} is not a whole number"
            )),
        }
    }

    /// A whole number, the first where there are several.
    pub(super) fn number(&self, tag: Tag) -> Result<Option<u64>, Reason> {
        Ok(self.numbers(tag, 1)?.and_then(|all| all.first().copied()))
    }

    /// Up to `most` numbers with a fraction.
    pub(super) fn fractions(&self, tag: Tag, most: usize) -> Result<Option<Vec<f64>>, Reason> {
        let Some((kind, values)) = self.values(tag, most)? else {
            return Ok(None);
        };
        let order = self.order;
        let of = |value: &[u8]| -> Option<f64> {
            let half = |at: usize| order.number(&value[at..at + 4]) as u32;
            Some(match kind {
                5 => f64::from(half(0)) / f64::from(half(4)),
                10 => f64::from(half(0) as i32) / f64::from(half(4) as i32),
                11 => f64::from(f32::from_bits(half(0))),
                12 => f64::from_bits(order.number(value)),
                1 | 3 | 4 => order.number(value) as f64,
                _ => return None,
            })
        };
        let all: Option<Vec<f64>> = values.map(of).collect();
        let all = all.filter(|all| all.iter().all(|v| v.is_finite()));
        all.map(Some)
            .ok_or_else(|| format!("damaged TIFF: its tag {tag:?} is not a number"))
    }

    /// A tag that holds bytes.
    pub(super) fn raw(&self, tag: Tag) -> Result<Option<&'a [u8]>, Reason> {
        let Some(entry) = self.entry(tag) else {
            return Ok(None);
        };
        let length = size_of(entry.kind).and_then(|size| size.checked_mul(entry.count));
        let bytes = length.and_then(|length| slice(self.bytes, entry.at, length));
        bytes.map(Some).ok_or_else(|| {
            format!("truncated TIFF: its tag {tag:?} points beyond the end of the file")
        })
    }
}

/// A part of a file, where it is within it.
pub(super) fn slice(bytes: &[u8], at: u64, length: u64) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    bytes.get(at..end)
}
