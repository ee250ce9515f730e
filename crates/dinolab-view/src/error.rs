//! The errors of this crate, and writing files with them.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use dinolab_data::slice::SliceError;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A slice does not have the length of its shape, or holds a value that is NaN or infinite.
    #[error(transparent)]
    Slice(#[from] SliceError),
    /// An argument is out of its range.
    #[error("{what}: {reason}")]
    Invalid {
        /// Which argument.
        what: &'static str,
        /// Why it is refused.
        reason: String,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason of the operating system.
        source: io::Error,
    },
    /// An image could not be resized.
    #[error(transparent)]
    Data(#[from] dinolab_data::Error),
    /// A picture could not be encoded.
    #[error("picture: {0}")]
    Picture(#[from] image::ImageError),
}

impl Error {
    pub(crate) fn invalid(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            what,
            reason: reason.into(),
        }
    }
}

/// [`dinolab_files::write_whole`] with an error that names the file.
pub(crate) fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    dinolab_files::write_whole(path, fill).map_err(unwritten(path))
}

/// The error for a file that could not be written.
pub(crate) fn unwritten(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |source| Error::Write {
        path: path.into(),
        source,
    }
}
