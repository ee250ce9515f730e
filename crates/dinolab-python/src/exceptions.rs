//! Errors as the exceptions of `dinolab.errors`.

use std::error::Error as StdError;

use dinolab::{Flags, one_line};
use dinolab_run::error::library::{Library, libraries};
use dinolab_run::{Error, RunError};
use pyo3::prelude::*;

use crate::wording::in_python;

/// An exception class of `dinolab.errors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// Whatever has no class of its own.
    Error,
    /// An argument out of its range, or none that there is.
    Setting,
    /// An image or a set of images.
    Image,
    /// Weights or their network.
    Weights,
    /// A run that cannot begin, be resumed, or go on.
    Run,
    /// A loss that is no longer a number.
    Diverged,
    /// Images or weights of another machine that could not be fetched.
    Unreachable,
}

impl Exception {
    /// That of an error; `other` for one that no library has classed.
    fn of(error: &(dyn StdError + 'static), other: Self) -> Self {
        let class = |library| match library {
            Library::Data(error) if error.is_unreachable() => Some(Self::Unreachable),
            Library::Run(error) if error.is_unreachable() => Some(Self::Unreachable),
            Library::Run(Error::Hub(_)) => Some(Self::Weights),
            Library::Train(error) if error.is_divergence() => Some(Self::Diverged),
            Library::Features(dinolab_features::Error::Diverged { .. }) => Some(Self::Diverged),
            Library::Run(Error::Run(error)) => match **error {
                RunError::Diverged { .. } => Some(Self::Diverged),
                // It is said of the images.
                RunError::ImagesMissing { .. } => None,
                _ => Some(Self::Run),
            },
            library if library.setting().is_some() => Some(Self::Setting),
            Library::Data(_) => Some(Self::Image),
            Library::Nn(_) => Some(Self::Weights),
            _ => None,
        };
        libraries(error).find_map(class).unwrap_or(other)
    }

    fn class(self) -> &'static str {
        match self {
            Self::Error => "Error",
            Self::Setting => "SettingError",
            Self::Image => "ImageError",
            Self::Weights => "WeightsError",
            Self::Run => "RunError",
            Self::Diverged => "DivergedError",
            Self::Unreachable => "UnreachableError",
        }
    }

    /// An exception with a message.
    pub fn raised(self, py: Python<'_>, message: &str) -> PyErr {
        let made = py
            .import("dinolab.errors")
            .and_then(|errors| errors.getattr(self.class())?.call1((message,)));
        match made {
            Ok(exception) => PyErr::from_value(exception),
            Err(error) => error,
        }
    }
}

/// The exception of an error in one line, with what to do about it where `flags` say it; of the class `other` if no
/// library has classed it.
pub fn exception(py: Python<'_>, error: Error, flags: &Flags, other: Exception) -> PyErr {
    let class = Exception::of(&error, other);
    class.raised(py, &in_python(&one_line(&error.into(), flags)))
}

/// The exception of an error that is about no flag.
pub fn plain(py: Python<'_>, error: impl Into<Error>) -> PyErr {
    exception(py, error.into(), &Flags::default(), Exception::Error)
}
