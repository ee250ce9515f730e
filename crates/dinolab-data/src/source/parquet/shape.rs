//! Which kind of value each field of a footer has.
//!
//! The crate that decodes footers reads a field by its number, whatever kind the bytes say it has,
//! and continues after what it took for the value: bytes of a name become the length of a list. So the
//! kinds are checked first; fields that are not in these tables are skipped by both.

use super::compact::{LIST, Reader, STRUCT};

/// The kind of a value, and of what it consists.
enum Kind {
    /// A whole number of variable length.
    Whole,
    /// A whole number of one byte.
    Byte,
    Truth,
    Double,
    Bytes,
    Struct(Fields),
    List(&'static Kind),
    /// Nothing that is read here: encryption.
    Refused,
}

type Fields = &'static [(i16, Kind)];

use Kind::{Byte, Bytes, Double, List, Refused, Struct, Truth, Whole};

const EMPTY: Kind = Struct(&[]);

static FILE: Fields = &[
    (1, Whole),
    (2, List(&Struct(COLUMN))),
    (3, Whole),
    (4, List(&Struct(ROW_GROUP))),
    (5, List(&Struct(KEY_VALUE))),
    (6, Bytes),
    (7, List(&Struct(&[(1, EMPTY), (2, EMPTY)]))),
    (8, Refused),
    (9, Refused),
];

const COLUMN: Fields = &[
    (1, Whole),
    (2, Whole),
    (3, Whole),
    (4, Bytes),
    (5, Whole),
    (6, Whole),
    (7, Whole),
    (8, Whole),
    (9, Whole),
    (10, Struct(LOGICAL_TYPE)),
];

const TIME: Fields = &[
    (1, Truth),
    (2, Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)])),
];

const LOGICAL_TYPE: Fields = &[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, Struct(&[(1, Whole), (2, Whole)])),
    (6, EMPTY),
    (7, Struct(TIME)),
    (8, Struct(TIME)),
    (10, Struct(&[(1, Byte), (2, Truth)])),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
    (16, Struct(&[(1, Byte)])),
    (17, Struct(&[(1, Bytes)])),
    (18, Struct(&[(1, Bytes), (2, Whole)])),
];

const KEY_VALUE: Fields = &[(1, Bytes), (2, Bytes)];

const ROW_GROUP: Fields = &[
    (1, List(&Struct(CHUNK))),
    (2, Whole),
    (3, Whole),
    (4, List(&Struct(&[(1, Whole), (2, Truth), (3, Truth)]))),
    (5, Whole),
    (6, Whole),
    (7, Whole),
];

const CHUNK: Fields = &[
    (1, Bytes),
    (2, Whole),
    (3, Struct(CHUNK_DATA)),
    (4, Whole),
    (5, Whole),
    (6, Whole),
    (7, Whole),
    (8, Refused),
    (9, Refused),
];

const CHUNK_DATA: Fields = &[
    (1, Whole),
    (2, List(&Whole)),
    (3, List(&Bytes)),
    (4, Whole),
    (5, Whole),
    (6, Whole),
    (7, Whole),
    (8, List(&Struct(KEY_VALUE))),
    (9, Whole),
    (10, Whole),
    (11, Whole),
    (12, Struct(STATISTICS)),
    (13, List(&Struct(&[(1, Whole), (2, Whole), (3, Whole)]))),
    (14, Whole),
    (15, Whole),
    (
        16,
        Struct(&[(1, Whole), (2, List(&Whole)), (3, List(&Whole))]),
    ),
    (17, Struct(&[(1, Struct(BOX)), (2, List(&Whole))])),
];

const STATISTICS: Fields = &[
    (1, Bytes),
    (2, Bytes),
    (3, Whole),
    (4, Whole),
    (5, Bytes),
    (6, Bytes),
    (7, Truth),
    (8, Truth),
];

const BOX: Fields = &[
    (1, Double),
    (2, Double),
    (3, Double),
    (4, Double),
    (5, Double),
    (6, Double),
    (7, Double),
    (8, Double),
];

/// Whether all fields of a footer are of their kinds, to its last byte.
pub(super) fn fits(footer: &[u8]) -> bool {
    structure(&mut Reader::new(footer), FILE).is_some()
}

fn structure(reader: &mut Reader, fields: Fields) -> Option<()> {
    reader.structure(
        |reader, id, kind| match fields.iter().find(|(number, _)| *number == id) {
            Some((_, expected)) => field(reader, kind, expected),
            None => Some(false),
        },
    )
}

/// Whether a field's value was read; `None` where it is of another kind.
fn field(reader: &mut Reader, kind: u8, expected: &Kind) -> Option<bool> {
    match expected {
        Struct(fields) if kind == STRUCT => {
            structure(reader, fields)?;
            Some(true)
        }
        List(element) if kind == LIST => {
            let (count, kind) = reader.list()?;
            for _ in 0..count {
                if !field(reader, kind, element)? {
                    reader.pass_over(kind)?;
                }
            }
            Some(true)
        }
        _ => is_of(kind, expected).then_some(false),
    }
}

fn is_of(kind: u8, expected: &Kind) -> bool {
    match expected {
        Truth => matches!(kind, 1 | 2),
        Byte => kind == 3,
        Whole => matches!(kind, 4..=6),
        Double => kind == 7,
        Bytes => kind == 8,
        Struct(_) | List(_) | Refused => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_another_kind_is_refused() {
        // Version 1, and no more.
        assert!(fits(&[0x15, 2, 0]));
        // The version as bytes.
        assert!(!fits(&[0x18, 1, 2, 0]));
        // An unknown field of any kind that both pass over.
        assert!(fits(&[0x15, 2, 0x08, 80, 2, 7, 7, 0]));
        // Columns as a list of numbers; one column whose name is a number.
        assert!(!fits(&[0x29, 0x15, 2, 0]));
        assert!(fits(&[0x29, 0x1C, 0x48, 1, b'a', 0, 0]));
        assert!(!fits(&[0x29, 0x1C, 0x45, 2, 0, 0]));
        // Encrypted.
        assert!(!fits(&[0x8C, 0, 0]));
        // It ends too soon.
        assert!(!fits(&[0x29, 0x1C, 0x48, 1]));
    }
}
