//! Workers: image by image, from the file to the crops.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender};

use super::batch::ImageCrops;
use super::plan::Task;
use super::shared::Shared;
use super::unusable::UnusableImage;
use crate::augment::Scratch;
use crate::{Error, Result};

/// An image that is ready.
pub(super) struct Done {
    pub(super) batch: u64,
    pub(super) image: usize,
    pub(super) crops: ImageCrops,
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) tasks: Receiver<Task>,
    pub(super) report: Sender<Result<Done>>,
    pub(super) scratch: Scratch,
}

impl Worker {
    pub(super) fn run(mut self) {
        while let Ok(mut task) = self.tasks.recv() {
            if self.stopped() {
                return;
            }
            // Only a defect of a source can panic here; it must not leave `next` waiting.
            let result =
                catch_unwind(AssertUnwindSafe(|| self.prepare(&mut task))).unwrap_or_else(|_| {
                    let source = std::io::Error::other("it panicked");
                    Err(Error::Io {
                        path: "worker thread".into(),
                        source,
                    })
                });
            let report = match result {
                Ok(()) if self.stopped() => return,
                Ok(()) => Ok(Done {
                    batch: task.batch,
                    image: task.image,
                    crops: task.crops,
                }),
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

    /// Fills a task's buffers with the crops of its image or, where that cannot be used, of the
    /// next usable image in the order, drawn by the key of the one it stands in for.
    fn prepare(&mut self, task: &mut Task) -> Result<()> {
        let order = Arc::clone(&task.order);
        let key = task.index() as u64;
        for offset in 0..order.len() {
            let index = order[(task.position + offset) % order.len()];
            let file = task.file.take();
            if self.shared.unusable.contains(index) {
                continue;
            }
            // A decoder that panics on a damaged file must not end the run.
            let attempt = catch_unwind(AssertUnwindSafe(|| self.fill(task, index, key, file)));
            let reason = match attempt {
                Ok(Ok(())) => return Ok(()),
                // Says nothing of the image, which would be there another time.
                Ok(Err(error)) if error.is_unreachable() => return Err(error),
                Ok(Err(Error::BadImage { reason, .. })) => reason,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "decoding it panicked".into(),
            };
            if self.stopped() {
                return Ok(());
            }
            let name = self.shared.source.name(index);
            self.shared.unusable.add(UnusableImage {
                index,
                name,
                reason,
            })?;
        }
        // Every image was bad by now; another worker may have added the last one.
        self.shared.unusable.check()
    }

    fn fill(
        &mut self,
        task: &mut Task,
        index: usize,
        key: u64,
        file: Option<Result<Vec<u8>>>,
    ) -> Result<()> {
        let shared = &self.shared;
        let image = shared.image(index, file)?;
        let epoch = shared.config.crops_of(task.epoch);
        let key = (shared.config.seed, epoch, key);
        for view in 0..shared.crops.views() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let values = task.crops.view_mut(view, shared.crops.local_views);
            if let Some(normaliser) = &shared.channel_normaliser {
                let scratch = &mut self.scratch;
                let planes = shared
                    .crops
                    .channel_view(&image.image, key, view, scratch)?;
                normaliser.apply(planes);
                values.copy_from_slice(planes);
            } else {
                let pixels = shared
                    .crops
                    .view_scaled(&image, key, view, &mut self.scratch)?;
                shared.normaliser.apply_planes(pixels, values);
            }
        }
        task.crops.index = index;
        Ok(())
    }
}
