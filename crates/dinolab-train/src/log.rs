//! `metrics.jsonl`: one line per logged step, epoch and evaluation.
//!
//! Lines hold only what the run computes, never times, so that the file of a resumed run
//! equals that of an unbroken one byte for byte. Each line has `step`, the number of steps
//! done when it was written; lines after a checkpoint are cut off when it is resumed.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::checkpoint::write_atomically;
use crate::{Error, Result};

/// An append-only file of JSON lines.
pub struct Log {
    path: PathBuf,
    file: BufWriter<fs::File>,
}

/// All complete lines of a log; none where there is no file.
///
/// # Errors
/// [`Error::Io`].
pub fn read(path: &Path) -> Result<Vec<Map<String, Value>>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => {
            return Err(Error::Io {
                path: path.into(),
                source,
            });
        }
    };
    // A line that was cut off by a crash does not parse and is not there.
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

impl Log {
    /// Opens a log for appending, without the lines written after `step` steps; empty for a
    /// run that begins, which writes those of step 0 itself.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let kept: String = read(path)?
            .into_iter()
            .filter(|line| {
                let at = line.get("step").and_then(Value::as_u64);
                step > 0 && at.is_some_and(|at| at <= step)
            })
            .map(|line| Value::Object(line).to_string() + "\n")
            .collect();
        write_atomically(path, kept.as_bytes())?;
        let file = fs::OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(|source| Error::Io {
                path: path.into(),
                source,
            })?;
        Ok(Self {
            path: path.into(),
            file: BufWriter::new(file),
        })
    }

    /// Appends a line of `kind` after `step` steps, with the fields of `value`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, kind: &str, step: u64, value: &impl serde::Serialize) -> Result<()> {
        let mut line = Map::new();
        line.insert("kind".into(), kind.into());
        line.insert("step".into(), step.into());
        if let Ok(Value::Object(fields)) = serde_json::to_value(value) {
            line.extend(fields.into_iter().filter(|(key, _)| key != "step"));
        }
        let io = |source| Error::Io {
            path: self.path.clone(),
            source,
        };
        let written = writeln!(self.file, "{}", Value::Object(line));
        // So that the run can be watched.
        written.and_then(|()| self.file.flush()).map_err(io)
    }

    /// Brings all lines to the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<()> {
        let io = |source| Error::Io {
            path: self.path.clone(),
            source,
        };
        self.file.flush().map_err(io)?;
        self.file.get_ref().sync_data().map_err(io)
    }
}
