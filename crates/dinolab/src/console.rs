//! Printing that never panics: standard output and standard error may be closed, full or gone.
//!
//! What cannot be written to standard error is dropped. What cannot be written to standard output
//! ends the program where the text is its result, and is remembered where files or the exit code
//! are: see [`Unheard`].

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use dinolab_files::pipe;

use crate::exit_code::ExitCode;

/// Prints to standard output.
macro_rules! out {
    ($($arg:tt)*) => { $crate::console::out(format_args!($($arg)*)) };
}

/// Prints a line to standard output.
macro_rules! outln {
    ($($arg:tt)*) => { $crate::console::out(format_args!("{}\n", format_args!($($arg)*))) };
}

/// Prints a line to standard error.
macro_rules! errln {
    ($($arg:tt)*) => { $crate::console::err(format_args!("{}\n", format_args!($($arg)*))) };
}

/// What happens once standard output takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// The text is the result: the program ends, quietly where its reader has left.
    End,
    /// Files or the exit code are the result: the work is finished first. A reader that has left
    /// is no error then; a full disk is.
    Finish,
    /// Standard output only accompanies the work: a full disk is a warning. Whether to go on
    /// without a reader is for the work to decide ([`reader_left`]).
    Warn,
}

struct Output {
    unheard: Unheard,
    lost: Lost,
}

/// Whether standard output is lost, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lost {
    Not,
    /// Its reader has left, as `head` does.
    ReaderLeft,
    /// For another reason.
    Failed(String),
}

static OUTPUT: Mutex<Output> = Mutex::new(Output {
    unheard: Unheard::End,
    lost: Lost::Not,
});

/// Whether a reader of standard output or standard error has left.
static READER_LEFT: AtomicBool = AtomicBool::new(false);

/// Whether somebody read what is printed and has left: `| head`, a `tee` that was killed.
pub fn reader_left() -> bool {
    READER_LEFT.load(Ordering::Relaxed)
}

fn output() -> std::sync::MutexGuard<'static, Output> {
    OUTPUT.lock().unwrap_or_else(|broken| broken.into_inner())
}

/// Sets what happens once standard output takes no more.
pub fn when_unheard(unheard: Unheard) {
    output().unheard = unheard;
}

/// Writes to standard output; what [`out!`] and [`outln!`] call.
pub fn out(text: Arguments<'_>) {
    if output().lost == Lost::Not {
        let text = text.to_string();
        let written = write(&mut io::stdout().lock(), &text);
        note(written);
    }
}

/// Writes to standard error; what [`errln!`] calls.
pub fn err(text: Arguments<'_>) {
    // In one piece, so that lines of several threads do not mix.
    let text = text.to_string();
    let _ = write(&mut io::stderr().lock(), &text);
}

/// Takes note of how something was written to standard output.
pub fn note(written: io::Result<()>) {
    let Err(error) = written else {
        return;
    };
    let mut output = output();
    if output.lost != Lost::Not {
        return;
    }
    output.lost = match error.kind() {
        ErrorKind::BrokenPipe => Lost::ReaderLeft,
        _ => Lost::Failed(pipe::reason(&error)),
    };
    let (unheard, lost) = (output.unheard, output.lost.clone());
    drop(output);
    match (unheard, lost) {
        (Unheard::End, Lost::ReaderLeft) => std::process::exit(ExitCode::Success as i32),
        (Unheard::End, Lost::Failed(reason)) => {
            errln!("error: cannot write to standard output: {reason}");
            std::process::exit(ExitCode::Failure as i32);
        }
        (Unheard::Warn, Lost::Failed(reason)) => {
            errln!("warning: cannot write to standard output: {reason}; the work continues");
        }
        _ => {}
    }
}

/// Ends the printing: `code`, or that of an error where text was lost that has to be there.
pub fn finish(code: ExitCode) -> ExitCode {
    if output().lost == Lost::Not {
        let flushed = io::stdout().lock().flush();
        note(flushed);
    }
    let output = output();
    match &output.lost {
        Lost::Failed(reason) if output.unheard == Unheard::Finish => {
            errln!("error: cannot write to standard output: {reason}");
            match code {
                ExitCode::Success => ExitCode::Failure,
                other => other,
            }
        }
        _ => code,
    }
}

/// Writes all of `text`, however slow its reader is, and notes one that left.
fn write(out: &mut impl Write, text: &str) -> io::Result<()> {
    pipe::write_all(out, text.as_bytes()).inspect_err(|error| {
        if error.kind() == ErrorKind::BrokenPipe {
            READER_LEFT.store(true, Ordering::Relaxed);
        }
    })
}
