//! The training loop, for any method.

mod batches;
mod due;
mod event;
mod record;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dinolab_data::augment::MultiCrop;
use dinolab_data::loader::UnusableImage;
use dinolab_data::{Loader, LoaderConfig, Share, Source};
use dinolab_nn::weights::{LoadOptions, Weights};

use self::batches::{Batches, Loaders};
pub use self::due::{Cadence, Due};
pub use self::event::{Event, Observer, StepTime};
use self::record::Record;
use crate::checkpoint::Checkpoint;
use crate::divergence::Divergence;
use crate::method::BatchShape;
use crate::{
    Error, Method, Ranks, Result, Schedule, ScheduleConfig, StepHyperparams, StepReport, Views,
};

/// Everything that decides how a run goes, but the method.
#[derive(Clone, Debug)]
pub struct TrainConfig {
    /// Schedules; their `steps_per_epoch` follows from the images.
    pub schedule: ScheduleConfig,
    /// The views.
    pub crops: MultiCrop,
    /// Other views for the first epochs, and the number of those: a curriculum that begins with a
    /// low resolution, which costs less.
    pub early_crops: Option<(u64, MultiCrop)>,
    /// Reading; its batch is the micro-batch.
    pub loader: LoaderConfig,
    /// Micro-batches per optimiser step.
    pub accumulate: usize,
    /// Stop, with a checkpoint, after N epochs, schedules unchanged.
    pub stop_after_epochs: Option<f64>,
    /// When to log, evaluate and save.
    pub cadence: Cadence,
    /// Keep a permanent checkpoint every N epochs; 0 disables.
    pub keep_every: u64,
    /// Weights that a new run starts from, instead of random ones.
    pub initial: Option<(Weights, LoadOptions)>,
    /// The configuration as text, for the record.
    pub config: String,
    /// Further metadata of every checkpoint, for users of its weights (`preprocess`).
    pub metadata: BTreeMap<String, String>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            schedule: ScheduleConfig::default(),
            crops: MultiCrop::default(),
            early_crops: None,
            loader: LoaderConfig::default(),
            accumulate: 1,
            stop_after_epochs: None,
            cadence: Cadence::default(),
            keep_every: 0,
            initial: None,
            config: String::new(),
            metadata: BTreeMap::new(),
        }
    }
}

/// Optimiser steps in an epoch of `images`.
///
/// # Errors
/// [`Error::BadSetting`] where there are fewer images than one step needs.
pub fn steps_per_epoch(images: usize, batch: usize, accumulate: usize) -> Result<u64> {
    let steps = images / (batch * accumulate).max(1);
    if steps == 0 {
        let field = if accumulate > 1 {
            "accumulate"
        } else {
            "batch-size"
        };
        let reason = format!(
            "a step needs {} images, but there are only {images}; lower it",
            batch * accumulate
        );
        return Err(Error::BadSetting { field, reason });
    }
    Ok(steps as u64)
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// All steps are done.
    Finished,
    /// `stop_after_epochs` was reached.
    StoppedAsPlanned,
    /// It was asked to stop.
    Interrupted,
}

/// A run of a method over a dataset.
pub struct Trainer<'a> {
    config: &'a TrainConfig,
    ranks: Ranks,
    method: Box<dyn Method>,
    loaders: Loaders,
    schedule: Schedule,
    record: Record<'a>,
    observed: BTreeMap<String, String>,
    /// Steps done.
    done: u64,
    /// Steps after which this run ends.
    last: u64,
    /// Images of the source.
    images: usize,
    /// Unusable images that observers know of.
    known_unusable: usize,
}

impl<'a> Trainer<'a> {
    /// A new run, or one resumed from `resume`; its checkpoints are kept in `checkpoints`.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for settings that do not fit the images or the method;
    /// [`Error::BadCheckpoint`] or [`Error::Model`] for a checkpoint or weights of another network.
    pub fn new(
        config: &'a TrainConfig,
        method: Box<dyn Method>,
        source: Arc<dyn Source>,
        checkpoints: &'a Path,
        resume: Option<Checkpoint>,
    ) -> Result<Self> {
        Self::among(
            Ranks::default(),
            config,
            method,
            source,
            checkpoints,
            resume,
        )
    }

    /// [`Trainer::new`] for one of the processes `ranks`, all of which are given the same. Only the
    /// first one writes checkpoints; it is also the one to observe.
    ///
    /// # Errors
    /// As [`Trainer::new`]; [`Error::BadSetting`] for a batch that cannot be divided.
    pub fn among(
        ranks: Ranks,
        config: &'a TrainConfig,
        mut method: Box<dyn Method>,
        source: Arc<dyn Source>,
        checkpoints: &'a Path,
        resume: Option<Checkpoint>,
    ) -> Result<Self> {
        method.check(BatchShape {
            micro_batch: config.loader.batch_size,
            accumulate: config.accumulate,
        })?;
        ranks.check_batch(config.loader.batch_size)?;
        method.distribute(&ranks)?;
        let images = source.len();
        let mut reading = config.loader.clone();
        reading.share = Share {
            rank: ranks.rank(),
            of: ranks.size(),
        };
        let full = Loader::new(source, config.crops.clone(), reading)?;
        let early = match &config.early_crops {
            Some((epochs, crops)) => Some((*epochs, full.with_crops(crops.clone())?)),
            None => None,
        };
        let steps_per_epoch = steps_per_epoch(images, config.loader.batch_size, config.accumulate)?;
        let schedule = Schedule::new(ScheduleConfig {
            steps_per_epoch,
            ..config.schedule.clone()
        });
        let last = match config.stop_after_epochs {
            Some(epochs) => schedule
                .steps()
                .min((epochs * steps_per_epoch as f64).round() as u64),
            None => schedule.steps(),
        };
        if let Some((weights, options)) = config.initial.as_ref().filter(|_| resume.is_none()) {
            method.start_from(weights, *options)?;
        }
        let (mut done, mut observed) = (0, BTreeMap::new());
        let folder = ranks.leads().then_some(checkpoints);
        let record = match resume {
            None => Record::new(config, folder, steps_per_epoch, &*method),
            Some(checkpoint) => {
                checkpoint.restore(&mut *method)?;
                done = checkpoint.position.step;
                observed.clone_from(&checkpoint.position.observers);
                Record::resumed(config, folder, steps_per_epoch, &*method, checkpoint)
            }
        };
        Ok(Self {
            config,
            ranks,
            method,
            loaders: Loaders { early, full },
            schedule,
            record,
            observed,
            done,
            last,
            images,
            known_unusable: 0,
        })
    }

    /// The schedules.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Trains until the schedule ends or an observer stops it.
    ///
    /// # Errors
    /// Whatever ends a run: [`Error::Diverged`], too many unusable images, a full disk. The last
    /// checkpoint stays as it was; if the run diverged, the last sound one.
    pub fn run(
        mut self,
        observers: &mut [&mut dyn Observer],
    ) -> Result<(Box<dyn Method>, RunOutcome)> {
        for observer in observers.iter_mut() {
            let state = self.observed.get(observer.name());
            observer.restore(state.map(String::as_str))?;
        }
        let (step, schedule) = (self.done, &self.schedule);
        self.tell(observers, &Event::Started { step, schedule })?;
        if self.done == 0 && self.config.cadence.evaluate_every > 0 {
            self.tell(observers, &Event::Evaluate { epochs: 0, step: 0 })?;
        }
        let accumulate = self.config.accumulate;
        let mut batches = Batches::new(
            &self.loaders,
            &self.schedule,
            self.done,
            self.last,
            accumulate,
        );
        let (mut clock, mut waited) = (Instant::now(), batches.waited());
        while self.done < self.last {
            let hp = self.schedule.at(self.done);
            let views = self.views(&mut batches, observers)?;
            let mut report = self.step(&views, &hp)?;
            if self.schedule.samples(hp.step) {
                report.outputs.gather(&self.ranks)?;
            }
            let own_images: usize = views.iter().map(|views| views.batch).sum();
            let time = StepTime {
                total: clock.elapsed(),
                waited: batches.waited() - waited,
                images: own_images * self.ranks.size(),
            };
            (clock, waited) = (Instant::now(), batches.waited());
            let due = self
                .config
                .cadence
                .due(&self.schedule, self.done, self.last);
            let (hp, report, log) = (&hp, &report, due.log);
            self.tell(
                observers,
                &Event::Stepped {
                    hp,
                    report,
                    time,
                    log,
                },
            )?;
            if self.ranks.size() == 1 || due.log || due.epoch_end || due.save {
                let own = self.loaders.full.unusable_images();
                let (images, limit) = (self.images, self.config.loader.max_unusable);
                let unusable = self.ranks.unusable(own, images, limit)?;
                self.tell_unusable(observers, &unusable)?;
            }
            if due.epoch_end {
                let (epoch, step) = (hp.epoch, self.done);
                self.tell(observers, &Event::EpochEnded { epoch, step })?;
                if due.evaluate {
                    let epochs = epoch + 1;
                    self.tell(observers, &Event::Evaluate { epochs, step })?;
                }
            }
            // Asked once: what is decided here is also saved here.
            let stop = observers.iter().any(|observer| observer.stop_requested());
            let stop = self.ranks.any(stop)?;
            if due.save || stop {
                self.ranks.check_alike(self.done, || self.method.state())?;
                self.record.save(&*self.method, self.done, observers)?;
            }
            if stop && self.done < self.last {
                return Ok((self.method, RunOutcome::Interrupted));
            }
            if due.epoch_end {
                (clock, waited) = (Instant::now(), batches.waited());
            }
        }
        let outcome = if self.done == self.schedule.steps() {
            RunOutcome::Finished
        } else {
            RunOutcome::StoppedAsPlanned
        };
        Ok((self.method, outcome))
    }

    /// The micro-batches of a step.
    fn views(
        &mut self,
        batches: &mut Batches,
        observers: &mut [&mut dyn Observer],
    ) -> Result<Vec<Views>> {
        let mut views = Vec::with_capacity(self.config.accumulate);
        for _ in 0..self.config.accumulate {
            match batches.next().expect("a batch for every step") {
                Ok(crops) => {
                    let (shards, device) = (self.ranks.own_shards(), self.method.device());
                    views.append(&mut Views::shards(&crops, shards, device));
                    batches.recycle(crops);
                }
                Err(error) => {
                    // If too many are unusable, which ones is what one wants to know.
                    let own = self.loaders.full.unusable_images();
                    self.tell_unusable(observers, &own)?;
                    return Err(error.into());
                }
            }
        }
        Ok(views)
    }

    /// One step of the method, checked for divergence.
    fn step(&mut self, views: &[Views], hp: &StepHyperparams) -> Result<StepReport> {
        let (ranks, method) = (&self.ranks, &mut self.method);
        let report = match ranks.whole_batch(|| method.step(views, hp)) {
            Err(Error::NonFiniteLoss { loss, .. }) => {
                return Err(self.record.diverged(self.done, Divergence::Loss(loss)));
            }
            report => report?,
        };
        let norms = &report.grad_norms;
        if let Some(place) = norms.iter().position(|norm| !norm.is_finite()) {
            // The weights have taken the step already.
            let name = self.method.trained_names().get(place).cloned();
            let cause = Divergence::Gradient(name.unwrap_or_default());
            return Err(self.record.diverged(self.done, cause));
        }
        if hp.step == self.schedule.thaws_at() {
            // Gradients of the head alone do not tell what is usual from here on.
            self.record.soundness.forget_gradients();
        }
        let guessing = self.method.loss_of_guessing();
        self.record.soundness.step(report.loss, norms, guessing);
        self.done += 1;
        Ok(report)
    }

    fn tell(&self, observers: &mut [&mut dyn Observer], event: &Event) -> Result<()> {
        observers
            .iter_mut()
            .try_for_each(|observer| observer.on(event, &*self.method))
    }

    fn tell_unusable(
        &mut self,
        observers: &mut [&mut dyn Observer],
        unusable: &[UnusableImage],
    ) -> Result<()> {
        if unusable.len() > self.known_unusable {
            self.known_unusable = unusable.len();
            self.tell(observers, &Event::Unusable(unusable))?;
        }
        Ok(())
    }
}
