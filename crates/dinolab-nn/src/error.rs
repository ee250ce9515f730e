//! What can go wrong with a model or its weights.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure names the file or field and the reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason the system gave.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason the system gave.
        source: std::io::Error,
    },
    /// A weight file is damaged, of an unknown format, or holds no network.
    #[error("{path}: {reason}")]
    BadWeights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A network was not written in another program's format.
    #[error("{path}: {reason}")]
    Export {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A tensor has another shape than the network.
    #[error("tensor {name}: the network has shape {expected:?}, the file has {found:?}")]
    Shape {
        /// The tensor's name in the network.
        name: String,
        /// The network's shape.
        expected: Vec<usize>,
        /// The file's shape.
        found: Vec<usize>,
    },
    /// Position embeddings are those of another image size; they could be resampled
    /// ([`crate::weights::LoadOptions`]).
    #[error(
        "tensor {name}: the network has position embeddings of shape {expected:?}, the file has \
         {found:?}"
    )]
    Positions {
        /// The tensor's name in the network.
        name: String,
        /// The network's shape.
        expected: Vec<usize>,
        /// The file's shape.
        found: Vec<usize>,
    },
    /// Tensors that the network needs are not in the file.
    #[error(
        "{missing} of the network's {total} tensors are not in the weights, the first is {first}"
    )]
    Missing {
        /// How many are missing.
        missing: usize,
        /// How many the network has.
        total: usize,
        /// The first one's name.
        first: String,
    },
    /// A model setting is out of its range.
    #[error("{field}: {reason}")]
    BadSetting {
        /// The setting, by its flag's name.
        field: &'static str,
        /// What it must be.
        reason: String,
    },
    /// A device was asked for that this build or machine does not have.
    #[error("device {name}: {reason}")]
    Device {
        /// The device as asked for.
        name: String,
        /// Why it cannot be used.
        reason: String,
    },
}
