//! Printing that never panics: standard output and standard error may be closed, full or gone.
//!
//! What cannot be written to standard error is dropped. What cannot be written to standard output
//! ends the program where the text is its result, and is remembered where files or the exit code
//! are: see [`Unheard`].

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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

/// How long to wait for a reader that takes nothing just now (a pipe that does not block).
const PAUSE: Duration = Duration::from_millis(5);

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
        let written = put(&mut io::stdout().lock(), text.as_bytes());
        note(written);
    }
}

/// Writes to standard error; what [`errln!`] calls.
pub fn err(text: Arguments<'_>) {
    // In one piece, so that lines of several threads do not mix.
    let text = text.to_string();
    let _ = put(&mut io::stderr().lock(), text.as_bytes());
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
        _ => Lost::Failed(reason(&error)),
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

/// The system's words, without its number.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// Writes all of `bytes`. Unlike `write_all` it waits where the reader of a pipe that does not
/// block is slower.
fn put(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(error) => {
                if error.kind() == ErrorKind::BrokenPipe {
                    READER_LEFT.store(true, Ordering::Relaxed);
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, and each other time none.
    struct Slow {
        taken: Vec<u8>,
        ready: bool,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.ready = !self.ready;
            if !self.ready {
                let kinds = [ErrorKind::WouldBlock, ErrorKind::Interrupted];
                return Err(kinds[self.taken.len() % 2].into());
            }
            let count = bytes.len().min(3);
            self.taken.extend(&bytes[..count]);
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn slow_readers_get_everything() {
        let mut slow = Slow {
            taken: Vec::new(),
            ready: false,
        };
        put(&mut slow, b"every byte of it").unwrap();
        assert_eq!(slow.taken, b"every byte of it");
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = put(&mut Full, b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn reasons_have_no_numbers() {
        let error = io::Error::from_raw_os_error(2);
        assert!(!reason(&error).contains("os error"), "{}", reason(&error));
        assert_eq!(reason(&io::Error::other("odd")), "odd");
    }
}
