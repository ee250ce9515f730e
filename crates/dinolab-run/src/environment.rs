//! What all work needs in addition to its own input.

use dinolab_data::source::RemoteOptions;

use crate::event::{Event, Listener, Progress};

/// Who hears of events, and how other machines are read: the same for all work of a program.
#[derive(Clone)]
pub struct Environment<'a> {
    /// Hears what happens.
    pub events: &'a dyn Listener,
    /// How images at s3://, https:// and the like are read.
    pub remote: RemoteOptions,
}

impl<'a> Environment<'a> {
    /// One whose events go to `events`.
    pub fn new(events: &'a dyn Listener) -> Self {
        Self {
            events,
            remote: RemoteOptions::default(),
        }
    }

    pub(crate) fn progress(&self, unit: &'static str, total: usize) -> Progress<'a> {
        Progress::new(self.events, unit, total)
    }

    pub(crate) fn warn(&self, text: &str) {
        self.events.hear(Event::Warning(text));
    }

    /// Tells of the images that could not be used, with their names by `name`.
    pub(crate) fn skipped(&self, skipped: &[(usize, String)], name: impl Fn(usize) -> String) {
        for (index, reason) in skipped {
            let name = name(*index);
            let name = name.as_str();
            self.events.hear(Event::Skipped { name, reason });
        }
    }

    /// Says how many images were left out, if there are any.
    pub(crate) fn skipped_in_all(&self, count: usize) {
        if count > 0 {
            self.events.hear(Event::SkippedInAll(count));
        }
    }
}

impl Default for Environment<'_> {
    /// Nobody hears anything.
    fn default() -> Self {
        Self::new(&())
    }
}
