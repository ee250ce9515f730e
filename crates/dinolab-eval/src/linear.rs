//! Linear classification of frozen features by the protocol of the reference implementation
//! (facebookresearch/dino).
//!
//! One linear layer (weights from a normal distribution of standard deviation 0.01, bias 0) is
//! trained by SGD with momentum 0.9 and without weight decay. The learning rate is
//! `lr · batch / 256` with a cosine schedule to 0 by epoch. Accuracy is measured after each epoch;
//! the reference implementation reports the best.
//!
//! Features may differ between epochs (augmentation) or stay the same (cached), and are shared by
//! several learning rates: see [`train`]. Results do not depend on the number of threads.

mod accuracy;
mod classifier;
mod sgd;
mod standardise;
#[cfg(test)]
mod tests;

pub use accuracy::{Accuracy, accuracy};
pub use classifier::LinearClassifier;
pub use sgd::{Sgd, cosine};
pub use standardise::Standardiser;

use std::borrow::Cow;

use dinolab_data::random::epoch_order;
use dinolab_data::slice::{SliceError, check_finite, check_length};

use crate::cross_entropy::Targets;
use crate::knn::Labelled;
use crate::{Error, Result};

/// The settings of training.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LinearConfig {
    /// Passes over the training set.
    pub epochs: usize,
    /// Rows per step; the last step of an epoch may have fewer.
    pub batch_size: usize,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Seed of the initial weights and of the order of rows.
    pub seed: u64,
}

impl Default for LinearConfig {
    fn default() -> Self {
        Self {
            epochs: 100,
            batch_size: 128,
            momentum: 0.9,
            seed: 0,
        }
    }
}

impl LinearConfig {
    /// Returns the learning rate of SGD in epoch `epoch` (from 0); `lr` refers to a batch of 256.
    pub fn rate(&self, lr: f64, epoch: usize) -> f64 {
        cosine(lr * self.batch_size as f64 / 256.0, epoch, self.epochs)
    }
}

/// The training labels and the validation set.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// Width of a feature, `D`.
    pub dim: usize,
    /// Number of classes, `K`.
    pub classes: usize,
    /// Labels of the training rows, `[N]`, each below `classes`.
    pub labels: &'a [usize],
    /// The validation set.
    pub validation: Labelled<'a>,
}

/// Accuracy after an epoch.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct EpochScore {
    /// Epochs done, from 1.
    pub epoch: usize,
    /// Mean training loss of the epoch, in nats.
    pub loss: f64,
    /// Accuracy on the validation set.
    #[serde(flatten)]
    pub accuracy: Accuracy,
}

/// The result for one learning rate.
#[derive(Clone, Debug)]
pub struct LinearRun {
    /// The learning rate for a batch of 256.
    pub lr: f64,
    /// The layer after the last epoch.
    pub classifier: LinearClassifier,
    /// One entry per epoch.
    pub history: Vec<EpochScore>,
}

impl LinearRun {
    /// Returns the run with the highest top-1 accuracy after the last epoch, the first of equals;
    /// `None` without runs.
    pub fn best_of(runs: &[Self]) -> Option<&Self> {
        runs.iter().reduce(
            |best, run| match run.last().accuracy.top1 > best.last().accuracy.top1 {
                true => run,
                false => best,
            },
        )
    }

    /// Returns the score of the last epoch.
    pub fn last(&self) -> &EpochScore {
        self.history.last().expect("there is an epoch")
    }

    /// Returns the score of the epoch with the highest top-1 accuracy, the earliest of equals.
    pub fn best(&self) -> &EpochScore {
        let last = self.last();
        self.history.iter().rev().fold(last, |best, score| {
            if score.accuracy.top1 >= best.accuracy.top1 {
                score
            } else {
                best
            }
        })
    }
}

/// Trains one layer per learning rate of `lrs` on the same rows in the same order.
///
/// `features(epoch)` returns the training features `[N, D]` of an epoch, counted from 0, borrowed
/// if they are cached. `progress` is called after each epoch with the scores of all rates, in the
/// order of `lrs`.
///
/// # Errors
/// [`Error::BadSetting`] for settings or rates out of range; [`Error::Invalid`] for an empty set or
/// a training label out of range; [`Error::Slice`] for features that do not match or are
/// not finite; [`Error::Diverged`] for a loss that is not finite; the errors of `features`.
pub fn train<'f, E: From<Error> + From<SliceError>>(
    features: &mut dyn FnMut(usize) -> Result<Cow<'f, [f32]>, E>,
    problem: &Problem,
    lrs: &[f64],
    config: &LinearConfig,
    progress: &mut dyn FnMut(&[EpochScore]),
) -> Result<Vec<LinearRun>, E> {
    check(problem, lrs, config)?;
    let Problem { dim, labels, .. } = *problem;
    let mut runs: Vec<LinearRun> = lrs
        .iter()
        .map(|&lr| LinearRun {
            lr,
            classifier: LinearClassifier::new(dim, problem.classes, config.seed),
            history: Vec::with_capacity(config.epochs),
        })
        .collect();
    let mut optimisers = vec![Sgd::new(config.momentum); lrs.len()];
    let mut rows = Vec::new();
    for epoch in 0..config.epochs {
        let features = features(epoch)?;
        check_length("training features", labels.len() * dim, features.len())?;
        check_finite("training features", &features)?;
        let order = epoch_order(config.seed, epoch as u64, labels.len());
        let mut losses = vec![0.0; lrs.len()];
        for batch in order.chunks(config.batch_size) {
            rows.clear();
            for &row in batch {
                rows.extend_from_slice(&features[row * dim..][..dim]);
            }
            let batch_labels: Vec<usize> = batch.iter().map(|&row| labels[row]).collect();
            let targets = Targets::Labels(&batch_labels);
            for ((run, sgd), loss) in runs.iter_mut().zip(&mut optimisers).zip(&mut losses) {
                let lr = config.rate(run.lr, epoch);
                *loss += batch.len() as f64 * sgd.step(&mut run.classifier, &rows, targets, lr)?;
            }
        }
        for (run, loss) in runs.iter_mut().zip(losses) {
            let loss = loss / labels.len() as f64;
            if !loss.is_finite() {
                return Err(Error::Diverged { lr: run.lr, loss }.into());
            }
            run.history.push(EpochScore {
                epoch: epoch + 1,
                loss,
                accuracy: run.classifier.accuracy(problem.validation)?,
            });
        }
        let now: Vec<EpochScore> = runs.iter().map(|run| run.last().clone()).collect();
        progress(&now);
    }
    Ok(runs)
}

fn check(problem: &Problem, lrs: &[f64], config: &LinearConfig) -> Result<()> {
    if lrs.is_empty() {
        return Err(Error::setting("lr", "at least one is needed"));
    }
    if let Some(lr) = lrs.iter().find(|lr| !(**lr > 0.0 && lr.is_finite())) {
        return Err(Error::setting("lr", format!("must be above 0, is {lr}")));
    }
    if config.epochs == 0 || config.batch_size == 0 {
        let what = match config.epochs {
            0 => "epochs",
            _ => "batch-size-per-gpu",
        };
        return Err(Error::setting(what, "must be at least 1"));
    }
    if !(0.0..1.0).contains(&config.momentum) {
        return Err(Error::setting("momentum", "must be at least 0 and below 1"));
    }
    let Problem {
        dim,
        classes,
        labels,
        validation,
    } = *problem;
    if dim == 0 || labels.is_empty() || validation.labels.is_empty() {
        return Err(Error::invalid("features", "the set is empty"));
    }
    if let Some(label) = labels.iter().find(|&&label| label >= classes) {
        let reason = format!("{label} is not one of {classes} classes");
        return Err(Error::invalid("training label", reason));
    }
    check_length(
        "features",
        validation.labels.len() * dim,
        validation.features.len(),
    )?;
    Ok(check_finite("features", validation.features)?)
}
