//! Reading of image files, up to a size limit, and of parts of files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::{Error, Result};

/// The most bytes of an image's file: sixteen for each pixel of the largest image that is decoded by
/// default.
pub const MAX_BYTES: u64 = 1 << 32;

/// Reads the file of an image.
///
/// # Errors
/// [`Error::Io`], also for what is not a regular file, and [`Error::BadImage`] for a file of more than
/// [`MAX_BYTES`], which is not read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    regular(path).map_err(|source| Error::Io {
        path: path.to_path_buf(),
        source,
    })?;
    read_within(path, MAX_BYTES)
}

/// Reads bytes of an open file from `start` on, without moving the position that other threads share.
///
/// # Errors
/// As of the system; a file that ends before `bytes` are full.
#[cfg(unix)]
pub fn read_at(file: &File, start: u64, bytes: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, start)
}

/// Reads bytes of an open file from `start` on.
///
/// # Errors
/// As of the system; a file that ends before `bytes` are full.
#[cfg(windows)]
pub fn read_at(file: &File, mut start: u64, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, start)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                start += read as u64;
                bytes = &mut bytes[read..];
            }
        }
    }
    Ok(())
}

/// Fails for anything but a regular file: opening a pipe would wait for a writer, and a device may be
/// endless.
pub(crate) fn regular(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    match (found.is_file(), found.is_dir()) {
        (true, _) => Ok(()),
        (_, true) => Err(io::Error::other("a folder, not a file")),
        _ => Err(io::Error::other("a pipe, a socket or a device, not a file")),
    }
}

fn read_within(path: &Path, most: u64) -> Result<Vec<u8>> {
    let io = |source| Error::Io {
        path: path.to_path_buf(),
        source,
    };
    let large = || Error::BadImage {
        name: path.display().to_string(),
        reason: format!(
            "its file is larger than {:.1} GB, which no image is",
            most as f64 / 1e9
        ),
    };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length > most {
        return Err(large());
    }
    // Not every file says its length: devices and pipes do not.
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(most + 1).read_to_end(&mut bytes).map_err(io)?;
    match bytes.len() as u64 > most {
        true => Err(large()),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_files_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg");
        std::fs::write(&path, [7; 100]).unwrap();
        assert_eq!(read(&path).unwrap(), [7; 100]);
        assert_eq!(read_within(&path, 100).unwrap().len(), 100);
        let told = read_within(&path, 99).unwrap_err().to_string();
        assert!(told.contains("a.jpg") && told.contains("larger"), "{told}");
        // A file of 90 GB that takes no room on the disk.
        File::create(&path).unwrap().set_len(90 << 30).unwrap();
        assert!(matches!(read(&path), Err(Error::BadImage { .. })));
        assert!(matches!(
            read(&folder.path().join("b")),
            Err(Error::Io { .. })
        ));
        #[cfg(unix)]
        assert!(read_within("/dev/zero".as_ref(), 1 << 16).is_err());
    }
}
