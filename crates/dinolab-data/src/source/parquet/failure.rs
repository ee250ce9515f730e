//! Errors of a part of a file.

use std::io;
use std::path::Path;

use crate::Error;
use crate::decode::Reason;
use crate::source::files::io_error;

/// Why a part of a file cannot be had.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is damaged, or of a kind that is not read.
    Bad(Reason),
    /// Reading failed, and may not fail again.
    Read(io::Error),
}

impl<T: Into<String>> From<T> for Failure {
    fn from(reason: T) -> Self {
        Self::Bad(reason.into())
    }
}

impl Failure {
    /// Of a whole file.
    pub(super) fn of_file(self, path: &Path) -> Error {
        match self {
            Self::Bad(reason) => Error::BadSource {
                path: path.to_path_buf(),
                reason,
            },
            Self::Read(source) => io_error(path, source),
        }
    }

    /// Of one image.
    pub(super) fn of_image(self, path: &Path, name: String) -> Error {
        match self {
            Self::Bad(reason) => Error::BadImage { name, reason },
            read => read.of_file(path),
        }
    }
}
