//! A file of JSON lines that may grow, be rewritten, become shorter or vanish between two looks at it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;

use dinolab_run::report::charts::Line;

/// Bytes before the place read up to that must be the same at the next look.
const REMEMBERED: usize = 256;

/// The complete lines of a file, of which only what is new is read again.
pub struct Tail {
    path: PathBuf,
    lines: Vec<Line>,
    read: u64,
    /// The last bytes that were read; a rewritten file has others there.
    last: Vec<u8>,
}

impl Tail {
    /// Nothing of the file at `path` has been read.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            lines: Vec::new(),
            read: 0,
            last: Vec::new(),
        }
    }

    /// The lines of the last look.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Looks at the file; returns whether the lines are others than before. A file that cannot be read at
    /// the moment changes nothing.
    pub fn refresh(&mut self) -> bool {
        match self.look() {
            Ok(changed) => changed,
            Err(error) if error.kind() == ErrorKind::NotFound => self.forget(),
            Err(_) => false,
        }
    }

    fn look(&mut self) -> io::Result<bool> {
        let mut file = File::open(&self.path)?;
        let mut changed = false;
        if !self.continues(&mut file)? {
            changed = self.forget();
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut new = Vec::new();
        file.read_to_end(&mut new)?;
        // The rest of the last line is still being written.
        let Some(end) = new.iter().rposition(|&byte| byte == b'\n') else {
            return Ok(changed);
        };
        let whole = &new[..=end];
        let lines = whole.split(|&byte| byte == b'\n');
        // A line that a crash cut off does not parse.
        self.lines
            .extend(lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok()));
        self.read += whole.len() as u64;
        self.last.extend_from_slice(whole);
        let old = self.last.len().saturating_sub(REMEMBERED);
        self.last.drain(..old);
        Ok(true)
    }

    /// Whether the file still begins with what was read of it.
    fn continues(&self, file: &mut File) -> io::Result<bool> {
        if file.metadata()?.len() < self.read {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(self.read - self.last.len() as u64))?;
        let mut there = vec![0; self.last.len()];
        file.read_exact(&mut there)?;
        Ok(there == self.last)
    }

    fn forget(&mut self) -> bool {
        self.read = 0;
        self.last.clear();
        let had = !self.lines.is_empty();
        self.lines.clear();
        had
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn steps(tail: &Tail) -> Vec<u64> {
        let step = |line: &Line| line["step"].as_u64().unwrap();
        tail.lines().iter().map(step).collect()
    }

    #[test]
    fn lines_are_those_of_the_file_whatever_happened_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut tail = Tail::new(path.clone());
        assert!(!tail.refresh(), "no file");
        fs::write(&path, "{\"step\":1}\n{\"step\":2}\n{\"st").unwrap();
        assert!(tail.refresh());
        assert_eq!(steps(&tail), [1, 2]);
        assert!(!tail.refresh(), "half a line");
        let append = |text: &str| {
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append("ep\":3}\nnot json\n{\"step\":4}\n");
        assert!(tail.refresh());
        assert_eq!(steps(&tail), [1, 2, 3, 4]);
        fs::write(&path, "{\"step\":1}\n").unwrap();
        assert!(tail.refresh(), "resumed from an earlier step");
        assert_eq!(steps(&tail), [1]);
        fs::write(&path, "{\"step\":7}\n{\"step\":8}\n{\"step\":9}\n").unwrap();
        assert!(tail.refresh(), "another run in its place");
        assert_eq!(steps(&tail), [7, 8, 9]);
        fs::remove_file(&path).unwrap();
        assert!(tail.refresh());
        assert!(steps(&tail).is_empty());
        assert!(!tail.refresh());
    }
}
