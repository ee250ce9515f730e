//! What happens, on the terminal: a bar for work that can be counted, lines for the rest.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dinolab_run::health::Warning;
use dinolab_run::{Event, Listener, Severity};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::explain::as_flags;
use crate::run_commands::Commands;

/// How often a plain line is written.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Shows events on standard error; those of a training run, which has no other result to print, on
/// standard output.
pub struct Terminal {
    quiet: bool,
    /// The folder of the run in training.
    run: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Work that has begun, the outermost first.
    counts: Vec<Count>,
    /// Notes that were printed: the same source may serve for several things.
    told: BTreeSet<String>,
}

impl Terminal {
    /// A terminal that shows no progress and notes if it is to be `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            run: None,
            state: Mutex::default(),
        }
    }

    /// That of a run in the folder `run`, as it was named on the command line.
    pub fn of_run(self, run: PathBuf) -> Self {
        Self {
            run: Some(run),
            ..self
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line to standard error without disturbing the bar.
    fn line(&self, text: &str) {
        match self.state().counts.last() {
            Some(Count { bar: Some(bar), .. }) => bar.suspend(|| errln!("{text}")),
            _ => errln!("{text}"),
        }
    }

    /// Writes an event in words, unless it matters less than asked for.
    fn text(&self, event: &Event<'_>) {
        let text = as_flags(&event.to_string());
        let note = event.severity() < Severity::Warning;
        if text.is_empty() || (note && self.quiet) {
            return;
        }
        let is_note_of_source = matches!(event, Event::Note { .. });
        if is_note_of_source && !self.state().told.insert(text.clone()) {
            return;
        }
        let before_training = matches!(
            event,
            Event::Loaded(_)
                | Event::WentBack { .. }
                | Event::ImagesRecorded
                | Event::UsableAgain { .. }
                | Event::ChannelsMeasured { .. }
                | Event::StoredChannels { .. }
        );
        match before_training && self.run.is_some() {
            true => outln!("{text}"),
            false => self.line(&text),
        }
    }

    /// Writes what is wrong with a run, and the commands that help.
    fn advise(&self, warning: &Warning) {
        self.line(&format!("  warning: {} {}", warning.seen, warning.meaning));
        let remedies = self.commands().remedies(&warning.remedies, true);
        self.line(&format!("  stop the run, and {remedies}"));
    }

    fn commands(&self) -> Commands<'_> {
        Commands::new(self.run.as_deref().unwrap_or("runs/latest".as_ref()))
    }
}

impl Listener for Terminal {
    fn hear(&self, event: Event<'_>) {
        match event {
            Event::Began { unit, total, done } => {
                let count = Count::new(unit, total, done, self.quiet);
                self.state().counts.push(count);
            }
            Event::Advanced { done, detail } => {
                // Whoever does not get it at once leaves it to the next.
                if let Ok(mut state) = self.state.try_lock()
                    && let Some(count) = state.counts.last_mut()
                {
                    count.set(done, None, detail);
                }
            }
            Event::Stepped { done, share, .. } => {
                if let Some(count) = self.state().counts.last_mut() {
                    count.set(done, Some(share), &event.to_string());
                }
            }
            Event::Ended => {
                if let Some(Count { bar: Some(bar), .. }) = self.state().counts.pop() {
                    bar.finish_and_clear();
                }
            }
            event => {
                self.text(&event);
                if let Event::EpochEnded { warnings, .. } = event {
                    warnings.iter().for_each(|warning| self.advise(warning));
                }
            }
        }
    }
}

/// Progress of work that is counted: a bar on a terminal, plain lines elsewhere.
struct Count {
    bar: Option<ProgressBar>,
    quiet: bool,
    total: Option<u64>,
    unit: &'static str,
    /// When the first was done, which is slower than the others, and what share of the work was done then.
    first: Option<(Instant, f64)>,
    spoke: Instant,
}

impl Count {
    fn new(unit: &'static str, total: Option<u64>, done: u64, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let template = match total {
                Some(_) => "{prefix} {bar:28} {pos}/{len}  {msg}",
                None => "{prefix} {pos}  {msg}  {elapsed}",
            };
            let style = ProgressStyle::with_template(template);
            let bar = ProgressBar::new(total.unwrap_or(0));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(unit);
            bar.set_position(done);
            bar
        });
        Self {
            bar,
            quiet,
            total,
            unit,
            first: None,
            spoke: Instant::now(),
        }
    }

    /// Moves to `done`, with a word on how it goes. `share` is that of the work, unless all of it is alike.
    fn set(&mut self, done: u64, share: Option<f64>, detail: &str) {
        let share = share.or(self.total.map(|total| done as f64 / total as f64));
        let (began, from) = *(self.first).get_or_insert((Instant::now(), share.unwrap_or(0.0)));
        let left = || {
            let left = share.and_then(|share| time_left(began.elapsed(), from, share));
            left.map_or(String::new(), |left| {
                format!("  {} left", HumanDuration(left))
            })
        };
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(format!("{detail}{}", left()));
        } else if !self.quiet && self.spoke.elapsed() >= PLAIN_EVERY {
            self.spoke = Instant::now();
            let total = self
                .total
                .map_or(String::new(), |total| format!("/{total}"));
            errln!("{} {done}{total}  {detail}{}", self.unit, left());
        }
    }
}

/// The time until all is done, if the work from the share `from` to the share `done` took `spent`; `None` before that is
/// known.
fn time_left(spent: Duration, from: f64, done: f64) -> Option<Duration> {
    let left = spent.as_secs_f64() * (1.0 - done) / (done - from);
    Duration::try_from_secs_f64(left).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_goes_by_the_share_since_the_first() {
        let left = |from, done| time_left(Duration::from_secs(30), from, done);
        assert_eq!(left(0.25, 0.5), Some(Duration::from_secs(60)));
        assert_eq!(left(0.25, 1.0), Some(Duration::ZERO));
        assert_eq!(left(0.25, 0.25), None);
        assert_eq!(left(f64::NAN, f64::NAN), None);
    }
}
