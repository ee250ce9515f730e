//! The errors of this crate.

use std::path::PathBuf;

use dinolab_data::slice::SliceError;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

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
    /// A setting is out of its range.
    #[error("{field}: {reason}")]
    BadSetting {
        /// The setting, in kebab case.
        field: &'static str,
        /// Its range.
        reason: String,
    },
    /// A loss is NaN or infinite.
    #[error("the loss is {loss}: the learning rate {lr} is too high")]
    Diverged {
        /// The learning rate.
        lr: f64,
        /// The loss.
        loss: f64,
    },
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason of the operating system.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason of the operating system.
        source: std::io::Error,
    },
    /// A file was read but is not valid.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading a file of arrays failed.
    #[error(transparent)]
    Model(#[from] dinolab_nn::Error),
    /// Reading or preparing images failed.
    #[error(transparent)]
    Data(#[from] dinolab_data::Error),
    /// An image could not be encoded.
    #[error("picture: {0}")]
    Encode(#[from] image::ImageError),
}

impl Error {
    pub(crate) fn setting(field: &'static str, reason: impl Into<String>) -> Self {
        Self::BadSetting {
            field,
            reason: reason.into(),
        }
    }

    pub(crate) fn invalid(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            what,
            reason: reason.into(),
        }
    }
}
