//! What happens, on the terminal: a bar for work that can be counted, lines for the rest.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dinolab_run::{Event, Listener};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::commands::train::panel::{figures, panel};
use crate::explain::as_flags;
use crate::run_commands::Commands;

/// How often a plain line is written.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// What to do about an image of too many patches.
pub const TOO_LARGE: &str =
    "--size HEIGHTxWIDTH, such as --size 480x480, resizes without keeping the aspect ratio";

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

    /// Writes a line that is left out if it is to be quiet.
    fn note(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// Writes a line about the run.
    fn tell(&self, text: &str) {
        match self.run {
            Some(_) => outln!("{text}"),
            None => self.note(text),
        }
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
                    count.set(done, detail);
                }
            }
            Event::Ended => {
                if let Some(Count { bar: Some(bar), .. }) = self.state().counts.pop() {
                    bar.finish_and_clear();
                }
            }
            Event::Skipped { name, reason } => {
                self.note(&format!("skipped {name}: {}", as_flags(reason)));
            }
            Event::SkippedInAll(count) => self.note(&format!("{count} images skipped")),
            Event::Note { source, note } => {
                let line = format!("note: {}: {note}", source.display());
                if self.state().told.insert(line.clone()) {
                    self.note(&line);
                }
            }
            Event::Unlabelled {
                setting,
                set,
                without,
                all,
            } => {
                let flag = match setting {
                    "" => String::new(),
                    setting => format!("--{setting} "),
                };
                let set = set.display();
                self.note(&format!(
                    "{flag}{set}: {without} of {all} images have no label and are left out"
                ));
            }
            Event::Loaded(report) => self.tell(&report.to_string()),
            Event::HeadsAssumed { heads, width } => self.note(&format!(
                "{heads} heads, by the width of {width} (--heads for another number)"
            )),
            Event::NotShown { name, error } => self.note(&not_shown(name, error)),
            Event::PackedAsIs { name, reason } => {
                let what = "packed as it is, cannot be decoded";
                self.note(&format!("{what}: {name}: {reason}"));
            }
            Event::PackedEmpty { name, reason } => {
                let what = "packed as an empty file, cannot be read";
                self.note(&format!("{what}: {name}: {reason}"));
            }
            Event::DownloadResumed { part, bytes } => self.note(&format!(
                "resuming after {:.1} MB of {}",
                bytes as f64 / 1e6,
                part.display()
            )),
            Event::DownloadRetried { error } => self.note(&format!("trying again: {error}")),
            Event::DownloadRestarted => self.note("this server cannot resume: starting over"),
            Event::Unverified { dataset, sha256 } => self.line(&format!(
                "the checksum of {dataset} is not known, so the archive is not verified; its SHA-256 \
                 is {sha256}"
            )),
            Event::WentBack { to, from, doubt } => self.tell(&format!(
                "going back to step {to}: the checkpoint of step {from} is not sound ({doubt})"
            )),
            Event::ImagesRecorded => {
                self.tell("the run had no record of its images; they are listed in images.tsv now");
            }
            Event::UsableAgain { count, listed } => self.tell(&format!(
                "{count} of {listed} images listed in skipped.tsv can be used now"
            )),
            Event::ChannelsMeasured { images } => {
                self.tell(&format!("channels measured over {images} images"));
            }
            Event::StoredChannels {
                channels,
                mean,
                std,
            } => {
                self.tell(&format!(
                    "{channels} channels as stored: --mean {mean} --std {std}"
                ));
                self.tell(
                    "views: each channel's brightness and contrast by itself, blur, solarisation at \
                     half of the range; no hue, saturation or greyscale",
                );
            }
            Event::Warning(text) => self.line(&format!("warning: {}", as_flags(text))),
            Event::IndexNotKept(error) => self.line(&format!(
                "warning: the index is not kept: {error} (--index for another place)"
            )),
            Event::Stepped {
                done,
                loss,
                lr,
                images_per_second,
            } => {
                let text = format!("loss {loss:.3}  lr {lr:.1e}  {images_per_second:.0} images/s");
                if let Some(count) = self.state().counts.last_mut() {
                    count.set(done, &text);
                }
            }
            Event::EpochEnded {
                health,
                warnings,
                seconds,
                data_wait,
            } => {
                self.note(&panel(health, seconds, data_wait));
                for warning in warnings {
                    self.line(&format!("  warning: {} {}", warning.seen, warning.meaning));
                    let remedies = self.commands().remedies(&warning.remedies, true);
                    self.line(&format!("  stop the run, and {remedies}"));
                }
            }
            Event::Evaluated { epochs, figures: found } => {
                if let Some(line) = figures(epochs, found) {
                    self.note(&line);
                }
            }
            // Further events are for others.
            _ => {}
        }
    }
}

/// Why an image is left out, and what helps if `--size` does.
fn not_shown(name: &str, error: &dinolab_eval::Error) -> String {
    match error {
        dinolab_eval::Error::Data(error) => format!("skipped {error}"),
        dinolab_eval::Error::Model(dinolab_nn::Error::TooManyPatches { .. }) => {
            format!("skipped {name}: {error}; {TOO_LARGE}")
        }
        dinolab_eval::Error::Invalid { reason, .. } => format!("skipped {name}: {reason}"),
        _ => format!("skipped {name}: {error}"),
    }
}

/// Progress of work that is counted: a bar on a terminal, plain lines elsewhere.
struct Count {
    bar: Option<ProgressBar>,
    quiet: bool,
    total: Option<u64>,
    unit: &'static str,
    began: Instant,
    from: u64,
    spoke: Instant,
}

impl Count {
    fn new(unit: &'static str, total: Option<u64>, done: u64, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let template = match total {
                Some(_) => "{prefix} {bar:28} {pos}/{len}  {msg}  {eta} left",
                None => "{prefix} {pos}  {msg}  {elapsed}",
            };
            let style = ProgressStyle::with_template(template);
            let bar = ProgressBar::new(total.unwrap_or(0));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(unit);
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        Self {
            bar,
            quiet,
            total,
            unit,
            began: Instant::now(),
            from: done,
            spoke: Instant::now(),
        }
    }

    /// Moves to `done`, with a word on how it goes.
    fn set(&mut self, done: u64, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(detail.to_owned());
        } else if !self.quiet && self.spoke.elapsed() >= PLAIN_EVERY {
            self.spoke = Instant::now();
            let Some(total) = self.total else {
                errln!("{} {done}  {detail}", self.unit);
                return;
            };
            let rate = (done - self.from).max(1) as f64 / self.began.elapsed().as_secs_f64();
            let left = Duration::from_secs_f64((total - done.min(total)) as f64 / rate);
            errln!(
                "{} {done}/{total}  {detail}  {} left",
                self.unit,
                HumanDuration(left)
            );
        }
    }
}
