//! The training loop.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::{Tensor, TensorData};
use dinolab_data::augment::MultiCrop;
use dinolab_data::loader::UnusableImage;
use dinolab_data::{Loader, LoaderConfig, Source};
use dinolab_nn::Device;
use dinolab_nn::weights::{LoadOptions, Weights, load};

use crate::checkpoint::{self, Checkpoint, Position, SOUND, YES};
use crate::soundness::{Divergence, Soundness};
use crate::{
    Dino, DinoConfig, Error, Result, ScheduleConfig, Schedules, StepReport, StepValues, Views,
};

/// Everything that decides how a run goes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Network, optimiser and temperatures.
    pub dino: DinoConfig,
    /// Schedules; their `steps_per_epoch` follows from the images.
    pub schedule: ScheduleConfig,
    /// The views.
    pub crops: MultiCrop,
    /// Reading; its batch is the micro-batch.
    pub loader: LoaderConfig,
    /// Micro-batches per optimiser step.
    pub accumulate: usize,
    /// Stop (with a checkpoint) after so many epochs, schedules unchanged.
    pub stop_after_epochs: Option<f64>,
    /// Checkpoint every so many epochs.
    pub checkpoint_every: u64,
    /// Checkpoint every so many steps besides; 0 for never.
    pub checkpoint_every_steps: u64,
    /// Keep for good the checkpoint of every so many epochs; 0 for none.
    pub keep_every: u64,
    /// Weights that student and teacher start from, instead of random ones.
    pub initial: Option<(Weights, LoadOptions)>,
    /// The configuration as text, for the record.
    pub config: String,
    /// Further metadata of every checkpoint, for whoever uses its weights (`preprocess`).
    pub facts: BTreeMap<String, String>,
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

/// What one step took, for display; never part of the results.
#[derive(Clone, Copy, Debug)]
pub struct StepTime {
    /// From one step's end to the next one's.
    pub total: Duration,
    /// Of that, waiting for crops.
    pub waited: Duration,
    /// Images seen.
    pub images: usize,
}

/// Watches a run: shows it, measures its health, evaluates it.
pub trait Observer {
    /// Before the first step, new or resumed, with the steps already done. `state` is what
    /// [`Observer::state`] returned at the checkpoint, empty for a new run.
    fn started(&mut self, dino: &Dino, schedules: &Schedules, done: u64, state: &str)
    -> Result<()>;
    /// After a step.
    fn stepped(
        &mut self,
        dino: &Dino,
        now: &StepValues,
        report: &StepReport,
        time: StepTime,
    ) -> Result<()>;
    /// After an epoch's last step (number `epoch`, from 0), with `done` steps done, before the
    /// epoch's checkpoint.
    fn epoch_ended(&mut self, dino: &Dino, epoch: u64, done: u64) -> Result<()>;
    /// Images newly found unusable.
    fn skipped(&mut self, images: &[UnusableImage]) -> Result<()>;
    /// Before a checkpoint is written: whatever must not be lost with it.
    fn state(&mut self) -> Result<String>;
    /// Whether what was measured so far shows that the run diverges, so that no checkpoint of now
    /// is one to go back to.
    fn diverging(&self) -> bool {
        false
    }
    /// Whether to stop after the step at hand.
    fn stop_requested(&self) -> bool;
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done.
    Finished,
    /// `stop_after_epochs` was reached.
    StoppedAsPlanned,
    /// It was asked to stop.
    Interrupted,
}

/// Trains until the schedule ends or the observer stops it, from the newest whole checkpoint
/// in `checkpoints` where `resume` gives one.
///
/// # Errors
/// Whatever ends a run: [`Error::Diverged`], too many unusable images, a full disk. The last
/// checkpoint stays as it was; where the run diverged, the last sound one.
pub fn run(
    plan: &Plan,
    source: Arc<dyn Source>,
    checkpoints: &Path,
    resume: Option<Checkpoint>,
    observer: &mut dyn Observer,
    device: &Device,
) -> Result<(Dino, Ending)> {
    let images = source.len();
    let loader = Loader::new(source, plan.crops.clone(), plan.loader.clone())?;
    let steps_per_epoch = steps_per_epoch(images, plan.loader.batch_size, plan.accumulate)?;
    let schedules = Schedules::new(ScheduleConfig {
        steps_per_epoch,
        ..plan.schedule.clone()
    });
    let last = match plan.stop_after_epochs {
        Some(epochs) => schedules
            .steps()
            .min((epochs * steps_per_epoch as f64).round() as u64),
        None => schedules.steps(),
    };

    let mut dino = Dino::new(&plan.dino, device)?;
    let mut done = 0;
    let mut observed = String::new();
    if let Some((weights, options)) = plan.initial.as_ref().filter(|_| resume.is_none()) {
        load(&mut dino.student, "", weights, *options)?;
        load(&mut dino.teacher, "", weights, *options)?;
        if let Some(centre) = weights
            .centre
            .as_ref()
            .filter(|c| c.len() == plan.dino.head.out_dim)
        {
            dino.centre =
                Tensor::from_data(TensorData::new(centre.clone(), [centre.len()]), device);
        }
    }
    let mut changes = Vec::new();
    let mut soundness = None;
    if let Some(checkpoint) = resume {
        checkpoint.restore(&mut dino)?;
        let sound = checkpoint.doubt().is_none();
        let position = checkpoint.position;
        done = position.step;
        observed = position.observers;
        changes = position.changes;
        soundness = position.soundness;
        if soundness.is_none() && sound {
            soundness.insert(Soundness::of(&dino)).found_sound(done);
        }
    }
    let mut record = Record {
        plan,
        folder: checkpoints,
        steps_per_epoch,
        changes,
        soundness: soundness.unwrap_or_else(|| Soundness::of(&dino)),
    };
    observer.started(&dino, &schedules, done, &observed)?;

    let mut known_bad = 0;
    let mut saved = None;
    // One stream through all epochs: crops of the next one are made while this one is judged.
    let batches_of = |steps: u64| {
        usize::try_from(steps)
            .unwrap_or(usize::MAX)
            .saturating_mul(plan.accumulate)
    };
    let mut batches = loader.train_batches(
        done / steps_per_epoch,
        batches_of(done % steps_per_epoch),
        batches_of(steps_per_epoch),
        batches_of(last.saturating_sub(done)),
    );
    while done < last {
        let epoch = done / steps_per_epoch;
        let (mut clock, mut waited) = (Instant::now(), batches.waited());
        while done < last && done / steps_per_epoch == epoch {
            let mut views = Vec::with_capacity(plan.accumulate);
            for _ in 0..plan.accumulate {
                let crops = match batches.next().expect("a batch for every step") {
                    Ok(crops) => crops,
                    Err(error) => {
                        // Where too many are unusable, which ones is what one wants to know.
                        let bad = loader.unusable_images();
                        if !bad.is_empty() {
                            observer.skipped(&bad)?;
                        }
                        return Err(error.into());
                    }
                };
                views.push(Views::new(&crops, dino.device()));
                loader.recycle(crops);
            }
            let now = schedules.at(done);
            let report = match dino.step(&views, &now) {
                Err(Error::NonFiniteLoss { loss, .. }) => {
                    return Err(record.diverged(done, Divergence::Loss(loss)));
                }
                report => report?,
            };
            let norms = &report.grad_norms;
            if let Some(place) = norms.iter().position(|norm| !norm.is_finite()) {
                // The weights have taken the step already.
                let name = dino.trained_names().nth(place).unwrap_or_default();
                return Err(record.diverged(done, Divergence::Gradient(name.to_owned())));
            }
            let out_dim = plan.dino.head.out_dim;
            record.soundness.step(report.loss, norms, out_dim);
            done += 1;

            let time = StepTime {
                total: clock.elapsed(),
                waited: batches.waited() - waited,
                images: views.iter().map(|views| views.batch).sum(),
            };
            (clock, waited) = (Instant::now(), batches.waited());
            observer.stepped(&dino, &now, &report, time)?;
            let bad = loader.unusable_images();
            if bad.len() > known_bad {
                known_bad = bad.len();
                observer.skipped(&bad)?;
            }

            let stop = observer.stop_requested();
            let due = plan.checkpoint_every_steps > 0 && done % plan.checkpoint_every_steps == 0;
            // The end of an epoch is checkpointed below, after its evaluation.
            if (stop || due) && done % steps_per_epoch != 0 {
                record.save(&dino, done, observer)?;
                saved = Some(done);
            }
            if stop {
                break;
            }
        }
        let mut stop = observer.stop_requested();
        if done % steps_per_epoch == 0 || done == schedules.steps() {
            observer.epoch_ended(&dino, epoch, done)?;
            // Asked once more and no more: what is decided here must also be saved here.
            stop = observer.stop_requested();
            let at_end = done == last || stop;
            if at_end || (epoch + 1) % plan.checkpoint_every.max(1) == 0 {
                record.save(&dino, done, observer)?;
                saved = Some(done);
            }
        }
        if stop && done < last {
            return Ok((dino, Ending::Interrupted));
        }
    }
    // A planned stop within an epoch.
    if saved != Some(done) && done % steps_per_epoch != 0 {
        record.save(&dino, done, observer)?;
    }
    let ending = if done == schedules.steps() {
        Ending::Finished
    } else {
        Ending::StoppedAsPlanned
    };
    Ok((dino, ending))
}

/// Writes a run's checkpoints, and knows which of them are sound.
struct Record<'a> {
    plan: &'a Plan,
    folder: &'a Path,
    steps_per_epoch: u64,
    changes: Vec<checkpoint::Change>,
    soundness: Soundness,
}

impl Record<'_> {
    fn save(&mut self, dino: &Dino, step: u64, observer: &mut dyn Observer) -> Result<()> {
        let doubt = match self.soundness.doubt(dino) {
            None if observer.diverging() => Some("its health figures show divergence".into()),
            doubt => doubt,
        };
        let before = self.soundness.clone();
        if doubt.is_none() {
            self.soundness.found_sound(step);
        }
        let position = Position {
            step,
            observers: observer.state()?,
            config: self.plan.config.clone(),
            soundness: Some(self.soundness.clone()),
            changes: self.changes.clone(),
        };
        let mut facts = self.plan.facts.clone();
        facts.insert(
            checkpoint::EPOCH.into(),
            (step / self.steps_per_epoch).to_string(),
        );
        facts.insert(SOUND.into(), doubt.unwrap_or_else(|| YES.into()));
        match checkpoint::save(self.folder, dino, &position, &facts) {
            Err(Error::NonFiniteValues { tensor, .. }) => {
                self.soundness = before;
                return Err(self.diverged(step, Divergence::Weights(tensor)));
            }
            saved => saved?,
        };
        let keep = self.plan.keep_every * self.steps_per_epoch;
        let sound = self.soundness.newest_sound();
        // Two, so that a damaged newest one does not end the run.
        checkpoint::prune(self.folder, 2, |step| {
            keep > 0 && step % keep == 0 || Some(step) == sound
        });
        for left in checkpoint::aside(self.folder) {
            // The run has gone on without them.
            let _ = std::fs::remove_file(left);
        }
        Ok(())
    }

    /// The error of a run that diverged after `step` steps, whose unsound checkpoints are set
    /// aside.
    fn diverged(&self, step: u64, cause: Divergence) -> Error {
        let sound = self.soundness.newest_sound().and_then(|_| {
            let checkpoint = Checkpoint::newest_sound(self.folder)?;
            Some((checkpoint.position.step, checkpoint.path().to_owned()))
        });
        match checkpoint::set_aside(self.folder, sound.as_ref().map(|(step, _)| *step)) {
            Ok(aside) => Error::Diverged {
                step,
                cause,
                sound,
                aside,
            },
            Err(error) => error,
        }
    }
}
