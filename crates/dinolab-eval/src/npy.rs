//! Arrays in NumPy's `.npy` files.
//!
//! Written: format 1.0, little-endian, C order. Read: either byte order, C order.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use dinolab_data::npy::Header;
use dinolab_data::slice::check_length;

use crate::file::write_whole;
use crate::{Error, Result};

/// Values read or written at a time.
const BLOCK: usize = 1 << 14;

/// A supported type of values: `f32`, `f64`, `u8`, `i64`.
pub trait Element: Copy + private::Sealed {}

mod private {
    pub trait Sealed: Sized {
        /// Type of the values, with the byte order that is written.
        const DESCR: &'static str;
        /// Values of little-endian or, if so, big-endian bytes.
        fn values(bytes: &[u8], big_endian: bool) -> impl Iterator<Item = Self>;
        /// Adds a value's bytes in little-endian order.
        fn put(self, bytes: &mut Vec<u8>);
    }
}

macro_rules! elements {
    ($($t:ty: $descr:literal),*) => {$(
        impl private::Sealed for $t {
            const DESCR: &'static str = $descr;

            fn values(bytes: &[u8], big_endian: bool) -> impl Iterator<Item = Self> {
                let value = if big_endian { <$t>::from_be_bytes } else { <$t>::from_le_bytes };
                bytes.as_chunks().0.iter().map(move |&bytes| value(bytes))
            }

            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }
        }
        impl Element for $t {}
    )*};
}
elements!(f32: "<f4", f64: "<f8", u8: "|u1", i64: "<i8");

/// An array read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T> {
    /// Size of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values in C (row-major) order.
    pub data: Vec<T>,
}

/// Writes `data`, in C order, as an array of `shape`, complete or not at all.
///
/// # Errors
/// [`Error::Slice`] if the length is not the product of `shape`, [`Error::Write`] if the file
/// cannot be written.
pub fn write_npy<T: Element>(path: impl AsRef<Path>, shape: &[usize], data: &[T]) -> Result<()> {
    check_length("array", shape.iter().product(), data.len())?;
    write_whole(path.as_ref(), |out| npy_to(out, shape, data))
}

/// Writes an array whose length is the product of `shape`.
pub(crate) fn npy_to<T: Element>(
    out: &mut impl io::Write,
    shape: &[usize],
    data: &[T],
) -> io::Result<()> {
    out.write_all(&Header::bytes(T::DESCR, shape))?;
    let mut bytes = Vec::new();
    for block in data.chunks(BLOCK) {
        bytes.clear();
        block.iter().for_each(|value| value.put(&mut bytes));
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// [`write_npy`] for `f32`.
///
/// # Errors
/// As [`write_npy`].
pub fn write_npy_f32(path: impl AsRef<Path>, shape: &[usize], data: &[f32]) -> Result<()> {
    write_npy(path, shape, data)
}

/// Reads an array with values of type `T`.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Format`] if it is not a complete `.npy` file,
/// has values of another type or is in Fortran order.
pub fn read_npy<T: Element>(path: impl AsRef<Path>) -> Result<Array<T>> {
    let path = path.as_ref();
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Error::Format {
            path: path.to_path_buf(),
            reason: format!("not a readable .npy: {source}"),
        },
        _ => Error::Io {
            path: path.to_path_buf(),
            source,
        },
    };
    let wrong = |reason: String| Error::Format {
        path: path.to_path_buf(),
        reason,
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut file = BufReader::new(file);
    let header = Header::read(&mut file).map_err(failed)?;
    let kind = &T::DESCR[1..];
    let big_endian = match header.value_type() {
        Some((found, big_endian)) if found == kind => big_endian,
        _ => {
            let found = &header.descr;
            return Err(wrong(format!("values of type {found}; wanted are {kind}")));
        }
    };
    let shape = header.shape;
    if header.fortran_order && shape.len() > 1 {
        return Err(wrong("Fortran order; save it in C order".into()));
    }
    // A header may claim anything: nothing is allocated that the file is too short for.
    let present = length.saturating_sub(file.stream_position().map_err(failed)?);
    let expected = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    let bytes = expected.and_then(|values| values.checked_mul(size_of::<T>()));
    let (Some(expected), Some(bytes)) = (expected, bytes.filter(|&n| n as u64 <= present)) else {
        return Err(wrong(format!(
            "is cut short, or its shape {shape:?} is wrong"
        )));
    };
    let mut data = Vec::with_capacity(expected);
    let mut block = vec![0; BLOCK * size_of::<T>()];
    let mut left = bytes;
    while left > 0 {
        let block = &mut block[..left.min(BLOCK * size_of::<T>())];
        file.read_exact(block).map_err(failed)?;
        data.extend(T::values(block, big_endian));
        left -= block.len();
    }
    Ok(Array { shape, data })
}

/// [`read_npy`] for `f32`.
///
/// # Errors
/// As [`read_npy`].
pub fn read_npy_f32(path: impl AsRef<Path>) -> Result<Array<f32>> {
    read_npy(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_as_the_format_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/a.npy");
        let data = [1.0f32, -2.5, 3.25, 0.0, f32::MAX, -0.0];
        write_npy_f32(&path, &[2, 3], &data).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + header) % 16, 0);
        let text = std::str::from_utf8(&bytes[10..10 + header]).unwrap();
        assert!(text.ends_with('\n'));
        let text: String = text.split_whitespace().collect();
        for part in ["'descr':'<f4'", "'fortran_order':False", "'shape':(2,3,)"] {
            let plain = text.replace(",)", ")");
            assert!(plain.contains(&part.replace(",)", ")")), "{part} in {text}");
        }
        let body: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(&bytes[10 + header..], body);
        let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary file stays");
    }

    #[test]
    fn round_trips() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        macro_rules! check {
            ($t:ty, $shape:expr, $data:expr) => {
                write_npy::<$t>(&path, &$shape, &$data).unwrap();
                let back = read_npy::<$t>(&path).unwrap();
                assert_eq!((back.shape, back.data), ($shape.to_vec(), $data.to_vec()));
            };
        }
        check!(f32, [3], [1.0, 2.0, 3.0]);
        check!(f64, [1, 2, 1], [1e300, -0.5]);
        check!(u8, [4], [0, 1, 127, 255]);
        check!(i64, [2, 0], []);
        let scalar: [usize; 0] = [];
        check!(i64, scalar, [i64::MIN]);
    }

    #[test]
    fn either_byte_order_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let values: Vec<f32> = (0..2 * BLOCK + 3).map(|i| i as f32 - 0.5).collect();
        let mut bytes = Header::bytes(">f4", &[values.len()]);
        bytes.extend(values.iter().flat_map(|v| v.to_be_bytes()));
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_npy_f32(&path).unwrap().data, values);
        write_npy_f32(&path, &[values.len()], &values).unwrap();
        assert_eq!(read_npy_f32(&path).unwrap().data, values);
    }

    #[test]
    fn wrong_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        assert!(matches!(read_npy_f32(&path), Err(Error::Io { .. })));
        assert!(write_npy_f32(&path, &[2, 2], &[1.0]).is_err());
        write_npy::<i64>(&path, &[1], &[1]).unwrap();
        assert!(matches!(read_npy_f32(&path), Err(Error::Format { .. })));
        write_npy_f32(&path, &[9], &[1.0; 9]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert!(matches!(read_npy_f32(&path), Err(Error::Format { .. })));
        std::fs::write(&path, b"something else").unwrap();
        let told = read_npy_f32(&path).unwrap_err().to_string();
        assert!(told.contains("a.npy"), "{told}");
        let fortran =
            String::from_utf8_lossy(&Header::bytes("<f4", &[0, 2])[8..]).replace("False", "True ");
        let fortran = [&b"\x93NUMPY\x01\x00"[..], fortran.as_bytes()].concat();
        for (header, reason) in [
            (Header::bytes("<f4", &[1 << 40]), "is cut short"),
            (Header::bytes("<f4", &[usize::MAX, 2]), "is cut short"),
            (Header::bytes("<f2", &[0]), "values of type <f2"),
            (fortran, "Fortran order"),
        ] {
            std::fs::write(&path, header).unwrap();
            let told = read_npy_f32(&path).unwrap_err().to_string();
            assert!(told.contains(reason), "{told}");
        }
    }
}
