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
