//! An error in one line, in the words of the command line.
//!
//! The libraries speak of settings, not of flags, and do not say what to do: that depends on the
//! verb. A setting that the verb has as a flag gets its dashes here, and an error that a flag
//! remedies gets the [`Advice`].

use std::collections::BTreeSet;
use std::error::Error as StdError;

use anyhow::Error;

use crate::advice::Advice;

/// The flags of a verb, without dashes.
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
    /// Evaluation.
    Eval(&'a dinolab_eval::Error),
    /// Training.
    Train(&'a dinolab_train::Error),
}

impl<'a> Library<'a> {
    /// The innermost: training and evaluation pass on errors of images and networks as they are.
    fn of(cause: &'a (dyn StdError + 'static)) -> Option<Self> {
        if let Some(error) = cause.downcast_ref::<dinolab_train::Error>() {
            return Some(match error {
                dinolab_train::Error::Data(error) => Self::Data(error),
                dinolab_train::Error::Model(error) => Self::Nn(error),
                error => Self::Train(error),
            });
        }
        if let Some(error) = cause.downcast_ref::<dinolab_eval::Error>() {
            return Some(match error {
                dinolab_eval::Error::Data(error) => Self::Data(error),
                dinolab_eval::Error::Model(error) => Self::Nn(error),
                error => Self::Eval(error),
            });
        }
        let data = cause.downcast_ref().map(Self::Data);
        data.or_else(|| cause.downcast_ref().map(Self::Nn))
    }

    /// The setting that is out of its range, by its flag's name.
    pub fn setting(self) -> Option<&'static str> {
        match self {
            Self::Data(dinolab_data::Error::BadSetting { field, .. })
            | Self::Nn(dinolab_nn::Error::BadSetting { field, .. })
            | Self::Eval(dinolab_eval::Error::BadSetting { field, .. })
            | Self::Train(dinolab_train::Error::BadSetting { field, .. }) => Some(field),
            _ => None,
        }
    }
}

/// The libraries' errors among the causes of an error, the outermost first.
pub fn libraries(error: &Error) -> impl Iterator<Item = Library<'_>> {
    error.chain().filter_map(Library::of)
}

/// The context first, then the causes it was built from, those left out that it quotes already;
/// at last what to do.
pub fn one_line(error: &Error, flags: &Flags) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let words = words(cause, flags);
        if line.is_empty() || words.starts_with(&format!("{line}:")) {
            line = words;
        } else if !line.contains(&words) {
            line = format!("{line}: {words}");
        }
    }
    let advice = libraries(error).find_map(Advice::on);
    if let Some(advice) = advice.filter(|advice| advice.fits(flags, &line)) {
        line = format!("{line}; {advice}");
    }
    line
}

/// The text of an error without its causes, on one line.
fn words(cause: &(dyn StdError + 'static), flags: &Flags) -> String {
    let text = cause.to_string();
    let parts: Vec<&str> = text.lines().map(str::trim).collect();
    let text = parts.join(" ");
    let setting = Library::of(cause).and_then(Library::setting);
    match setting.filter(|field| flags.has(field) && text.starts_with(field)) {
        Some(_) => format!("--{text}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn settings_get_the_dashes_of_their_flags() {
        let setting = |field| {
            Error::from(dinolab_nn::Error::BadSetting {
                field,
                reason: "must be above 0".into(),
            })
        };
        let flags = Flags::new(["depth", "weights"]);
        let line = |error: Error| one_line(&error, &flags);
        assert_eq!(line(setting("depth")), "--depth: must be above 0");
        assert_eq!(line(setting("heads")), "heads: must be above 0");
        assert_eq!(
            line(setting("depth").context("--depth")),
            "--depth: must be above 0"
        );
        assert_eq!(
            line(setting("depth").context("w.pth")),
            "w.pth: --depth: must be above 0"
        );
    }

    #[test]
    fn causes_are_said_once() {
        let flags = Flags::default();
        let error = anyhow!("the disk\n  is full").context("cannot write a: the disk is full");
        assert_eq!(one_line(&error, &flags), "cannot write a: the disk is full");
        let error = anyhow!("b").context("a");
        assert_eq!(one_line(&error, &flags), "a: b");
    }
}
