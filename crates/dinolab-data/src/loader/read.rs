//! Readers: threads that fetch files while the workers compute.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender};

use super::plan::Task;
use super::shared::Shared;

/// A thread that passes tasks on with their files.
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) tasks: Receiver<Task>,
    pub(super) ready: Sender<Task>,
}

impl Reader {
    /// Ends when there are no more tasks or no receivers.
    pub(super) fn run(self) {
        for mut task in &self.tasks {
            // What is still to be handed out is not wanted any more, and may take long.
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.read(&mut task);
            if self.ready.send(task).is_err() {
                return;
            }
        }
    }

    fn read(&self, task: &mut Task) {
        let (index, source) = (task.index(), &*self.shared.source);
        let unwanted =
            |index| self.shared.cache.get(index).is_some() || self.shared.unusable.contains(index);
        let read = || {
            let held = match task.files.as_deref() {
                Some(files) => files.take(index, source, unwanted)?,
                None => None,
            };
            match held {
                _ if unwanted(index) => Ok(None),
                Some(file) => Ok(Some(file)),
                None => source.encoded(index),
            }
        };
        // The worker reports what could not be read, and meets the same defect where this panics.
        if let Ok(file) = catch_unwind(AssertUnwindSafe(read)) {
            task.file = file.transpose();
        }
    }
}
