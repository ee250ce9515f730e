//! Readers: they fetch files while the workers compute, so that nobody waits for storage.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender};

use super::Shared;
use super::plan::Task;

/// Buffers for files, to be filled again.
pub(super) struct Files {
    free: Mutex<Vec<Vec<u8>>>,
    most: usize,
}

impl Files {
    pub(super) fn new(most: usize) -> Self {
        Self {
            free: Mutex::default(),
            most,
        }
    }

    fn take(&self) -> Vec<u8> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.pop().unwrap_or_default()
    }

    pub(super) fn put(&self, file: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.most {
            free.push(file);
        }
    }
}

/// A thread that passes tasks on with their files.
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) tasks: Receiver<Task>,
    pub(super) ready: Sender<Task>,
}

impl Reader {
    /// Ends when there are no more tasks, or nobody to pass them on to.
    pub(super) fn run(self) {
        for mut task in &self.tasks {
            self.read(&mut task);
            if self.ready.send(task).is_err() {
                return;
            }
        }
    }

    fn read(&self, task: &mut Task) {
        let index = task.index();
        if self.shared.cache.get(index).is_some() || self.shared.bad.contains(index) {
            return;
        }
        let mut file = self.shared.files.take();
        let read = || self.shared.source.read(index, &mut file);
        // What cannot be read is left to the worker, which meets the same error and reports it.
        if let Ok(Ok(true)) = catch_unwind(AssertUnwindSafe(read)) {
            task.file = Some(file);
        } else {
            self.shared.files.put(file);
        }
    }
}
