//! What can go wrong in training.

use std::path::PathBuf;

use crate::divergence::Divergence;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure says what happened, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The loss is NaN or infinite.
    #[error("the loss is {loss} at step {step}: training has diverged")]
    NonFiniteLoss {
        /// The iteration, from 0.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// A checkpoint was not written, because a value in it is not finite.
    #[error("{tensor} holds values that are not finite after step {step}: training has diverged")]
    NonFiniteValues {
        /// Steps done.
        step: u64,
        /// The tensor, by its name in checkpoints.
        tensor: String,
    },
    /// A run diverged. Its checkpoints after the newest sound one are set aside.
    #[error("training diverged after {step} steps: {cause}")]
    Diverged {
        /// Steps done before the one that failed, or before the checkpoint that was not written.
        step: u64,
        /// What was seen.
        cause: Divergence,
        /// Steps done at the newest sound checkpoint, where there is one, and its file.
        sound: Option<(u64, PathBuf)>,
        /// The files of later checkpoints, which are not sound, under their new names.
        aside: Vec<PathBuf>,
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
    /// An operation among the processes of a run failed.
    #[error(transparent)]
    Ranks(#[from] dinolab_comm::Error),
    /// The processes of a run no longer have the same state.
    #[error(
        "{tensor} differs between processes 0 and {rank} after step {step}: a fault of the machine or \
             of the library that sums; run the same command again to resume from the last checkpoint"
    )]
    Drift {
        /// Steps done.
        step: u64,
        /// The first tensor that differs, by its name in checkpoints.
        tensor: String,
        /// The process that differs from process 0.
        rank: usize,
    },
    /// A model or its weights.
    #[error(transparent)]
    Model(#[from] dinolab_nn::Error),
    /// Images or crops.
    #[error(transparent)]
    Data(#[from] dinolab_data::Error),
}

impl Error {
    /// Whether images of another machine could not be fetched: the run can be resumed later.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Data(error) if error.is_unreachable())
    }

    /// Whether something went wrong between the processes of a run: the same command resumes from the
    /// last checkpoint.
    pub fn is_of_processes(&self) -> bool {
        matches!(
            self,
            Self::Ranks(dinolab_comm::Error::Mpi(_)) | Self::Drift { .. }
        )
    }

    /// Whether training diverged: the same settings would do so again.
    pub fn is_divergence(&self) -> bool {
        matches!(
            self,
            Self::NonFiniteLoss { .. } | Self::NonFiniteValues { .. } | Self::Diverged { .. }
        )
    }
}
