//! Writing files whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Writes through `fill` to a temporary neighbour of `path`, syncs it and renames it to
/// `path`, so that a reader never sees half a file. Missing folders are made.
pub(crate) fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let mut file = Growing::create(path)?;
    file.write(fill)?;
    file.finish()
}

/// A file that is written in parts, under a temporary name until it is finished; dropped before that,
/// it is removed.
pub(crate) struct Growing {
    path: PathBuf,
    temporary: PathBuf,
    /// `None` once it has its name.
    out: Option<BufWriter<File>>,
}

impl Growing {
    /// Begins the file. Missing folders are made.
    pub fn create(path: &Path) -> Result<Self> {
        let error = |source| Error::Io {
            path: path.to_path_buf(),
            source,
        };
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(error)?;
        }
        let temporary = temporary_name(path);
        let out = BufWriter::new(File::create(&temporary).map_err(error)?);
        Ok(Self {
            path: path.to_path_buf(),
            temporary,
            out: Some(out),
        })
    }

    /// Goes on with it.
    pub fn write(
        &mut self,
        fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<()> {
        let out = self.out.as_mut().expect("not finished");
        fill(out).map_err(|source| Error::Io {
            path: self.path.clone(),
            source,
        })
    }

    /// Syncs it and gives it its name.
    pub fn finish(mut self) -> Result<()> {
        self.write(|out| {
            out.flush()?;
            out.get_ref().sync_all()
        })?;
        fs::rename(&self.temporary, &self.path).map_err(|source| Error::Io {
            path: self.path.clone(),
            source,
        })?;
        self.out = None;
        Ok(())
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if self.out.is_some() {
            // Best effort: the first error is the one worth telling.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A name beside `path` that nobody else uses.
pub(crate) fn temporary_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}
