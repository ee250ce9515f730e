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
    /// The output of a network for an image is NaN or infinite.
    #[error(
        "{image}: the network's output is not finite: its weights have diverged or are \
         damaged, or its precision is too low for them"
    )]
    NotFinite {
        /// The image's name.
        image: String,
    },
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
    /// Reading weights or building a network failed.
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

impl Error {
    /// Returns whether the error concerns a single image, which can be skipped.
    pub fn is_of_an_image(&self) -> bool {
        match self {
            Self::Data(error) => !error.is_unreachable(),
            Self::Model(dinolab_nn::Error::TooManyPatches { .. }) => true,
            Self::Invalid { what, .. } => *what == "image",
            _ => false,
        }
    }

    /// Returns whether a remote image could not be fetched.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Data(error) if error.is_unreachable())
    }
}
