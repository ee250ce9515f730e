//! Archives whose end misleads the reader of archives.
//!
//! `torch.save` ends every archive with the records of large ones (zip64), and fills in the old,
//! short record as well. The reader goes by the short one and takes the directory to lie right
//! before it, which is 76 bytes too late; it notices, unless a file's entry begins just there.
//! The first entry of a checkpoint whose name has 21 letters is 76 bytes long.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use super::super::io;
use crate::Result;

const END: &[u8] = b"PK\x05\x06";
const LOCATOR: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
/// Lengths of the short record at the very end, and of the locator before it.
const END_LENGTH: usize = 22;
const LOCATOR_LENGTH: usize = 20;

/// A checkpoint's path, or a corrected copy that goes when this does.
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

/// A copy whose short record says, as it should, to look at the long one.
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
