//! What can go wrong in a run, and around it.

mod hub;
pub mod library;
mod run;

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use dinolab_data::slice::SliceError;

pub use self::hub::HubError;
pub use self::run::{RunError, SettingValue, or_none};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in this crate. Messages name the input and the reason.
///
/// Settings are called by their names in `config.toml`, which are those of the flags of the program;
/// within a sentence they stand in backticks. What to do about an error is for the caller to say.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of its range, or contradicts another one.
    #[error("{}: {reason}", named(setting, value))]
    BadSetting {
        /// The setting.
        setting: &'static str,
        /// Its value, as it is written; empty if it does not matter.
        value: String,
        /// What it must be.
        reason: String,
    },
    /// What went wrong with something that a setting names.
    #[error("{}: {source}", named(setting, value))]
    OfSetting {
        /// The setting.
        setting: &'static str,
        /// Its value, as it is written; empty if it does not matter.
        value: String,
        /// What went wrong with it.
        source: Box<Error>,
    },
    /// What went wrong, and where.
    #[error("{what}: {source}")]
    In {
        /// Where, or what was being done.
        what: String,
        /// What went wrong.
        source: Box<Error>,
    },
    /// An input that cannot be used, with the reason.
    #[error("{0}")]
    Invalid(String),
    /// A run that cannot start, resume or continue.
    #[error(transparent)]
    Run(Box<RunError>),
    /// An address that this build has no transport for.
    #[error("this build has no https, which {url} needs")]
    NoHttps {
        /// The address.
        url: String,
    },
    /// A download that no attempt could finish; the same call resumes it.
    #[error(
        "gave up after {attempts} attempts with {:.1} MB downloaded to {}; run the same command to \
         resume: {source}",
        *bytes as f64 / 1e6,
        part.display()
    )]
    GaveUp {
        /// Attempts in a row that brought nothing new.
        attempts: u32,
        /// Where what has come is kept.
        part: PathBuf,
        /// How much that is.
        bytes: u64,
        /// Why the last attempt failed.
        source: Box<Error>,
    },
    /// Weights of the Hugging Face Hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A frame of a video that the network would cut into too many patches.
    #[error(transparent)]
    FrameTooLarge(dinolab_nn::Error),
    /// A file is not a classifier.
    #[error("{}: is not a classifier", path.display())]
    NotAClassifier {
        /// The file.
        path: PathBuf,
    },
    /// A file or another means of the system.
    #[error(transparent)]
    System(#[from] io::Error),
    /// A text, archive or picture in a format that others define.
    #[error(transparent)]
    Format(Box<dyn std::error::Error + Send + Sync>),
    /// Images.
    #[error(transparent)]
    Data(#[from] dinolab_data::Error),
    /// A slice of values that is not what it is said to be.
    #[error(transparent)]
    Slice(#[from] SliceError),
    /// Networks and weights.
    #[error(transparent)]
    Model(#[from] dinolab_nn::Error),
    /// Features and their evaluation.
    #[error(transparent)]
    Features(#[from] dinolab_features::Error),
    /// Training.
    #[error(transparent)]
    Train(#[from] dinolab_train::Error),
    /// Pictures and the report.
    #[error(transparent)]
    View(#[from] dinolab_view::Error),
}

fn named(setting: &str, value: &str) -> String {
    match value {
        "" => setting.to_owned(),
        value => format!("{setting} {value}"),
    }
}

impl Error {
    /// A setting out of its range.
    pub(crate) fn setting(
        setting: &'static str,
        value: impl Display,
        reason: impl Into<String>,
    ) -> Self {
        Self::BadSetting {
            setting,
            value: value.to_string(),
            reason: reason.into(),
        }
    }

    /// The message without the causes that [`std::error::Error::source`] returns.
    pub fn headline(&self) -> String {
        match self {
            Self::OfSetting { setting, value, .. } => named(setting, value),
            Self::In { what, .. } => what.clone(),
            other => other.to_string(),
        }
    }

    /// Whether images or weights of another machine could not be fetched: it may work later.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::OfSetting { source, .. } | Self::In { source, .. } => source.is_unreachable(),
            Self::GaveUp { .. } => true,
            Self::Hub(error) => error.is_unreachable(),
            Self::Data(error) => error.is_unreachable(),
            Self::Features(error) => error.is_unreachable(),
            Self::Train(error) => error.is_unreachable(),
            Self::Run(error) => match &**error {
                RunError::ImagesMissing { source, .. } => source.is_unreachable(),
                _ => false,
            },
            _ => false,
        }
    }
}

impl From<dinolab_eval::Error> for Error {
    fn from(error: dinolab_eval::Error) -> Self {
        dinolab_features::Error::from(error).into()
    }
}

impl From<RunError> for Error {
    fn from(error: RunError) -> Self {
        Self::Run(Box::new(error))
    }
}

macro_rules! formats {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::Format(Box::new(error))
            }
        })*
    };
}

formats!(
    serde_json::Error,
    rayon::ThreadPoolBuildError,
    toml::de::Error,
    toml::ser::Error,
    image::ImageError,
    zip::result::ZipError,
    ureq::Error,
);

/// Says where something went wrong.
pub(crate) trait Context<T>: Sized {
    /// With what was being done.
    fn context(self, what: impl Into<String>) -> Result<T>;

    /// With what was being done, in words that are made only where it went wrong.
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;

    /// With the setting that names it, unless it is an argument without a name.
    fn of_argument(self, setting: &'static str) -> Result<T>;

    /// With the setting that names it; `value` may be empty.
    fn of_setting(self, setting: &'static str, value: impl Display) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn of_argument(self, setting: &'static str) -> Result<T> {
        match setting {
            "" => self.map_err(Into::into),
            setting => self.of_setting(setting, ""),
        }
    }

    fn context(self, what: impl Into<String>) -> Result<T> {
        self.with_context(|| what)
    }

    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::In {
            what: what().into(),
            source: Box::new(error.into()),
        })
    }

    fn of_setting(self, setting: &'static str, value: impl Display) -> Result<T> {
        self.map_err(|error| Error::OfSetting {
            setting,
            value: value.to_string(),
            source: Box::new(error.into()),
        })
    }
}

impl<T> Context<T> for Option<T> {
    fn of_argument(self, setting: &'static str) -> Result<T> {
        self.of_setting(setting, "")
    }

    fn context(self, what: impl Into<String>) -> Result<T> {
        self.ok_or_else(|| Error::Invalid(what.into()))
    }

    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.ok_or_else(|| Error::Invalid(what().into()))
    }

    fn of_setting(self, setting: &'static str, value: impl Display) -> Result<T> {
        self.ok_or_else(|| Error::setting(setting, value, "is needed"))
    }
}

/// Returns with an [`Error::Invalid`].
macro_rules! bail {
    ($($arg:tt)*) => {
        return Err($crate::error::Error::Invalid(format!($($arg)*)))
    };
}

/// Returns with an [`Error::Invalid`] unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($arg:tt)*) => {
        // Not negated: a comparison may be one of numbers that are not.
        if $condition {
        } else {
            bail!($($arg)*);
        }
    };
}

/// Returns with an [`Error::BadSetting`] unless a condition holds: setting, value, reason.
macro_rules! ensure_setting {
    ($condition:expr, $setting:expr, $value:expr, $($arg:tt)*) => {
        if $condition {
        } else {
            return Err($crate::error::Error::setting($setting, $value, format!($($arg)*)));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_place_and_the_reason() {
        let gone = || Err::<(), _>(io::Error::other("gone"));
        let error = gone().context("cannot read a").unwrap_err();
        assert_eq!(error.to_string(), "cannot read a: gone");
        assert_eq!(error.headline(), "cannot read a");
        let error = gone().of_setting("val", "photos").unwrap_err();
        assert_eq!(error.to_string(), "val photos: gone");
        let error = Error::setting("epochs", 0, "must be above 0");
        assert_eq!(error.to_string(), "epochs 0: must be above 0");
    }

    #[test]
    fn what_may_work_later_says_so_wherever_it_happened() {
        let unreachable = || dinolab_data::Error::Unreachable {
            location: "s3://bucket/a.jpg".into(),
            attempts: 5,
            reason: "refused".into(),
        };
        let deep = Err::<(), _>(dinolab_features::Error::from(unreachable()));
        let deep = deep.of_setting("val", "").context("evaluation");
        assert!(deep.unwrap_err().is_unreachable());
        assert!(!Error::Invalid("whatever".into()).is_unreachable());
    }
}
