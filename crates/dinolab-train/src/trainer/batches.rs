//! The batches that a run has left.

use std::collections::VecDeque;
use std::time::Duration;

use dinolab_data::loader::BatchIter;
use dinolab_data::{Crops, Loader};

use crate::Schedule;

/// The loaders of a run: of all epochs, or one for the first epochs and one for the others.
pub(super) struct Loaders {
    /// Of the first epochs, and how many those are.
    pub early: Option<(u64, Loader)>,
    /// Of the others.
    pub full: Loader,
}

/// A stretch of a run with crops of one size: one stream through its epochs, so that crops of the
/// next one are made while this one is evaluated.
struct Stage {
    loader: Loader,
    /// Steps before the stage's first.
    first: u64,
    steps: u64,
}

/// Iterates over the batches of a run.
pub(super) struct Batches {
    stages: VecDeque<Stage>,
    current: Option<(Loader, BatchIter)>,
    /// How long ended stages have waited.
    waited: Duration,
    per_epoch: u64,
    accumulate: usize,
}

impl Batches {
    /// The batches of steps `done..last`, each of `accumulate` batches.
    pub(super) fn new(
        loaders: &Loaders,
        schedule: &Schedule,
        done: u64,
        last: u64,
        accumulate: usize,
    ) -> Self {
        let per_epoch = schedule.steps_per_epoch();
        let early = loaders.early.as_ref();
        let turn = early.map_or(0, |(epochs, _)| epochs.saturating_mul(per_epoch));
        let parts = [
            (early.map(|(_, loader)| loader), 0, turn),
            (Some(&loaders.full), turn, u64::MAX),
        ];
        let stage = |(loader, from, to): (Option<&Loader>, u64, u64)| {
            let first = done.max(from);
            let steps = last.min(to).saturating_sub(first);
            let loader = loader.filter(|_| steps > 0)?.clone();
            Some(Stage {
                loader,
                first,
                steps,
            })
        };
        Self {
            stages: parts.into_iter().filter_map(stage).collect(),
            current: None,
            waited: Duration::ZERO,
            per_epoch,
            accumulate,
        }
    }

    /// How long batches have been waited for.
    pub(super) fn waited(&self) -> Duration {
        let current = self.current.as_ref();
        self.waited + current.map_or(Duration::ZERO, |(_, batches)| batches.waited())
    }

    /// Returns the buffers of the last batch.
    pub(super) fn recycle(&self, crops: Crops) {
        if let Some((loader, _)) = &self.current {
            loader.recycle(crops);
        }
    }

    fn start(&self, stage: Stage) -> (Loader, BatchIter) {
        let batches_of = |steps: u64| {
            usize::try_from(steps)
                .unwrap_or(usize::MAX)
                .saturating_mul(self.accumulate)
        };
        let batches = stage.loader.train_batches(
            stage.first / self.per_epoch,
            batches_of(stage.first % self.per_epoch),
            batches_of(self.per_epoch),
            batches_of(stage.steps),
        );
        (stage.loader, batches)
    }
}

impl Iterator for Batches {
    type Item = dinolab_data::Result<Crops>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let batch = match &mut self.current {
                Some((_, batches)) => batches.next(),
                None => None,
            };
            if batch.is_some() {
                return batch;
            }
            self.waited = self.waited();
            self.current = None;
            let stage = self.stages.pop_front()?;
            self.current = Some(self.start(stage));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dinolab_data::augment::MultiCrop;
    use dinolab_data::shapes::Shapes;
    use dinolab_data::{LoaderConfig, Size};

    use super::*;
    use crate::ScheduleConfig;

    /// Sides and a few values of the crops of steps `done..8`, with four steps an epoch, two batches
    /// a step, and small crops for one epoch.
    fn stream(done: u64) -> Vec<(usize, Vec<f32>)> {
        let crops = |side: usize| MultiCrop {
            global_size: Size::square(side),
            local_views: 0,
            ..MultiCrop::default()
        };
        let config = LoaderConfig {
            batch_size: 2,
            workers: 2,
            ..LoaderConfig::default()
        };
        let full = Loader::new(Arc::new(Shapes::new(0, 16)), crops(32), config).unwrap();
        let early = Some((1, full.with_crops(crops(16)).unwrap()));
        let schedule = Schedule::new(ScheduleConfig {
            epochs: 2.0,
            steps_per_epoch: 4,
            ..ScheduleConfig::default()
        });
        let mut batches = Batches::new(&Loaders { early, full }, &schedule, done, 8, 2);
        let mut seen = Vec::new();
        while let Some(batch) = batches.next() {
            let batch = batch.unwrap();
            seen.push((batch.global_size.width, batch.global()[..5].to_vec()));
            batches.recycle(batch);
        }
        seen
    }

    #[test]
    fn crops_grow_after_the_first_epochs_and_a_resumed_stream_is_the_rest() {
        let whole = stream(0);
        let sides: Vec<usize> = whole.iter().map(|(side, _)| *side).collect();
        assert_eq!(sides, [[16; 8], [32; 8]].concat());
        for done in 1..=8 {
            assert_eq!(stream(done), whole[2 * done as usize..], "{done}");
        }
    }
}
