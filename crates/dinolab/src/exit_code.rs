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
    /// code of its own; of `overfit`, that learning does not work; of `doctor`, that something is wrong.
    Failure = 1,
    /// The command line cannot be followed: an unknown flag, or a value out of its range.
    Usage = 2,
    /// The loss is NaN or infinite.
    Diverged = 3,
    /// Temporary failure (`EX_TEMPFAIL`); the same command resumes: images or weights could not be fetched, a process of
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
            Library::Run(error) if error.is_unreachable() => Some(Self::TryAgain),
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
