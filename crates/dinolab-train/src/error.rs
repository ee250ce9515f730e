//! What can go wrong in training.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure says what happened, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The loss is no longer a number.
    #[error(
        "the loss is {loss} at step {step}: training has diverged. The last checkpoint is from \
         before and intact; resume it with a lower --lr, or with --clip-grad 3 and more \
         --warmup-epochs"
    )]
    NonFiniteLoss {
        /// The iteration.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// A setting is out of its range.
    #[error("{field}: {reason}")]
    BadSetting {
        /// The setting, by its flag's name.
        field: &'static str,
        /// What it must be.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason the system gave.
        source: std::io::Error,
    },
    /// A checkpoint is damaged, or of a later version of the program.
    #[error("checkpoint {path}: {reason}")]
    BadCheckpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What watched the run failed: an evaluation, a picture, a file of the run folder.
    #[error("{0}")]
    Observer(String),
    /// A model or its weights.
    #[error(transparent)]
    Model(#[from] dinolab_nn::Error),
    /// Images or crops.
    #[error(transparent)]
    Data(#[from] dinolab_data::Error),
}

impl Error {
    /// Whether images of another machine could not be fetched: the run can go on another time.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Data(error) if error.is_unreachable())
    }
}
