//! The iterator over batches, and the threads behind it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::batch::{Crops, ImageCrops};
use super::plan::{BatchPlan, Task};
use super::read::Reader;
use super::shared::Shared;
use super::work::{Done, Worker};
use crate::augment::Scratch;
use crate::{Error, Result};

/// Iterates over the batches of an epoch while readers and workers prepare the next ones.
///
/// Ends after an error. Dropping it stops the threads; each finishes its current file or view.
pub struct BatchIter {
    shared: Arc<Shared>,
    plan: BatchPlan,
    /// The number, counted from this iterator's start, of the batch to return next.
    next: u64,
    /// Images handed out so far.
    given: u64,
    /// Batches being filled; the first is number `next`.
    open: VecDeque<Open>,
    /// `None` once there is nothing more to hand out.
    tasks: Option<Sender<Task>>,
    /// `None` once the threads are stopped: what still waits to be taken is lost then.
    finished: Option<Receiver<Result<Done>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    waited: Duration,
    failure: Option<Error>,
}

/// A batch that is being filled.
struct Open {
    images: Vec<ImageCrops>,
    missing: usize,
}

impl BatchIter {
    pub(super) fn start(shared: &Arc<Shared>, plan: BatchPlan) -> Self {
        let mut this = Self {
            failure: shared.unusable.check().err(),
            shared: Arc::clone(shared),
            next: 0,
            given: 0,
            open: VecDeque::new(),
            tasks: None,
            finished: None,
            stop: Arc::default(),
            threads: Vec::new(),
            waited: Duration::ZERO,
            plan,
        };
        if this.failure.is_none() && this.plan.count != Some(0) {
            this.failure = this.spawn().err();
            this.feed();
        }
        this
    }

    /// Starts the threads. Fewer than asked for are slower, but give the same crops.
    fn spawn(&mut self) -> Result<()> {
        let config = &self.shared.config;
        let (wanted, mut tasks) = bounded(self.shared.ahead());
        let (report, finished) = unbounded();
        if config.read_ahead > 0 {
            let (ready, read) = bounded(config.read_ahead);
            for _ in 0..config.read_ahead {
                let reader = Reader {
                    shared: Arc::clone(&self.shared),
                    stop: Arc::clone(&self.stop),
                    tasks: tasks.clone(),
                    ready: ready.clone(),
                };
                match named("dinolab-read", move || reader.run()) {
                    Ok(handle) => self.threads.push(handle),
                    Err(_) => break,
                }
            }
            // Without any reader the workers read for themselves.
            if !self.threads.is_empty() {
                tasks = read;
            }
        }
        let readers = self.threads.len();
        for _ in 0..config.workers {
            let worker = Worker {
                shared: Arc::clone(&self.shared),
                stop: Arc::clone(&self.stop),
                tasks: tasks.clone(),
                report: report.clone(),
                scratch: Scratch::default(),
            };
            match named("dinolab-crops", move || worker.run()) {
                Ok(handle) => self.threads.push(handle),
                Err(_) if self.threads.len() > readers => break,
                Err(source) => return Err(thread_error(source)),
            }
        }
        (self.tasks, self.finished) = (Some(wanted), Some(finished));
        Ok(())
    }

    /// Hands out work until the threads are as far ahead as they may be.
    fn feed(&mut self) {
        let size = self.shared.config.own_images();
        let window = self
            .next
            .saturating_mul(size as u64)
            .saturating_add(self.shared.ahead() as u64);
        while self.given < window {
            let (number, image) = (
                self.given / size as u64,
                (self.given % size as u64) as usize,
            );
            let Some(task) = self.plan.task(number, image, &self.shared) else {
                self.tasks = None;
                return;
            };
            if image == 0 {
                self.open.push_back(Open {
                    images: vec![ImageCrops::default(); size],
                    missing: size,
                });
            }
            // Never blocks: the window is no larger than the channel. Fails only when the
            // threads have stopped, which `next` reports.
            let sent = |tasks: &Sender<Task>| tasks.send(task).is_ok();
            if !self.tasks.as_ref().is_some_and(sent) {
                return;
            }
            self.given += 1;
        }
    }

    /// How long [`Iterator::next`] has waited for workers so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Epoch and number of the batch that comes next, where a resumed run has to start.
    ///
    /// After an epoch's last batch this is batch 0 of the epoch after it.
    pub fn position(&self) -> (u64, usize) {
        let (epoch, batch) = self.plan.place(self.next);
        (epoch, batch as usize)
    }

    /// Waits until the next batch is complete.
    fn complete(&mut self) -> Result<()> {
        while self.open.front().is_some_and(|batch| batch.missing > 0) {
            let received = self.finished.as_ref().map(Receiver::recv);
            let Some(Ok(done)) = received else {
                return Err(thread_error(io::Error::other("all of them have ended")));
            };
            let done = done?;
            let batch = &mut self.open[(done.batch - self.next) as usize];
            batch.images[done.image] = done.crops;
            batch.missing -= 1;
        }
        Ok(())
    }

    fn fail(&mut self, error: Error) -> Option<Result<Crops>> {
        self.shut_down();
        self.plan.count = Some(self.next);
        Some(Err(error))
    }

    fn shut_down(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the threads that wait for a task.
        self.tasks = None;
        self.finished = None;
        for thread in self.threads.drain(..) {
            // Panics are caught and reported inside.
            let _ = thread.join();
        }
    }
}

fn named(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.into()).spawn(work)
}

fn thread_error(source: io::Error) -> Error {
    Error::Io {
        path: "worker threads".into(),
        source,
    }
}

impl Iterator for BatchIter {
    type Item = Result<Crops>;

    fn next(&mut self) -> Option<Result<Crops>> {
        if let Some(error) = self.failure.take() {
            return self.fail(error);
        }
        if self.plan.count == Some(self.next) {
            return None;
        }
        let start = Instant::now();
        let complete = self.complete();
        self.waited += start.elapsed();
        if let Err(error) = complete {
            return self.fail(error);
        }
        let batch = self.open.pop_front()?;
        self.next += 1;
        self.feed();
        Some(Ok(Crops::new(&self.shared.crops, batch.images)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self
            .plan
            .count
            .map(|count| count.saturating_sub(self.next) as usize);
        (
            0,
            left.map(|left| left.saturating_add(usize::from(self.failure.is_some()))),
        )
    }
}

impl Drop for BatchIter {
    fn drop(&mut self) {
        self.shut_down();
    }
}
