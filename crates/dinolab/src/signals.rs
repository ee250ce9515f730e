//! Signals that stop training, and one that must not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use anyhow::{Context, Result};

use crate::console;
use crate::exit_code::ExitCode;

/// Listens for Ctrl-C, SIGTERM, SIGUSR1 (Slurm's warning before a time limit) and, unless it was ignored
/// when the program began (`nohup`), the SIGHUP of a terminal that is closed.
///
/// The first of them asks for a stop. A further Ctrl-C or SIGTERM ends the program at once; a
/// further SIGHUP or SIGUSR1 does not, since shell and kernel, or launcher and Slurm, both send one.
pub struct Interrupts {
    /// The first signal, or 0.
    signal: Arc<AtomicI32>,
}

impl Interrupts {
    /// Listens from now on; the first signal sets `stop`.
    pub fn listen(stop: &Arc<AtomicBool>) -> Result<Self> {
        let signal = Arc::new(AtomicI32::new(0));
        system::listen(stop.clone(), signal.clone()).context("cannot listen for signals")?;
        Ok(Self { signal })
    }

    /// The code of a run that was stopped and saved: what shells report for the signal.
    pub fn exit_code(&self) -> ExitCode {
        match self.signal.load(Ordering::Relaxed) {
            0 if console::reader_left() => ExitCode::Unread,
            system::HANGUP => ExitCode::HungUp,
            system::TERMINATION => ExitCode::Terminated,
            system::WARNING => ExitCode::TryAgain,
            _ => ExitCode::Interrupted,
        }
    }
}

/// A file that grows beyond the limit of the shell (`ulimit -f`) is an error, not the end of the
/// program.
pub fn survive_file_size_limit() {
    system::survive_file_size_limit();
}

/// Says so from a thread of its own: a terminal that takes no text must not hold up a second
/// signal.
fn announce() {
    let say = || errln!("stopping after this step; press Ctrl-C again to stop at once");
    let _ = std::thread::Builder::new().spawn(say);
}

#[cfg(unix)]
mod system {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
    use std::time::{Duration, Instant};

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    use signal_hook::iterator::Signals;

    pub const HANGUP: i32 = SIGHUP;
    pub const TERMINATION: i32 = SIGTERM;
    pub const WARNING: i32 = SIGUSR1;

    /// Signals this near the first belong to it: `timeout` sends one to the program and one to its
    /// group.
    const SAME: Duration = Duration::from_millis(250);

    pub fn listen(stop: Arc<AtomicBool>, first: Arc<AtomicI32>) -> io::Result<()> {
        let mut wanted = vec![SIGINT, SIGTERM, SIGUSR1];
        if !is_ignored(SIGHUP) {
            wanted.push(SIGHUP);
        }
        let mut signals = Signals::new(wanted)?;
        let wait = move || {
            let mut since: Option<Instant> = None;
            for signal in signals.forever() {
                match since {
                    None => {
                        since = Some(Instant::now());
                        first.store(signal, Ordering::Relaxed);
                        stop.store(true, Ordering::Relaxed);
                        super::announce();
                    }
                    Some(since)
                        if ![SIGHUP, SIGUSR1].contains(&signal) && since.elapsed() > SAME =>
                    {
                        signal_hook::low_level::exit(128 + signal);
                    }
                    Some(_) => {}
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".into());
        thread.spawn(wait).map(|_| ())
    }

    pub fn survive_file_size_limit() {
        // A handler, unlike an ignored signal, is not passed on to programs that this one starts.
        let _ = signal_hook::flag::register(libc::SIGXFSZ, Arc::new(AtomicBool::new(false)));
    }

    #[allow(unsafe_code, reason = "no safe crate asks how a signal is handled")]
    fn is_ignored(signal: i32) -> bool {
        // SAFETY: a null action changes nothing; the system fills `old`, of which all bytes being
        // 0 is a valid value, and it is read only where the call succeeded.
        unsafe {
            let mut old: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &mut old) == 0
                && old.sa_sigaction == libc::SIG_IGN
        }
    }
}

#[cfg(not(unix))]
mod system {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

    use crate::exit_code::ExitCode;

    pub const HANGUP: i32 = -1;
    pub const TERMINATION: i32 = -2;
    pub const WARNING: i32 = -3;

    pub fn listen(stop: Arc<AtomicBool>, _: Arc<AtomicI32>) -> Result<(), ctrlc::Error> {
        ctrlc::set_handler(move || {
            if stop.swap(true, Ordering::Relaxed) {
                std::process::exit(ExitCode::Interrupted as i32);
            }
            super::announce();
        })
    }

    pub fn survive_file_size_limit() {}
}
