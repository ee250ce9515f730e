//! One pass of the workers over the source.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::Shared;
use super::bad::BadImage;
use super::batch::Crops;
use crate::augment::{ChannelNormaliser, Scratch};
use crate::random::epoch_order;
use crate::{Error, Image, Result};

/// Iterates over the batches of an epoch while worker threads prepare the next ones.
///
/// Ends after an error. Dropping it stops the workers: each finishes the view it is at.
pub struct Epoch {
    shared: Arc<Shared>,
    plan: Plan,
    /// The number, counted from this iterator's start, of the batch to return next.
    next: u64,
    /// Images handed to the workers so far.
    given: u64,
    /// Batches being filled; the first is number `next`.
    open: VecDeque<Arc<Batch>>,
    /// Those of them that are full.
    full: BTreeSet<u64>,
    /// `None` once there is nothing more to hand out.
    tasks: Option<Sender<Task>>,
    finished: Receiver<Result<u64>>,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    waited: Duration,
    failure: Option<Error>,
}

/// Which batch is where.
struct Plan {
    epoch: u64,
    first_batch: u64,
    batches_per_epoch: u64,
    /// Batches to return, without end where there is no number.
    count: Option<u64>,
    /// The order of the epoch that was asked for last.
    order: Option<(u64, Arc<[usize]>)>,
}

impl Plan {
    /// Epoch of a batch and its number there.
    fn place(&self, batch: u64) -> (u64, u64) {
        // Without batches there is no other epoch to go on to.
        let per_epoch = self.batches_per_epoch.max(1);
        let batch = self.first_batch.saturating_add(batch);
        (
            self.epoch.saturating_add(batch / per_epoch),
            batch % per_epoch,
        )
    }

    fn order(&mut self, epoch: u64, shared: &Shared) -> Arc<[usize]> {
        match &self.order {
            Some((of, order)) if *of == epoch => Arc::clone(order),
            _ => {
                let order: Arc<[usize]> =
                    epoch_order(shared.config.seed, epoch, shared.source.len()).into();
                self.order = Some((epoch, Arc::clone(&order)));
                order
            }
        }
    }
}

/// A batch that is being filled.
struct Batch {
    number: u64,
    epoch: u64,
    order: Arc<[usize]>,
    /// Where its first image stands in the order.
    start: usize,
    missing: AtomicUsize,
    crops: Mutex<Crops>,
}

impl Batch {
    fn crops(&self) -> MutexGuard<'_, Crops> {
        // A worker that panicked has left at most its own image unfinished, which is redone.
        self.crops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One image to prepare: number `image` of a batch.
struct Task {
    batch: Arc<Batch>,
    image: usize,
}

impl Epoch {
    pub(super) fn start(
        shared: &Arc<Shared>,
        epoch: u64,
        first_batch: usize,
        count: Option<usize>,
    ) -> Self {
        let batch_size = shared.config.batch_size;
        let (send, receive) = bounded(shared.ahead());
        let (report, finished) = unbounded();
        let mut this = Self {
            plan: Plan {
                epoch,
                first_batch: first_batch as u64,
                batches_per_epoch: (shared.source.len() / batch_size) as u64,
                count: count.map(|count| count as u64),
                order: None,
            },
            shared: Arc::clone(shared),
            next: 0,
            given: 0,
            open: VecDeque::new(),
            full: BTreeSet::new(),
            tasks: Some(send),
            finished,
            stop: Arc::default(),
            workers: Vec::new(),
            waited: Duration::ZERO,
            failure: shared.bad.check().err(),
        };
        if this.failure.is_none() && count != Some(0) {
            this.spawn(&receive, &report);
            this.feed();
        }
        this
    }

    fn spawn(&mut self, tasks: &Receiver<Task>, report: &Sender<Result<u64>>) {
        for _ in 0..self.shared.config.workers {
            let worker = Worker {
                shared: Arc::clone(&self.shared),
                stop: Arc::clone(&self.stop),
                tasks: tasks.clone(),
                report: report.clone(),
                scratch: Scratch::default(),
            };
            match Builder::new()
                .name("dinolab-crops".into())
                .spawn(move || worker.run())
            {
                Ok(handle) => self.workers.push(handle),
                // Fewer workers are slower, but give the same crops.
                Err(_) if !self.workers.is_empty() => break,
                Err(source) => {
                    self.failure = Some(Error::Io {
                        path: "worker thread".into(),
                        source,
                    });
                    break;
                }
            }
        }
    }

    /// Hands out work until the workers are as far ahead as they may be.
    fn feed(&mut self) {
        let size = self.shared.config.batch_size;
        let window = self
            .next
            .saturating_mul(size as u64)
            .saturating_add(self.shared.ahead() as u64);
        while self.given < window {
            let (number, image) = (
                self.given / size as u64,
                (self.given % size as u64) as usize,
            );
            if self.plan.count.is_some_and(|count| number >= count) {
                self.tasks = None;
                return;
            }
            if image == 0 {
                let (epoch, batch) = self.plan.place(number);
                self.open.push_back(Arc::new(Batch {
                    number,
                    epoch,
                    order: self.plan.order(epoch, &self.shared),
                    start: batch as usize * size,
                    missing: size.into(),
                    crops: Mutex::new(self.shared.pool.take(&self.shared.crops, size)),
                }));
            }
            let (Some(batch), Some(tasks)) = (self.open.back(), &self.tasks) else {
                return;
            };
            // Never blocks: the window is no larger than the channel. Fails only when
            // the workers have stopped, which `next` reports.
            if tasks
                .send(Task {
                    batch: Arc::clone(batch),
                    image,
                })
                .is_err()
            {
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

    fn fail(&mut self, error: Error) -> Option<Result<Crops>> {
        self.shut_down();
        self.plan.count = Some(self.next);
        Some(Err(error))
    }

    fn shut_down(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the workers that wait for a task.
        self.tasks = None;
        for worker in self.workers.drain(..) {
            // Panics are caught and reported inside.
            let _ = worker.join();
        }
    }
}

impl Iterator for Epoch {
    type Item = Result<Crops>;

    fn next(&mut self) -> Option<Result<Crops>> {
        if let Some(error) = self.failure.take() {
            return self.fail(error);
        }
        if self.plan.count == Some(self.next) {
            return None;
        }
        let start = Instant::now();
        while !self.full.remove(&self.next) {
            match self.finished.recv() {
                Ok(Ok(number)) => {
                    self.full.insert(number);
                }
                Ok(Err(error)) => return self.fail(error),
                Err(_) => {
                    let source = std::io::Error::other("all of them have ended");
                    return self.fail(Error::Io {
                        path: "worker threads".into(),
                        source,
                    });
                }
            }
        }
        self.waited += start.elapsed();
        let batch = self.open.pop_front()?;
        let crops = std::mem::take(&mut *batch.crops());
        self.next += 1;
        self.feed();
        Some(Ok(crops))
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

impl Drop for Epoch {
    fn drop(&mut self) {
        self.shut_down();
    }
}

struct Worker {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    tasks: Receiver<Task>,
    report: Sender<Result<u64>>,
    scratch: Scratch,
}

impl Worker {
    fn run(mut self) {
        while let Ok(task) = self.tasks.recv() {
            if self.stopped() {
                return;
            }
            // Only a defect of a source can panic here; it must not leave `next` waiting.
            let result =
                catch_unwind(AssertUnwindSafe(|| self.prepare(&task))).unwrap_or_else(|_| {
                    let source = std::io::Error::other("it panicked");
                    Err(Error::Io {
                        path: "worker thread".into(),
                        source,
                    })
                });
            let report = match result {
                Ok(()) if self.stopped() => return,
                // The last image's worker sees the others' writes: they hold the same lock.
                Ok(()) if task.batch.missing.fetch_sub(1, Ordering::AcqRel) > 1 => continue,
                Ok(()) => Ok(task.batch.number),
                Err(error) => {
                    self.stop.store(true, Ordering::Relaxed);
                    Err(error)
                }
            };
            // Fails when the epoch was dropped, which also ends this loop.
            let _ = self.report.send(report);
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Fills an image's place with its own crops or, where it cannot be used, with those of
    /// the next usable image in the order, drawn by the key of the one it stands in for.
    fn prepare(&mut self, task: &Task) -> Result<()> {
        let order = &task.batch.order;
        let position = task.batch.start + task.image;
        let key = order[position];
        for offset in 0..order.len() {
            let index = order[(position + offset) % order.len()];
            if self.shared.bad.contains(index) {
                continue;
            }
            // A decoder that panics on a damaged file must not end the run.
            let attempt = catch_unwind(AssertUnwindSafe(|| self.fill(task, index, key as u64)));
            let reason = match attempt {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Error::BadImage { reason, .. })) => reason,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "decoding it panicked".into(),
            };
            if self.stopped() {
                return Ok(());
            }
            let name = self.shared.source.name(index);
            self.shared.bad.add(BadImage {
                index,
                name,
                reason,
            })?;
        }
        // Every image was bad by now; another worker may have added the last one.
        self.shared.bad.check()
    }

    fn fill(&mut self, task: &Task, index: usize, key: u64) -> Result<()> {
        let shared = &self.shared;
        let image = shared.image(index)?;
        let key = (shared.config.seed, task.batch.epoch, key);
        if let Some(normaliser) = &shared.channel_normaliser {
            let scratch = &mut self.scratch;
            return fill_channels(shared, task, (index, &image), key, normaliser, scratch);
        }
        for view in 0..shared.crops.views() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let pixels = shared.crops.view(&image, key, view, &mut self.scratch)?;
            // Only the conversion is done under the lock: no more work than a copy.
            shared
                .normaliser
                .apply_planes(pixels, task.batch.crops().view_mut(view, task.image));
        }
        task.batch.crops().indices[task.image] = index;
        Ok(())
    }
}

/// As [`Worker::fill`], for images that are not 8-bit RGB.
fn fill_channels(
    shared: &Shared,
    task: &Task,
    (index, image): (usize, &Image),
    key: (u64, u64, u64),
    normaliser: &ChannelNormaliser,
    scratch: &mut Scratch,
) -> Result<()> {
    for view in 0..shared.crops.views() {
        let planes = shared.crops.channel_view(image, key, view, scratch)?;
        normaliser.apply(planes);
        let mut crops = task.batch.crops();
        crops.view_mut(view, task.image).copy_from_slice(planes);
    }
    task.batch.crops().indices[task.image] = index;
    Ok(())
}

impl Shared {
    /// Images that workers may be ahead of the batches returned.
    fn ahead(&self) -> usize {
        self.config.queue.max(self.config.batch_size)
    }

    fn image(&self, index: usize) -> Result<Arc<Image>> {
        if let Some(image) = self.cache.get(index) {
            return Ok(image);
        }
        let image = self.source.image(index)?;
        self.crops.pixels.check(&image)?;
        let image = Arc::new(image);
        self.cache.offer(index, &image);
        Ok(image)
    }
}
