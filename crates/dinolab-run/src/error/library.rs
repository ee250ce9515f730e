//! The library that an error is of, among its causes.

use std::error::Error as StdError;

use super::Error;

/// An error of one of the libraries.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
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
    Run(&'a Error),
}

impl<'a> Library<'a> {
    /// The innermost: libraries pass on errors of those below as they are.
    pub fn of(cause: &'a (dyn StdError + 'static)) -> Option<Self> {
        if let Some(error) = run_error(cause) {
            return Some(match error {
                Error::Data(error) => Self::Data(error),
                Error::Model(error) => Self::Nn(error),
                Error::Features(error) => Self::of_features(error),
                Error::Train(error) => Self::of_train(error),
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
            | Self::Run(Error::BadSetting { setting: field, .. }) => Some(field),
            _ => None,
        }
    }
}

/// An error of this crate; as a cause it may stand in a box.
pub fn run_error<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let boxed = || cause.downcast_ref::<Box<Error>>();
    cause
        .downcast_ref()
        .or_else(|| boxed().map(|error| &**error))
}

/// The libraries' errors among an error and its causes, the outermost first.
pub fn libraries<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = Library<'a>> + use<'a> {
    std::iter::successors(Some(error), |&cause| cause.source()).filter_map(Library::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_library_is_found_through_contexts() {
        let image = dinolab_data::Error::BadSetting {
            field: "read-ahead",
            reason: "must be at least 1".into(),
        };
        let error = Error::In {
            what: "evaluation".into(),
            source: Box::new(dinolab_features::Error::from(image).into()),
        };
        let found: Vec<_> = libraries(&error).collect();
        assert!(matches!(found[0], Library::Run(Error::In { .. })));
        assert!(matches!(found[1], Library::Data(_)), "{found:?}");
        assert_eq!(found[1].setting(), Some("read-ahead"));
        assert_eq!(found[0].setting(), None);
    }
}
