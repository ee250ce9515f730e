//! An error in one line, in the words of the command line.
//!
//! The libraries speak of settings, not of flags, and do not say what to do: that depends on the
//! command. A setting that the command has as a flag gets its dashes here, and an error that a flag
//! remedies gets the [`Advice`].

use std::collections::BTreeSet;
use std::error::Error as StdError;

use anyhow::Error;

use crate::advice::Advice;
use crate::run_advice;

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
    /// Evaluation.
    Eval(&'a dinolab_eval::Error),
    /// Training.
    Train(&'a dinolab_train::Error),
    /// What joins them.
    Run(&'a dinolab_run::Error),
}

impl<'a> Library<'a> {
    /// The innermost: libraries pass on errors of those below as they are.
    fn of(cause: &'a (dyn StdError + 'static)) -> Option<Self> {
        if let Some(error) = run_error(cause) {
            return Some(match error {
                dinolab_run::Error::Data(error) => Self::Data(error),
                dinolab_run::Error::Model(error) => Self::Nn(error),
                dinolab_run::Error::Eval(error) => Self::of_eval(error),
                dinolab_run::Error::Train(error) => Self::of_train(error),
                error => Self::Run(error),
            });
        }
        let eval = cause.downcast_ref().map(Self::of_eval);
        let train = || cause.downcast_ref().map(Self::of_train);
        let data = || cause.downcast_ref().map(Self::Data);
        let nn = || cause.downcast_ref().map(Self::Nn);
        eval.or_else(train).or_else(data).or_else(nn)
    }

    fn of_train(error: &'a dinolab_train::Error) -> Self {
        match error {
            dinolab_train::Error::Data(error) => Self::Data(error),
            dinolab_train::Error::Model(error) => Self::Nn(error),
            error => Self::Train(error),
        }
    }

    fn of_eval(error: &'a dinolab_eval::Error) -> Self {
        match error {
            dinolab_eval::Error::Data(error) => Self::Data(error),
            dinolab_eval::Error::Model(error) => Self::Nn(error),
            error => Self::Eval(error),
        }
    }

    /// The setting that is out of its range, by its flag's name.
    pub fn setting(self) -> Option<&'static str> {
        match self {
            Self::Data(dinolab_data::Error::BadSetting { field, .. })
            | Self::Nn(dinolab_nn::Error::BadSetting { field, .. })
            | Self::Eval(dinolab_eval::Error::BadSetting { field, .. })
            | Self::Train(dinolab_train::Error::BadSetting { field, .. })
            | Self::Run(dinolab_run::Error::BadSetting { setting: field, .. }) => Some(field),
            _ => None,
        }
    }
}

/// An error of `dinolab-run`; as a cause it may stand in a box.
fn run_error<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a dinolab_run::Error> {
    let boxed = || cause.downcast_ref::<Box<dinolab_run::Error>>();
    cause
        .downcast_ref()
        .or_else(|| boxed().map(|error| &**error))
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
    let run = run_error(cause);
    let text = match run {
        Some(dinolab_run::Error::Run(error)) => run_advice::words(error),
        Some(error) => in_flags(&error.headline(), |name| flags.has(name)),
        None => cause.to_string(),
    };
    let parts: Vec<&str> = text.lines().map(str::trim).collect();
    let text = parts.join(" ");
    let named = match run {
        Some(dinolab_run::Error::OfSetting { setting, .. }) => Some(*setting),
        _ => Library::of(cause).and_then(Library::setting),
    };
    match named.filter(|field| flags.has(field) && text.starts_with(field)) {
        Some(_) => format!("--{text}"),
        None => text,
    }
}

/// A text in which the libraries name settings in backticks, with the flags of those.
pub fn as_flags(text: &str) -> String {
    in_flags(text, |_| true)
}

fn in_flags(text: &str, is_flag: impl Fn(&str) -> bool) -> String {
    let mut parts = text.split('`');
    let mut line = parts.next().unwrap_or_default().to_owned();
    let mut inside = true;
    for part in parts {
        let name = |c: char| c.is_ascii_lowercase() || c == '-';
        if inside && !part.is_empty() && part.chars().all(name) && is_flag(part) {
            line += "--";
            line += part;
            // The closing backtick goes with the opening one.
            inside = false;
            continue;
        }
        match inside {
            true => line.push('`'),
            false => inside = true,
        }
        line += part;
    }
    line
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
    fn settings_within_a_sentence_become_flags() {
        let flags = |text| in_flags(text, |name| name != "https");
        assert_eq!(flags("needs `std` too"), "needs --std too");
        assert_eq!(flags("`mean`, `std`: odd"), "--mean, --std: odd");
        assert_eq!(
            flags("a feature `https` and `in-chans` 4"),
            "a feature `https` and --in-chans 4"
        );
        assert_eq!(flags("`a`.jpg` is `"), "--a.jpg` is `");
        let flags = Flags::new(["pixels", "in-chans"]);
        let error = Error::from(dinolab_run::Error::BadSetting {
            setting: "pixels",
            value: "rgb".into(),
            reason: "has 3 channels, not `in-chans` 4".into(),
        });
        let line = "--pixels rgb: has 3 channels, not --in-chans 4";
        assert_eq!(one_line(&error, &flags), line);
        let nested = dinolab_run::Error::OfSetting {
            setting: "pixels",
            value: String::new(),
            source: Box::new(dinolab_run::Error::Data(dinolab_data::Error::BadSetting {
                field: "in-chans",
                reason: "must be above 0".into(),
            })),
        };
        let line = "--pixels: --in-chans: must be above 0";
        assert_eq!(one_line(&nested.into(), &flags), line);
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
