//! Arrays in NumPy's `.npy` files, by the crate npyz.
//!
//! Written: format 1.0, little-endian, C order. Read: either byte order, C order.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use npyz::{AutoSerialize, Deserialize, NpyFile, Order, WriterBuilder};

use crate::error::check_length;
use crate::file::write_whole;
use crate::{Error, Result};

/// A supported type of values: `f32`, `f64`, `u8`, `i64`.
pub trait Element: AutoSerialize + Deserialize + Copy + private::Sealed {}

mod private {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($t:ty),*) => {$(
        impl private::Sealed for $t {}
        impl Element for $t {}
    )*};
}
elements!(f32, f64, u8, i64);

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
/// [`Error::Length`] if the length is not the product of `shape`, [`Error::Write`] if the file
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
    let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
    let mut npy = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&shape)
        .writer(out)
        .begin_nd()?;
    npy.extend(data.iter())?;
    npy.finish()
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
    let npy = NpyFile::new(BufReader::new(file)).map_err(failed)?;
    let shape: Vec<usize> = npy
        .shape()
        .iter()
        .map(|&n| usize::try_from(n))
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| wrong(format!("shape: {e}")))?;
    if npy.order() == Order::Fortran && shape.len() > 1 {
        return Err(wrong("Fortran order; save it in C order".into()));
    }
    // A header may claim anything; a value takes at least a byte.
    let expected = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    let Some(expected) = expected.filter(|&values| values as u64 <= length) else {
        return Err(wrong(format!(
            "is cut short, or its shape {shape:?} is wrong"
        )));
    };
    let values = npy.data::<T>().map_err(|e| wrong(format!("values: {e}")))?;
    let data = values.collect::<io::Result<Vec<T>>>().map_err(failed)?;
    if data.len() != expected {
        let reason = format!("{} values for a shape of {expected}", data.len());
        return Err(wrong(reason));
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
    }
}
