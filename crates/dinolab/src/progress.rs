//! Progress: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// How often a plain line is written.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Progress of a known number of steps.
pub struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    what: &'static str,
    began: Instant,
    from: u64,
    spoke: Instant,
}

impl Progress {
    /// Progress over `total` of `what`, of which `done` are done already.
    pub fn new(what: &'static str, total: u64, done: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{prefix} {bar:28} {pos}/{len}  {msg}  {eta} left");
            let bar = ProgressBar::new(total);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(what);
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        Self {
            bar,
            total,
            what,
            began: Instant::now(),
            from: done,
            spoke: Instant::now(),
        }
    }

    /// Progress over nobody knows how many of `what`.
    pub fn open_ended(what: &'static str) -> Self {
        let mut progress = Self::new(what, 0, 0);
        if let Some(bar) = &mut progress.bar {
            let style = ProgressStyle::with_template("{prefix} {pos}  {msg}  {elapsed}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        }
        progress
    }

    /// Moves to `done`, with a word on how it goes.
    pub fn set(&mut self, done: u64, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message.to_owned());
        } else if self.spoke.elapsed() >= PLAIN_EVERY {
            self.spoke = Instant::now();
            if self.total == 0 {
                errln!("{} {done}  {message}", self.what);
                return;
            }
            let rate = (done - self.from).max(1) as f64 / self.began.elapsed().as_secs_f64();
            let left = Duration::from_secs_f64((self.total - done.min(self.total)) as f64 / rate);
            errln!(
                "{} {done}/{}  {message}  {} left",
                self.what,
                self.total,
                HumanDuration(left)
            );
        }
    }

    /// Writes a line without disturbing the bar.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| errln!("{text}")),
            None => errln!("{text}"),
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
