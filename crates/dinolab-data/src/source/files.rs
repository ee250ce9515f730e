//! Files that are read in ranges, local or remote.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use crate::Error;

/// A large file of which parts are read, from several threads.
pub(super) trait ReadRange: Debug + Send + Sync {
    /// Its name in errors.
    fn path(&self) -> &Path;

    /// Its length in bytes.
    fn len(&self) -> u64;

    /// How many bytes are read at a time by who goes forward in small steps: `block`, unless
    /// asking costs so much that it depends on how many were `skipped` since the last read.
    fn ahead(&self, skipped: u64, block: usize) -> usize {
        let _ = skipped;
        block
    }

    /// See [`crate::Source::stamp`].
    fn stamp(&self) -> Option<(u64, i64)> {
        stamp_of(self.path())
    }

    /// Reads the bytes from `start` on.
    fn read(&self, start: u64, bytes: &mut [u8]) -> io::Result<()>;
}

pub(super) fn io_error(path: &Path, source: std::io::Error) -> Error {
    // What a `ReadRange` of another machine met comes as it was.
    source.downcast().unwrap_or_else(|source| Error::Io {
        path: path.to_path_buf(),
        source,
    })
}

/// [`Source::stamp`](crate::Source::stamp) of a local file.
pub(super) fn stamp_of(file: &Path) -> Option<(u64, i64)> {
    let found = file.metadata().ok()?;
    let since = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((found.len(), i64::try_from(since.as_nanos()).ok()?))
}

/// Handles of the files that were read last, so that neither each read opens its file anew nor
/// thousands of shards stay open.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    recent: Mutex<VecDeque<(PathBuf, Arc<File>)>>,
}

impl OpenFiles {
    /// More than the threads that read at a time.
    const MOST: usize = 64;

    fn get(&self, path: &Path) -> io::Result<Arc<File>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = recent.iter().position(|(of, _)| of == path) {
            let (of, file) = recent.remove(at).expect("it was found there");
            recent.push_back((of, Arc::clone(&file)));
            return Ok(file);
        }
        crate::file::regular(path)?;
        let file = Arc::new(File::open(path)?);
        if recent.len() >= Self::MOST {
            recent.pop_front();
        }
        recent.push_back((path.to_path_buf(), Arc::clone(&file)));
        Ok(file)
    }
}

/// A file of this machine.
#[derive(Debug)]
pub(super) struct LocalFile {
    path: PathBuf,
    length: u64,
    open: Arc<OpenFiles>,
}

impl LocalFile {
    /// A file that must exist.
    pub(super) fn new(path: &Path, open: &Arc<OpenFiles>) -> io::Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            length: open.get(path)?.metadata()?.len(),
            open: Arc::clone(open),
        })
    }
}

impl ReadRange for LocalFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn read(&self, start: u64, bytes: &mut [u8]) -> io::Result<()> {
        crate::file::read_at(&*self.open.get(&self.path)?, start, bytes)
    }
}

/// A position in a [`ReadRange`], with a part of it in memory: for readers that go forward in
/// small steps.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    file: &'a dyn ReadRange,
    position: u64,
    block: usize,
    held_from: u64,
    held: Vec<u8>,
}

impl<'a> Cursor<'a> {
    /// At the file's start; reads `block` bytes at a time.
    pub(super) fn new(file: &'a dyn ReadRange, block: usize) -> Self {
        Self {
            file,
            position: 0,
            block,
            held_from: 0,
            held: Vec::new(),
        }
    }
}

impl io::Read for Cursor<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() || self.position >= self.file.len() {
            return Ok(0);
        }
        let held = self.held_from..self.held_from + self.held.len() as u64;
        if !held.contains(&self.position) {
            let left = self.file.len() - self.position;
            let skipped = self.position.saturating_sub(held.end);
            let block = self.file.ahead(skipped, self.block);
            self.held.resize(left.min(block as u64) as usize, 0);
            self.file.read(self.position, &mut self.held)?;
            self.held_from = self.position;
        }
        let from = (self.position - self.held_from) as usize;
        let count = bytes.len().min(self.held.len() - from);
        bytes[..count].copy_from_slice(&self.held[from..from + count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl io::Seek for Cursor<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let position = match to {
            io::SeekFrom::Start(at) => Some(at),
            io::SeekFrom::Current(by) => self.position.checked_add_signed(by),
            io::SeekFrom::End(by) => self.file.len().checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom};

    use super::*;

    fn file(root: &Path, length: usize) -> (LocalFile, Vec<u8>) {
        let path = root.join("a");
        let bytes: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        (LocalFile::new(&path, &Arc::default()).unwrap(), bytes)
    }

    #[test]
    fn a_cursor_reads_as_the_file_itself() {
        let root = tempfile::tempdir().unwrap();
        let (file, bytes) = file(root.path(), 5000);
        let mut cursor = Cursor::new(&file, 64);
        let mut head = [0; 100];
        cursor.read_exact(&mut head).unwrap();
        assert_eq!(head, bytes[..100]);
        cursor.seek(SeekFrom::Current(1000)).unwrap();
        let mut rest = Vec::new();
        cursor.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, bytes[1100..]);
        assert!(cursor.seek(SeekFrom::Current(-6000)).is_err());
    }
}
