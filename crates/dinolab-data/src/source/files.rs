//! Files that are read by ranges, wherever they lie.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A large file of which parts are read, from several threads.
pub(super) trait RangeFile: Debug + Send + Sync {
    /// What the user knows it by; for errors.
    fn path(&self) -> &Path;

    /// Its length in bytes.
    fn len(&self) -> u64;

    /// The bytes of a range, all of them.
    fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>>;
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

impl RangeFile for LocalFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        if range.end > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let file = self.open.get(&self.path)?;
        let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
        read_at(&file, range.start, &mut bytes)?;
        Ok(bytes)
    }
}

/// Reads at a place without moving the position that other threads share.
#[cfg(unix)]
fn read_at(file: &File, start: u64, bytes: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, start)
}

#[cfg(windows)]
fn read_at(file: &File, mut start: u64, mut bytes: &mut [u8]) -> io::Result<()> {
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

/// A position in a [`RangeFile`], with a part of it in memory: for readers that go forward in
/// small steps.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    file: &'a dyn RangeFile,
    position: u64,
    block: usize,
    held_from: u64,
    held: Vec<u8>,
}

impl<'a> Cursor<'a> {
    /// At the file's start; reads `block` bytes at a time.
    pub(super) fn new(file: &'a dyn RangeFile, block: usize) -> Self {
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
            let end = (self.position + self.block as u64).min(self.file.len());
            self.held = self.file.read(self.position..end)?;
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

/// Reads ranges of a file that are given in its order: those that lie close together by one
/// read, large ones apart.
pub(super) fn read_in_order(
    file: &dyn RangeFile,
    ranges: &[Range<u64>],
) -> Vec<io::Result<Vec<u8>>> {
    /// Longer reads gain nothing, and all of a read is in memory at once.
    const LONGEST: u64 = 8 << 20;
    /// What it is quicker to read over than to skip.
    const GAP: u64 = 64 << 10;
    let mut all = Vec::with_capacity(ranges.len());
    let mut at = 0;
    while at < ranges.len() {
        let start = ranges[at].start;
        let mut end = ranges[at].end;
        let mut count = 1;
        while let Some(next) = ranges.get(at + count)
            && next.start >= end
            && next.start - end <= GAP
            && next.end - start <= LONGEST
        {
            end = next.end;
            count += 1;
        }
        let these = &ranges[at..at + count];
        match file.read(start..end) {
            Ok(bytes) if count == 1 => all.push(Ok(bytes)),
            Ok(bytes) => all.extend(these.iter().map(|range| {
                Ok(bytes[(range.start - start) as usize..(range.end - start) as usize].to_vec())
            })),
            // Each by itself: only some of them may be out of reach.
            Err(_) => all.extend(these.iter().map(|range| file.read(range.clone()))),
        }
        at += count;
    }
    all
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
    fn ranges_are_what_the_file_holds_there() {
        let root = tempfile::tempdir().unwrap();
        let (file, bytes) = file(root.path(), 300_000);
        let ranges = [3..9, 9..9, 20..1000, 200_000..299_999, 299_999..300_001];
        let read = read_in_order(&file, &ranges);
        for (range, read) in ranges[..4].iter().zip(&read) {
            let expected = &bytes[range.start as usize..range.end as usize];
            assert_eq!(read.as_ref().unwrap(), expected);
        }
        assert!(read[4].is_err());
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
