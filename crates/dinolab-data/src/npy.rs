//! The header of NumPy's `.npy` files: a magic number, a version, the length of a text, and the
//! text, a Python dictionary of three keys.
//!
//! Own code: the parser accepts that dictionary only and does not nest, and a crate for it takes
//! longer to compile than all of this one's readers of datasets.

use std::io::{self, Read};

/// The first bytes of every file.
pub const MAGIC: &[u8] = b"\x93NUMPY";
/// Longer texts are refused; no array of a few dimensions needs one.
const LONGEST_TEXT: usize = 1 << 16;
/// The values begin at a multiple of this many bytes.
const ALIGNMENT: usize = 64;

/// What precedes the values of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Byte order and type of the values, such as `<f4`.
    pub descr: String,
    /// Whether the first index varies fastest.
    pub fortran_order: bool,
    /// Size of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
}

impl Header {
    /// Reads a header, up to the first value.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends within the header,
    /// [`io::ErrorKind::InvalidData`] if it is damaged or of an unknown version, both with a message
    /// for the user; other kinds if reading fails.
    pub fn read(file: &mut impl Read) -> io::Result<Self> {
        let mut start = [0; 8];
        fill(file, &mut start)?;
        if !start.starts_with(MAGIC) {
            return Err(invalid("it does not begin as one"));
        }
        let length = match start[6] {
            1 => {
                let mut length = [0; 2];
                fill(file, &mut length)?;
                usize::from(u16::from_le_bytes(length))
            }
            2 | 3 => {
                let mut length = [0; 4];
                fill(file, &mut length)?;
                u32::from_le_bytes(length) as usize
            }
            version => {
                let reason = format!("its version is {version}; 1 to 3 are known");
                return Err(invalid(reason));
            }
        };
        if length > LONGEST_TEXT {
            return Err(invalid("its header is too long"));
        }
        let mut text = vec![0; length];
        fill(file, &mut text)?;
        let text = std::str::from_utf8(&text).map_err(|_| invalid("its header is not text"))?;
        parse(text).ok_or_else(|| invalid("its header is not a dictionary of an array"))
    }

    /// Returns the bytes of a header of format 1.0, for values in C order.
    ///
    /// # Panics
    /// With thousands of dimensions.
    pub fn bytes(descr: &str, shape: &[usize]) -> Vec<u8> {
        let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
        let mut text =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
        let before = MAGIC.len() + 4;
        let padded = (before + text.len() + 1).next_multiple_of(ALIGNMENT) - before;
        text.extend(std::iter::repeat_n(' ', padded - 1 - text.len()));
        text.push('\n');
        let length = u16::try_from(padded).expect("a few dimensions");
        [MAGIC, &[1, 0], &length.to_le_bytes(), text.as_bytes()].concat()
    }

    /// Returns the type without its byte order (`f4`), and whether the values are big-endian;
    /// `None` if the type has no byte order.
    pub fn value_type(&self) -> Option<(&str, bool)> {
        // The first character may be of several bytes.
        let (order, kind) = self.descr.split_at_checked(1)?;
        let big_endian = match order {
            "<" | "|" => false,
            ">" => true,
            "=" => cfg!(target_endian = "big"),
            _ => return None,
        };
        Some((kind, big_endian))
    }
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

fn fill(file: &mut impl Read, bytes: &mut [u8]) -> io::Result<()> {
    file.read_exact(bytes).map_err(|e| match e.kind() {
        kind @ io::ErrorKind::UnexpectedEof => io::Error::new(kind, "its header is cut off"),
        _ => e,
    })
}

/// `{'descr': '<u2', 'fortran_order': False, 'shape': (4, 3), }`, keys in any order.
fn parse(text: &str) -> Option<Header> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        rest = after.trim_start().strip_prefix(':')?.trim_start();
        match key {
            "descr" => {
                let (value, after) = quoted(rest)?;
                (descr, rest) = (Some(value.to_owned()), after);
            }
            "fortran_order" => {
                let word = rest.split([',', ' ', '\t', '\n']).next()?;
                fortran_order = Some(match word {
                    "True" => true,
                    "False" => false,
                    _ => return None,
                });
                rest = &rest[word.len()..];
            }
            "shape" => {
                let (inside, after) = rest.strip_prefix('(')?.split_once(')')?;
                let numbers = inside.split(',').map(str::trim).filter(|n| !n.is_empty());
                shape = Some(numbers.map(|n| n.parse().ok()).collect::<Option<_>>()?);
                rest = after;
            }
            _ => return None,
        }
        rest = rest.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Some(Header {
        descr: descr?,
        fortran_order: fortran_order?,
        shape: shape?,
    })
}

/// A word in quotes at the beginning, and what comes after it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mark = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(mark)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_as_programs_write_them() {
        let header = |shape: &[usize]| {
            Some(Header {
                descr: "<u2".into(),
                fortran_order: false,
                shape: shape.to_vec(),
            })
        };
        for (text, shape) in [
            (
                "{'descr': '<u2', 'fortran_order': False, 'shape': (4, 3, 2), }   \n",
                &[4, 3, 2][..],
            ),
            (
                "{\"shape\":(4,),\"fortran_order\":False,\"descr\":\"<u2\"}",
                &[4],
            ),
            ("{'descr':'<u2','fortran_order':False,'shape':()}\n", &[]),
        ] {
            assert_eq!(parse(text), header(shape), "{text}");
        }
        for wrong in [
            "",
            "{}",
            "{'descr': '<u2', 'fortran_order': False}",
            "{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (1, 1)}",
            "{'descr': '<u2', 'fortran_order': Maybe, 'shape': (1, 1)}",
            "{'descr': '<u2', 'fortran_order': False, 'shape': (-1, 1)}",
            "{'descr': '<u2', 'fortran_order': False, 'shape': ((((1, 1)}",
            "{'descr': '<u2', 'fortran_order': False, 'shape': (99999999999999999999, 1)}",
            "{'é': 1}",
            "{é: 1}",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bytes_are_those_of_the_format() {
        for (shape, text) in [
            (&[2, 3][..], "(2, 3, )"),
            (&[7], "(7, )"),
            (&[], "()"),
            (&[1 << 40; 12], "(1099511627776, "),
        ] {
            let bytes = Header::bytes("<f4", shape);
            assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
            assert!(bytes.len().is_multiple_of(64) && bytes.ends_with(b"\n"));
            let written = String::from_utf8_lossy(&bytes[10..]);
            assert!(written.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': ("));
            assert!(written.contains(text), "{written}");
            let mut rest = &bytes[..];
            let header = Header::read(&mut rest).unwrap();
            assert_eq!((&header.shape[..], rest.len()), (shape, 0));
            assert_eq!(header.value_type(), Some(("f4", false)));
        }
    }

    #[test]
    fn wrong_beginnings_are_named() {
        let whole = Header::bytes("<f4", &[2]);
        for length in 0..whole.len() {
            let error = Header::read(&mut &whole[..length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
        let edited = |at: usize, value: u8| {
            let mut bytes = whole.clone();
            bytes[at] = value;
            Header::read(&mut &bytes[..]).unwrap_err().to_string()
        };
        assert_eq!(edited(1, b'n'), "it does not begin as one");
        assert_eq!(edited(6, 9), "its version is 9; 1 to 3 are known");
        assert_eq!(edited(20, 0xff), "its header is not text");
        assert_eq!(
            edited(10, b'['),
            "its header is not a dictionary of an array"
        );
        // Lengths of 65,536 and of one more.
        let long = [MAGIC, &[2, 0, 0, 0, 1, 0]].concat();
        let error = Header::read(&mut &long[..]).unwrap_err().to_string();
        assert_eq!(error, "its header is cut off");
        let long = [MAGIC, &[2, 0, 1, 0, 1, 0]].concat();
        let error = Header::read(&mut &long[..]).unwrap_err().to_string();
        assert_eq!(error, "its header is too long");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes: Vec<u8>, text in "[{}'(),:a-z0-9 ]{0,60}") {
            bytes.splice(0..0, MAGIC.iter().copied());
            let _ = Header::read(&mut &bytes[..]);
            let _ = parse(&text);
        }
    }
}
