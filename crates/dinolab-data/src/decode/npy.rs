//! NumPy's `.npy` arrays as images.
//!
//! The format is a magic number, a version, the length of a header, the header (a Python
//! dictionary of three keys) and the values. The header is read by a small parser of just that
//! dictionary: it knows no nesting, so that no file can lead it astray.

use super::refused::Reason;
use crate::Image;
use crate::image::Depth;

const MAGIC: &[u8] = b"\x93NUMPY";
/// A header that is longer is none of an image.
const LONGEST_HEADER: usize = 1 << 16;

/// Whether the first bytes of a file are those of an array.
pub(super) fn is_array(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// What a header says.
#[derive(Debug, PartialEq)]
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// Height, width, channels and the depth, and where the values begin. Nothing is allocated by
/// what the header says.
pub(super) struct Layout {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) depth: Depth,
    big_endian: bool,
    values: usize,
}

pub(super) fn layout(bytes: &[u8]) -> Result<Layout, Reason> {
    let damaged = |what: &str| format!("damaged .npy: {what}");
    let short = || damaged("its header is cut off");
    let (&major, start) = (bytes.get(6).ok_or_else(short)?, 8);
    let (length, start) = match major {
        1 => match bytes.get(start..start + 2) {
            Some(&[a, b]) => (usize::from(u16::from_le_bytes([a, b])), start + 2),
            _ => return Err(short()),
        },
        2 | 3 => match bytes.get(start..start + 4) {
            Some(&[a, b, c, d]) => (u32::from_le_bytes([a, b, c, d]) as usize, start + 4),
            _ => return Err(short()),
        },
        other => return Err(format!(".npy of version {other}, known are 1 to 3")),
    };
    if length > LONGEST_HEADER {
        return Err(damaged("its header is too long"));
    }
    let header = bytes.get(start..start + length).ok_or_else(short)?;
    let header = std::str::from_utf8(header).map_err(|_| damaged("its header is no text"))?;
    let header = parse(header).ok_or_else(|| damaged("its header is no dictionary"))?;
    let (height, width, channels) = match header.shape[..] {
        [height, width] => (height, width, 1),
        [height, width, channels] => (height, width, channels),
        _ => {
            return Err(format!(
                "an array of {} dimensions is no image; wanted are [height, width] or \
                 [height, width, channels]",
                header.shape.len()
            ));
        }
    };
    if header.fortran_order {
        return Err("the array is in Fortran order; save it in C order".into());
    }
    // The first character may be of several bytes.
    let (order, kind) = header.descr.split_at_checked(1).unwrap_or_default();
    let depth = match kind {
        "u1" => Depth::Eight,
        "u2" => Depth::Sixteen,
        "f4" => Depth::Float,
        _ => {
            return Err(format!(
                "an array of type {}; wanted are uint8, uint16 or float32 in 0–1",
                header.descr
            ));
        }
    };
    let big_endian = match order {
        "<" | "|" => false,
        ">" => true,
        "=" => cfg!(target_endian = "big"),
        _ => return Err(damaged("its type has no byte order")),
    };
    Ok(Layout {
        width,
        height,
        channels,
        depth,
        big_endian,
        values: start + length,
    })
}

/// The values of an array whose layout was found fit.
pub(super) fn image(bytes: &[u8], layout: &Layout) -> Result<Image, Reason> {
    let Layout {
        width,
        height,
        channels,
        depth,
        ..
    } = *layout;
    let wanted = [width, height, channels, depth.bytes()]
        .iter()
        .try_fold(1usize, |product, &n| product.checked_mul(n))
        .ok_or("the array is too large")?;
    let values = &bytes[layout.values..];
    if values.len() != wanted {
        return Err(format!(
            "damaged .npy: {} bytes of values instead of {wanted}",
            values.len()
        ));
    }
    let mut data = values.to_vec();
    if layout.big_endian != cfg!(target_endian = "big") {
        data.chunks_exact_mut(depth.bytes())
            .for_each(<[u8]>::reverse);
    }
    Ok(Image {
        width,
        height,
        channels,
        depth,
        data,
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
    use super::*;
    use proptest::prelude::*;

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
    fn types_that_are_none_are_told() {
        for descr in ["", "u", "é4", "<é", "\u{99}4", "<c8"] {
            let header = format!("{{'descr':'{descr}','fortran_order':False,'shape':(2,2)}}");
            let length = (header.len() as u16).to_le_bytes();
            let file = [MAGIC, &[1, 0], &length, header.as_bytes(), &[0; 4]].concat();
            let told = layout(&file).err().unwrap();
            assert!(told.starts_with("an array of type "), "{descr}: {told}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes: Vec<u8>, text in "[{}'(),:a-z0-9 ]{0,60}") {
            bytes.splice(0..0, MAGIC.iter().copied());
            let _ = layout(&bytes).and_then(|layout| image(&bytes, &layout));
            let _ = parse(&text);
        }
    }
}
