//! The page of a run that trains, in a process of its own: what happens to one leaves the other whole.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::error::{Error, Result};

/// Starts nothing.
static NO_PROGRAM: OsString = OsString::new();

/// A page that ends when this value is dropped, or when the process that holds it ends in any way.
pub struct Companion {
    process: Child,
    url: String,
}

impl Companion {
    /// Starts `view RUN --while-open` of `program` (one word or several), which holds the page until its
    /// standard input is closed, and waits until it listens.
    ///
    /// # Errors
    /// [`Error::Start`] if the program cannot be started, or no words are given; [`Error::NoAddress`] if it ends without an
    /// address, having said why.
    pub fn start(program: &[OsString], run: &Path) -> Result<Self> {
        let (name, words) = program.split_first().unwrap_or((&NO_PROGRAM, &[]));
        let failed = |source| Error::Start {
            program: name.into(),
            source,
        };
        let process = Command::new(name)
            .args(words)
            .arg("view")
            .arg("--while-open")
            .arg("--")
            .arg(run)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut page = Self {
            process,
            url: String::new(),
        };
        if let Some(output) = page.process.stdout.take() {
            BufReader::new(output)
                .read_line(&mut page.url)
                .map_err(failed)?;
        }
        page.url.truncate(page.url.trim_end().len());
        match page.url.is_empty() {
            true => Err(Error::NoAddress),
            false => Ok(page),
        }
    }

    /// The address to open in a browser.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // Also if it is in the middle of an answer. It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
