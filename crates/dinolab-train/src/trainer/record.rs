//! A run's checkpoints: written, pruned, and sound or not.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Observer, TrainConfig};
use crate::checkpoint::{self, Change, Checkpoint, SOUND, TrainState, YES};
use crate::divergence::Divergence;
use crate::soundness::Soundness;
use crate::{Error, Method, Result};

/// Writes a run's checkpoints and tracks which of them are sound.
pub(super) struct Record<'a> {
    config: &'a TrainConfig,
    /// `None` in a process that does not write.
    folder: Option<&'a Path>,
    steps_per_epoch: u64,
    changes: Vec<Change>,
    pub(super) soundness: Soundness,
}

impl<'a> Record<'a> {
    /// For a new run.
    pub(super) fn new(
        config: &'a TrainConfig,
        folder: Option<&'a Path>,
        steps_per_epoch: u64,
        method: &dyn Method,
    ) -> Self {
        Self {
            config,
            folder,
            steps_per_epoch,
            changes: Vec::new(),
            soundness: Soundness::of(method),
        }
    }

    /// For a run resumed from `checkpoint`, which `method` has been restored from.
    pub(super) fn resumed(
        config: &'a TrainConfig,
        folder: Option<&'a Path>,
        steps_per_epoch: u64,
        method: &dyn Method,
        checkpoint: Checkpoint,
    ) -> Self {
        let sound = checkpoint.doubt().is_none();
        let position = checkpoint.position;
        let soundness = position.soundness.unwrap_or_else(|| {
            let mut fresh = Soundness::of(method);
            if sound {
                fresh.found_sound(position.step);
            }
            fresh
        });
        Self {
            config,
            folder,
            steps_per_epoch,
            changes: position.changes,
            soundness,
        }
    }

    /// Writes the checkpoint after `step` steps.
    pub(super) fn save(
        &mut self,
        method: &dyn Method,
        step: u64,
        observers: &mut [&mut dyn Observer],
    ) -> Result<()> {
        let diverging = observers.iter().any(|observer| observer.diverging());
        let doubt = match self.soundness.doubt(method) {
            None if diverging => Some("its health figures show divergence".into()),
            doubt => doubt,
        };
        let before = self.soundness.clone();
        if doubt.is_none() {
            self.soundness.found_sound(step);
        }
        let Some(folder) = self.folder else {
            return match method.state().not_finite() {
                Some(tensor) => Err(self.diverged(step, Divergence::Weights(tensor.clone()))),
                None => Ok(()),
            };
        };
        let position = TrainState {
            step,
            observers: states(observers)?,
            config: self.config.config.clone(),
            soundness: Some(self.soundness.clone()),
            changes: self.changes.clone(),
        };
        let mut metadata = self.config.metadata.clone();
        metadata.insert(
            checkpoint::EPOCH.into(),
            (step / self.steps_per_epoch).to_string(),
        );
        metadata.insert(SOUND.into(), doubt.unwrap_or_else(|| YES.into()));
        match checkpoint::save(folder, method, &position, &metadata) {
            Err(Error::NonFiniteValues { tensor, .. }) => {
                self.soundness = before;
                return Err(self.diverged(step, Divergence::Weights(tensor)));
            }
            saved => saved?,
        };
        let keep = self.config.keep_every * self.steps_per_epoch;
        let sound = self.soundness.newest_sound();
        // Two, so that a damaged newest one does not end the run.
        checkpoint::prune(folder, 2, |step| {
            keep > 0 && step % keep == 0 || Some(step) == sound
        });
        for left in checkpoint::aside(folder) {
            // The run has gone on without them.
            let _ = std::fs::remove_file(left);
        }
        Ok(())
    }

    /// The error of a run that diverged after `step` steps, whose unsound checkpoints are set
    /// aside.
    pub(super) fn diverged(&self, step: u64, cause: Divergence) -> Error {
        let Some(folder) = self.folder else {
            let (sound, aside) = (None, Vec::new());
            return Error::Diverged {
                step,
                cause,
                sound,
                aside,
            };
        };
        let sound = self.soundness.newest_sound().and_then(|_| {
            let checkpoint = Checkpoint::newest_sound(folder)?;
            Some((checkpoint.position.step, checkpoint.path().to_owned()))
        });
        match checkpoint::set_aside(folder, sound.as_ref().map(|(step, _)| *step)) {
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

/// The states of all observers that have one.
fn states(observers: &mut [&mut dyn Observer]) -> Result<BTreeMap<String, String>> {
    let mut states = BTreeMap::new();
    for observer in observers {
        if let Some(state) = observer.state()? {
            states.insert(observer.name().to_owned(), state);
        }
    }
    Ok(states)
}
