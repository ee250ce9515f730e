//! Writing files completely or not at all, with this crate's errors.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use dinolab_files::PartFile;

use crate::{Error, Result};

/// [`dinolab_files::write_whole`] with an error that names the file.
pub(crate) fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    dinolab_files::write_whole(path, fill).map_err(unwritten(path))
}

/// A file that is written in parts, under a temporary name until it is finished; it is removed if it
/// is dropped before that.
pub(crate) struct Growing {
    path: PathBuf,
    part: PartFile,
    out: BufWriter<File>,
}

impl Growing {
    /// Starts the file and creates missing folders.
    pub fn create(path: &Path) -> Result<Self> {
        let (part, file) = PartFile::create(path).map_err(unwritten(path))?;
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
        fill(&mut self.out).map_err(unwritten(&self.path))
    }

    /// Flushes the file to disk and moves it to its name.
    pub fn finish(mut self) -> Result<()> {
        self.write(|out| {
            out.flush()?;
            out.get_ref().sync_all()
        })?;
        self.part.keep().map_err(unwritten(&self.path))
    }
}

/// The error for a file that could not be written.
pub(crate) fn unwritten(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |source| Error::Write {
        path: path.into(),
        source,
    }
}
