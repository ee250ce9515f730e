//! A workaround for archives whose end of directory is ambiguous.
//!
//! `torch.save` ends every archive with the records of large archives (zip64) and fills in the old,
//! short record as well. The `zip` crate uses the short one and expects the directory immediately
//! before it, 76 bytes too late. It detects this, unless an entry begins at that very place: the first
//! entry of a checkpoint whose name has 21 letters is 76 bytes long.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use super::super::io;
use crate::Result;

const END: &[u8] = b"PK\x05\x06";
const LOCATOR: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
/// Lengths of the short record at the end and of the locator before it.
const END_LENGTH: usize = 22;
const LOCATOR_LENGTH: usize = 20;

/// The path of a checkpoint, or of a corrected copy that is removed on drop.
pub(super) enum Archive {
    Original(PathBuf),
    Copy(TempPath),
}

impl Archive {
    pub fn of(path: &Path) -> Result<Self> {
        if !misleads(path).map_err(io(path))? {
            return Ok(Self::Original(path.into()));
        }
        corrected(path).map(Self::Copy).map_err(io(path))
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Original(path) => path,
            Self::Copy(path) => path,
        }
    }
}

fn misleads(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut tail = [0; END_LENGTH + LOCATOR_LENGTH];
    let Some(at) = length.checked_sub(tail.len() as u64) else {
        return Ok(false);
    };
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut tail)?;
    let (locator, end) = tail.split_at(LOCATOR_LENGTH);
    if !locator.starts_with(LOCATOR) || !end.starts_with(END) {
        return Ok(false);
    }
    let size = u32::from_le_bytes([end[12], end[13], end[14], end[15]]);
    let start = (length - END_LENGTH as u64).checked_sub(u64::from(size));
    let Some(start) = start.filter(|_| size != u32::MAX) else {
        return Ok(false);
    };
    let mut entry = [0; 4];
    file.seek(SeekFrom::Start(start))?;
    Ok(file.read_exact(&mut entry).is_ok() && entry == ENTRY)
}

/// Writes a copy whose short record refers to the long one, as the format requires.
fn corrected(path: &Path) -> std::io::Result<TempPath> {
    let mut copy = NamedTempFile::new()?;
    std::io::copy(&mut fs::File::open(path)?, &mut copy)?;
    let end = copy.as_file().metadata()?.len() - END_LENGTH as u64;
    copy.seek(SeekFrom::Start(end + 8))?;
    // Two counts of entries, the directory's size and its place.
    copy.write_all(&[0xFF; 12])?;
    copy.flush()?;
    Ok(copy.into_temp_path())
}
