//! The crate's error type.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure names the file (or field) and the reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// What was being read.
        path: PathBuf,
        /// The reason the system gave.
        source: std::io::Error,
    },
    /// A remote object could not be read or written after several attempts, or it has changed. This is
    /// not an error of one image: it ends an epoch, and may succeed later.
    #[error("cannot reach {location}: {reason} ({attempts} {})", if *attempts == 1 { "attempt" } else { "attempts" })]
    Unreachable {
        /// The location that was requested.
        location: String,
        /// The number of attempts.
        attempts: u32,
        /// Why the last attempt failed.
        reason: String,
    },
    /// A file is not an image that can be used: truncated, empty, of an unknown
    /// format, too small, or over the pixel limit.
    #[error("{name}: {reason}")]
    BadImage {
        /// The image's name within its source.
        name: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// More images than allowed could not be used.
    #[error(
        "{bad} of {total} images cannot be used, more than the limit of {limit_percent}%; \
         the first: {first}"
    )]
    TooManyUnusable {
        /// Unusable images found so far.
        bad: usize,
        /// Images in the source.
        total: usize,
        /// The limit, in percent of the source.
        limit_percent: f64,
        /// Name and reason of the first one.
        first: String,
    },
    /// The source has no image that can be used.
    #[error("{path}: no usable image: {reason}")]
    NoImages {
        /// The source.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// A folder holds NumPy arrays and no other images; arrays count as images only if channels are
    /// taken as stored ([`Pixels::Stored`](crate::Pixels::Stored)).
    #[error(
        "{path}: no usable image: the folder contains {arrays} .npy {}, which are images only if \
         files are read as stored",
        if *arrays == 1 { "array" } else { "arrays" }
    )]
    OnlyArrays {
        /// The folder.
        path: PathBuf,
        /// How many arrays.
        arrays: usize,
    },
    /// A source's own description is wrong (a list line, a label, a VOC split).
    #[error("{path}: {reason}")]
    BadSource {
        /// The file that is wrong.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        reason: String,
    },
    /// A setting is out of its range.
    #[error("{field}: {reason}")]
    BadSetting {
        /// The setting's name, in words with hyphens.
        field: &'static str,
        /// What it must be.
        reason: String,
    },
}

impl Error {
    /// Whether a remote object could not be fetched. The image may be sound, so it must not be skipped
    /// as unusable.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
