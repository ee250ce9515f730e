//! The codes that the program ends with; docs/architecture.md documents them.

use anyhow::Error;
use dinolab_run::error::library::{Library, libraries};

use crate::explain::one_line;
use crate::flags::Flags;
use crate::usage::Usage;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Success = 0,
    /// Not done: an input that cannot be used, a file that cannot be written, or whatever has no
    /// code of its own; of `overfit`, that learning does not work.
    Failure = 1,
    /// The command line cannot be followed: an unknown flag, or a value out of its range.
    Usage = 2,
    /// The loss is NaN or infinite.
    Diverged = 3,
    /// Temporary failure (`EX_TEMPFAIL`); the same command resumes: images could not be fetched, a process of
    /// the run was lost, or training was saved and stopped by SIGUSR1 or, in several processes, any signal.
    TryAgain = 75,
    /// Training was saved and stopped since its terminal was closed (128 + SIGHUP).
    HungUp = 129,
    /// Training was saved and stopped by Ctrl-C (128 + SIGINT).
    Interrupted = 130,
    /// Training was saved and stopped since the reader of its output left (128 + SIGPIPE).
    Unread = 141,
    /// Training was saved and stopped by SIGTERM (128 + 15).
    Terminated = 143,
}

impl ExitCode {
    /// The code of an error of a command with these flags.
    pub fn of(error: &Error, flags: &Flags) -> Self {
        let of = |library| match library {
            Library::Train(error) if error.is_divergence() => Some(Self::Diverged),
            Library::Features(dinolab_features::Error::Diverged { .. }) => Some(Self::Diverged),
            // Where a flag asked for the size, and not an image.
            Library::Nn(dinolab_nn::Error::TooManyPatches { .. })
                if one_line(error, flags).starts_with("--") =>
            {
                Some(Self::Usage)
            }
            Library::Data(error) if error.is_unreachable() => Some(Self::TryAgain),
            Library::Train(error) if error.is_of_processes() => Some(Self::TryAgain),
            other => other
                .setting()
                .filter(|field| flags.has(field))
                .map(|_| Self::Usage),
        };
        if error.is::<Usage>() {
            return Self::Usage;
        }
        libraries(error.as_ref())
            .find_map(of)
            .unwrap_or(Self::Failure)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn errors_have_their_codes() {
        let flags = Flags::new(["batch-size", "lr"]);
        let unreachable = || dinolab_data::Error::Unreachable {
            location: "s3://bucket/a.jpg".into(),
            attempts: 5,
            reason: "refused".into(),
        };
        let setting = |field| dinolab_data::Error::BadSetting {
            field,
            reason: "must be above 0".into(),
        };
        let diverged = dinolab_features::Error::Diverged {
            lr: 1e9,
            loss: f64::NAN,
        };
        let patches = || dinolab_nn::check_patches(100_000, 100_000, 16).unwrap_err();
        let missing = || dinolab_data::Error::NoImages {
            path: Path::new("empty").into(),
            reason: "it is empty".into(),
        };
        let cases: Vec<(Error, ExitCode)> = vec![
            (missing().into(), ExitCode::Failure),
            (anyhow::anyhow!("whatever"), ExitCode::Failure),
            (Usage::new("--k: must be above 0").into(), ExitCode::Usage),
            (setting("batch-size").into(), ExitCode::Usage),
            // Not a flag of this command, but what a file says.
            (setting("depth").into(), ExitCode::Failure),
            (
                dinolab_train::Error::from(setting("lr")).into(),
                ExitCode::Usage,
            ),
            (diverged.into(), ExitCode::Diverged),
            (patches().into(), ExitCode::Failure),
            (unreachable().into(), ExitCode::TryAgain),
            (
                dinolab_features::Error::from(unreachable()).into(),
                ExitCode::TryAgain,
            ),
            (
                dinolab_train::Error::from(unreachable()).into(),
                ExitCode::TryAgain,
            ),
            (
                dinolab_run::Error::OfSetting {
                    setting: "val",
                    value: String::new(),
                    source: Box::new(dinolab_features::Error::from(unreachable()).into()),
                }
                .into(),
                ExitCode::TryAgain,
            ),
            (
                dinolab_run::Error::BadSetting {
                    setting: "lr",
                    value: "-1".into(),
                    reason: "must not be below 0".into(),
                }
                .into(),
                ExitCode::Usage,
            ),
        ];
        let asked = Error::from(patches()).context("--crop 100000");
        assert_eq!(ExitCode::of(&asked, &flags), ExitCode::Usage);
        for (error, code) in cases {
            assert_eq!(ExitCode::of(&error, &flags), code, "{error}");
            let error = error.context("around").context("it");
            assert_eq!(ExitCode::of(&error, &flags), code, "{error:#}");
        }
    }
}
