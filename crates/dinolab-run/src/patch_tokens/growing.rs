//! A file that is written in parts.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use dinolab_files::PartFile;

use crate::error::{Context, Result};
use crate::feature_set::unwritten;

/// A file that is written in parts, under a temporary name until it is finished; it is removed if it
/// is dropped before that.
pub(super) struct Growing {
    path: PathBuf,
    part: PartFile,
    out: BufWriter<File>,
}

impl Growing {
    /// Starts the file and creates missing folders.
    pub fn create(path: &Path) -> Result<Self> {
        let (part, file) = PartFile::create(path).with_context(|| unwritten(path))?;
        Ok(Self {
            path: path.to_path_buf(),
            part,
            out: BufWriter::new(file),
        })
    }

    /// Writes the next part.
    pub fn write(
        &mut self,
        fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<()> {
        fill(&mut self.out).with_context(|| unwritten(&self.path))
    }

    /// Flushes the file to disk and moves it to its name.
    pub fn finish(mut self) -> Result<()> {
        self.write(|out| {
            out.flush()?;
            out.get_ref().sync_all()
        })?;
        self.part.keep().with_context(|| unwritten(&self.path))
    }
}
