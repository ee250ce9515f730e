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
    /// A file was read but is not valid.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Building a network, or running it on images of this size, failed.
    #[error(transparent)]
    Model(#[from] dinolab_nn::Error),
    /// Reading or preparing images failed.
    #[error(transparent)]
    Data(#[from] dinolab_data::Error),
    /// Any other error of what is scored or trained on features.
    #[error(transparent)]
    Eval(dinolab_eval::Error),
}

/// Maps variants that both crates have onto this one, so that callers match a single enum.
impl From<dinolab_eval::Error> for Error {
    fn from(error: dinolab_eval::Error) -> Self {
        match error {
            dinolab_eval::Error::Slice(error) => Self::Slice(error),
            dinolab_eval::Error::Invalid { what, reason } => Self::Invalid { what, reason },
            dinolab_eval::Error::BadSetting { field, reason } => Self::BadSetting { field, reason },
            dinolab_eval::Error::Diverged { lr, loss } => Self::Diverged { lr, loss },
            dinolab_eval::Error::Format { path, reason } => Self::Format { path, reason },
            dinolab_eval::Error::Model(error) => Self::Model(error),
            dinolab_eval::Error::Data(error) => Self::Data(error),
            error => Self::Eval(error),
        }
    }
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
