//! Arrays of `f32` in NumPy's `.npy` files.
//!
//! Written: format 1.0, little-endian, C order. Read: either byte order, C order.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use dinolab_data::npy::Header;
use dinolab_data::slice::check_length;

use crate::error::{Context, Error, Result};

/// Values read or written at a time.
const BLOCK: usize = 1 << 14;

/// An array read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Size of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values in C (row-major) order.
    pub data: Vec<f32>,
}

/// Writes `data`, in C order, as an array of `shape`, complete or not at all.
///
/// # Errors
/// [`Error::Slice`] if the length is not the product of `shape`; a file that cannot be written.
pub fn write_npy_f32(path: impl AsRef<Path>, shape: &[usize], data: &[f32]) -> Result<()> {
    let path = path.as_ref();
    check_length("array", shape.iter().product(), data.len())?;
    dinolab_files::write_whole(path, |out| write_npy_to(out, shape, data))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes an array whose length is the product of `shape`.
pub(crate) fn write_npy_to(
    out: &mut impl io::Write,
    shape: &[usize],
    data: &[f32],
) -> io::Result<()> {
    out.write_all(&Header::bytes("<f4", shape))?;
    let mut bytes = Vec::new();
    for block in data.chunks(BLOCK) {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|value| value.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Reads an array.
///
/// # Errors
/// A file that cannot be read, is not a complete `.npy` file, has values of another type or is in
/// Fortran order.
pub fn read_npy_f32(path: impl AsRef<Path>) -> Result<Array> {
    let path = path.as_ref();
    let wrong = |reason: String| Error::Invalid(format!("{}: {reason}", path.display()));
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            wrong(format!("not a readable .npy: {source}"))
        }
        _ => Error::In {
            what: path.display().to_string(),
            source: Box::new(source.into()),
        },
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut file = BufReader::new(file);
    let header = Header::read(&mut file).map_err(failed)?;
    let value: fn([u8; 4]) -> f32 = match header.value_type() {
        Some(("f4", false)) => f32::from_le_bytes,
        Some(("f4", true)) => f32::from_be_bytes,
        _ => {
            let found = &header.descr;
            return Err(wrong(format!("values of type {found}; wanted are f4")));
        }
    };
    let shape = header.shape;
    if header.fortran_order && shape.len() > 1 {
        return Err(wrong("Fortran order; save it in C order".into()));
    }
    // A header may claim anything: nothing is allocated that the file is too short for.
    let present = length.saturating_sub(file.stream_position().map_err(failed)?);
    let expected = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    let bytes = expected.and_then(|values| values.checked_mul(size_of::<f32>()));
    let (Some(expected), Some(bytes)) = (expected, bytes.filter(|&n| n as u64 <= present)) else {
        return Err(wrong(format!(
            "is cut short, or its shape {shape:?} is wrong"
        )));
    };
    let mut data = Vec::with_capacity(expected);
    let mut block = vec![0; BLOCK * size_of::<f32>()];
    let mut left = bytes;
    while left > 0 {
        let block = &mut block[..left.min(BLOCK * size_of::<f32>())];
        file.read_exact(block).map_err(failed)?;
        data.extend(block.as_chunks().0.iter().map(|&bytes| value(bytes)));
        left -= block.len();
    }
    Ok(Array { shape, data })
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
        for (shape, data) in [
            (&[3][..], &[1.0f32, 2.0, 3.0][..]),
            (&[1, 2, 1], &[1e30, -0.5]),
            (&[2, 0], &[]),
            // A scalar.
            (&[], &[f32::MIN]),
        ] {
            write_npy_f32(&path, shape, data).unwrap();
            let back = read_npy_f32(&path).unwrap();
            assert_eq!((&*back.shape, &*back.data), (shape, data));
        }
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
        let told = read_npy_f32(&path).unwrap_err().to_string();
        assert!(told.contains("a.npy: "), "{told}");
        assert!(write_npy_f32(&path, &[2, 2], &[1.0]).is_err());
        let whole = [Header::bytes("<i8", &[1]), 1i64.to_le_bytes().to_vec()].concat();
        std::fs::write(&path, whole).unwrap();
        assert!(read_npy_f32(&path).is_err());
        write_npy_f32(&path, &[9], &[1.0; 9]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert!(read_npy_f32(&path).is_err());
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
