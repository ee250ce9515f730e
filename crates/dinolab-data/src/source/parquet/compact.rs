//! A reader of Thrift's compact protocol, the subset that Parquet's headers need.
//!
//! Everything that it gives lies in the bytes at hand; nothing is allocated by what they say. A
//! value is `None` where the bytes end too soon or are of no such kind.

/// Kinds of fields.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

/// Structures within structures: Parquet's own headers have fewer than ten.
const DEEPEST: usize = 24;

/// A place in the bytes of a header.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn pass(&mut self, count: u64) -> Option<()> {
        let left = (self.bytes.len() - self.at) as u64;
        (count <= left).then(|| self.at += count as usize)
    }

    /// A number without a sign.
    pub(super) fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A number of any width.
    pub(super) fn number(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The number of elements of a list, and their kind. There are never more than bytes left.
    pub(super) fn list(&mut self) -> Option<(usize, u8)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.unsigned()?,
            few => u64::from(few),
        };
        let left = self.bytes.len() - self.at;
        (count <= left as u64).then_some((count as usize, head & 15))
    }

    /// Reads a structure: `field` gets the number and the kind of each field, and says whether it
    /// read the value (`false`: it is skipped).
    pub(super) fn structure(
        &mut self,
        mut field: impl FnMut(&mut Self, i16, u8) -> Option<bool>,
    ) -> Option<()> {
        self.fields(0, &mut field)
    }

    fn fields(
        &mut self,
        depth: usize,
        field: &mut dyn FnMut(&mut Self, i16, u8) -> Option<bool>,
    ) -> Option<()> {
        let mut last = 0i16;
        loop {
            let head = self.byte()?;
            let kind = head & 15;
            if kind == 0 {
                return Some(());
            }
            last = match head >> 4 {
                0 => i16::try_from(self.number()?).ok()?,
                step => last.checked_add(i16::from(step))?,
            };
            if !field(self, last, kind)? {
                self.skip(kind, depth + 1)?;
            }
        }
    }

    /// A truth value of a structure lies in the kind of its field.
    pub(super) fn truth(kind: u8) -> Option<bool> {
        matches!(kind, TRUE | FALSE).then_some(kind == TRUE)
    }

    /// Passes over an element of a list.
    pub(super) fn pass_over(&mut self, kind: u8) -> Option<()> {
        self.skip(kind, 1)
    }

    /// Passes over a value of a structure or of a list. Lists of truth values and maps, which
    /// Parquet's headers have none of, are refused: readers disagree about their lengths.
    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        match kind {
            TRUE | FALSE => Some(()),
            3 => self.pass(1),
            4..=6 => self.unsigned().map(|_| ()),
            7 => self.pass(8),
            8 => {
                let length = self.unsigned()?;
                self.pass(length)
            }
            LIST | 10 => {
                let (count, kind) = self.list()?;
                if count > 0 && matches!(kind, TRUE | FALSE) {
                    return None;
                }
                (0..count).try_for_each(|_| self.skip(kind, depth + 1))
            }
            STRUCT => self.fields(depth, &mut |_, _, _| Some(false)),
            13 => self.pass(16),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_read_or_passed_over() {
        // 1: i32 -3; 2: list of two i32; 4: true; 5: "abc"; 20: {1: 1.0}.
        let bytes = [
            0x15, 5, 0x19, 0x25, 2, 4, 0x21, 0x18, 3, b'a', b'b', b'c', 0x0C, 40, 0x17, 0, 0, 0, 0,
            0, 0, 0xF0, 0x3F, 0, 0, 77,
        ];
        let mut reader = Reader::new(&bytes);
        let mut seen = Vec::new();
        let read = reader.structure(|reader, id, kind| {
            seen.push((id, kind));
            Some(match id {
                1 => {
                    assert_eq!(reader.number(), Some(-3));
                    true
                }
                4 => Reader::truth(kind)?,
                _ => false,
            })
        });
        assert_eq!(read, Some(()));
        assert_eq!(seen, [(1, 5), (2, LIST), (4, 1), (5, 8), (20, STRUCT)]);
        assert_eq!(reader.position(), bytes.len() - 1);
    }

    #[test]
    fn nests_no_deeper_than_it_should() {
        let deep = vec![0x1C; 100_000];
        assert_eq!(Reader::new(&deep).structure(|_, _, _| Some(false)), None);
    }

    #[test]
    fn what_readers_disagree_about_is_refused() {
        let read = |bytes: &[u8]| Reader::new(bytes).structure(|_, _, _| Some(false));
        // 1: a list of three numbers of 8 bits, of none and of three truth values; a map.
        assert_eq!(read(&[0x19, 0x33, 1, 1, 1, 0]), Some(()));
        assert_eq!(read(&[0x19, 0x02, 0]), Some(()));
        assert_eq!(read(&[0x19, 0x32, 1, 1, 1, 0]), None);
        assert_eq!(read(&[0x1B, 1, 0x33, 1, 1, 0]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_lead_it_astray(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            let _ = reader.structure(|_, _, _| Some(false));
            prop_assert!(reader.position() <= bytes.len());
        }
    }
}
