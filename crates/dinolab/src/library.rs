//! Errors of the libraries among the causes of an error, and the flags that they may be about.

use std::collections::BTreeSet;
use std::error::Error as StdError;

use anyhow::Error;

/// The flags of a command, without dashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(BTreeSet<String>);

impl Flags {
    /// These.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(str::to_owned).collect())
    }

    /// Whether there is such a flag.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// An error of one of the libraries.
#[derive(Clone, Copy, Debug)]
pub enum Library<'a> {
    /// Images.
    Data(&'a dinolab_data::Error),
    /// Networks and weights.
    Nn(&'a dinolab_nn::Error),
    /// Features and their evaluation.
    Features(&'a dinolab_features::Error),
    /// Training.
    Train(&'a dinolab_train::Error),
    /// What joins them.
    Run(&'a dinolab_run::Error),
}

impl<'a> Library<'a> {
    /// The innermost: libraries pass on errors of those below as they are.
    pub fn of(cause: &'a (dyn StdError + 'static)) -> Option<Self> {
        if let Some(error) = run_error(cause) {
            return Some(match error {
                dinolab_run::Error::Data(error) => Self::Data(error),
                dinolab_run::Error::Model(error) => Self::Nn(error),
                dinolab_run::Error::Features(error) => Self::of_features(error),
                dinolab_run::Error::Train(error) => Self::of_train(error),
                error => Self::Run(error),
            });
        }
        let features = cause.downcast_ref().map(Self::of_features);
        let train = || cause.downcast_ref().map(Self::of_train);
        let data = || cause.downcast_ref().map(Self::Data);
        let nn = || cause.downcast_ref().map(Self::Nn);
        features.or_else(train).or_else(data).or_else(nn)
    }

    fn of_train(error: &'a dinolab_train::Error) -> Self {
        match error {
            dinolab_train::Error::Data(error) => Self::Data(error),
            dinolab_train::Error::Model(error) => Self::Nn(error),
            error => Self::Train(error),
        }
    }

    fn of_features(error: &'a dinolab_features::Error) -> Self {
        match error {
            dinolab_features::Error::Data(error) => Self::Data(error),
            dinolab_features::Error::Model(error) => Self::Nn(error),
            error => Self::Features(error),
        }
    }

    /// The setting that is out of its range, by its flag's name.
    pub fn setting(self) -> Option<&'static str> {
        match self {
            Self::Data(dinolab_data::Error::BadSetting { field, .. })
            | Self::Nn(dinolab_nn::Error::BadSetting { field, .. })
            | Self::Features(dinolab_features::Error::BadSetting { field, .. })
            | Self::Train(dinolab_train::Error::BadSetting { field, .. })
            | Self::Run(dinolab_run::Error::BadSetting { setting: field, .. }) => Some(field),
            _ => None,
        }
    }
}

/// An error of `dinolab-run`; as a cause it may stand in a box.
pub fn run_error<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a dinolab_run::Error> {
    let boxed = || cause.downcast_ref::<Box<dinolab_run::Error>>();
    cause
        .downcast_ref()
        .or_else(|| boxed().map(|error| &**error))
}

/// The libraries' errors among the causes of an error, the outermost first.
pub fn libraries(error: &Error) -> impl Iterator<Item = Library<'_>> {
    error.chain().filter_map(Library::of)
}
