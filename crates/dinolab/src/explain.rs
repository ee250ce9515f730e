//! An error in one line, in the words of the command line.
//!
//! The libraries speak of settings, not of flags, and do not say what to do: that depends on the
//! command. A setting that the command has as a flag gets its dashes here, and an error that a flag
//! remedies gets the [`Advice`].

use std::error::Error as StdError;

use anyhow::Error;
use dinolab_run::error::library::{Library, libraries, run_error};

use crate::advice::Advice;
use crate::flags::Flags;
use crate::run_advice;

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
    let advice = libraries(error.as_ref()).find_map(Advice::on);
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
