//! Linear classification of frozen features by the protocol of the reference implementation
//! (facebookresearch/dino).
//!
//! One linear layer (weights from a normal distribution of standard deviation 0.01, bias 0) is
//! trained by SGD with momentum 0.9 and without weight decay. The learning rate is
//! `lr · batch / 256` with a cosine schedule to 0 by epoch. Accuracy is measured after each epoch;
//! the reference implementation reports the best.
//!
//! Features may differ between epochs (augmentation) or stay the same (cached), and are shared by
//! several learning rates: see [`train`]. They need not be in memory: see [`train_rows`]. Results do not depend
//! on the number of threads, nor on where features are.

mod accuracy;
mod classifier;
mod sgd;
mod standardise;
#[cfg(test)]
mod tests;

pub use accuracy::{Accuracy, accuracy};
pub use classifier::LinearClassifier;
pub use sgd::{Sgd, cosine};
pub use standardise::{StandardisedRows, Standardiser};

use std::borrow::Cow;

use dinolab_data::random::epoch_order;
use dinolab_data::slice::{SliceError, check_finite, check_length};

use self::accuracy::Hits;
use crate::cross_entropy::Targets;
use crate::feature_rows::{FeatureRows, LabelledRows, RowsInMemory, for_blocks};
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

/// The training labels and the validation set, which is [`Labelled`] in memory or [`LabelledRows`] elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, V = Labelled<'a>> {
    /// Width of a feature, `D`.
    pub dim: usize,
    /// Number of classes, `K`.
    pub classes: usize,
    /// Labels of the training rows, `[N]`, each below `classes`.
    pub labels: &'a [usize],
    /// The validation set.
    pub validation: V,
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
    let Problem {
        dim,
        classes,
        labels,
        validation:
            Labelled {
                features: judged,
                labels: judged_labels,
                ..
            },
    } = *problem;
    if dim == 0 || judged.is_empty() {
        return Err(empty().into());
    }
    let validation = RowsInMemory::new(judged, dim)?;
    let problem = Problem {
        dim,
        classes,
        labels,
        validation: LabelledRows {
            rows: &validation,
            labels: judged_labels,
        },
    };
    let mut rows = |epoch: usize| -> Result<Box<dyn FeatureRows + 'f>, E> {
        Ok(Box::new(RowsInMemory::new(features(epoch)?, dim)?))
    };
    train_rows(&mut rows, &problem, lrs, config, progress)
}

/// [`train`] with features that need not be in memory: the rows of a batch are read when its turn comes, and those
/// of the validation set some at a time after each epoch. The result is that of [`train`], bit for bit.
///
/// # Errors
/// As [`train`]; rows that cannot be read.
pub fn train_rows<'f, E: From<Error> + From<SliceError>>(
    features: &mut dyn FnMut(usize) -> Result<Box<dyn FeatureRows + 'f>, E>,
    problem: &Problem<'_, LabelledRows<'_>>,
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
        check_length("training features", labels.len(), features.len())?;
        check_length("width of training features", dim, features.dim())?;
        let order = epoch_order(config.seed, epoch as u64, labels.len());
        let mut losses = vec![0.0; lrs.len()];
        for batch in order.chunks(config.batch_size) {
            rows.resize(batch.len() * dim, 0.0);
            features.gather(batch, &mut rows)?;
            check_finite("training features", &rows)?;
            let batch_labels: Vec<usize> = batch.iter().map(|&row| labels[row]).collect();
            let targets = Targets::Labels(&batch_labels);
            for ((run, sgd), loss) in runs.iter_mut().zip(&mut optimisers).zip(&mut losses) {
                let lr = config.rate(run.lr, epoch);
                *loss += batch.len() as f64 * sgd.step(&mut run.classifier, &rows, targets, lr)?;
            }
        }
        let losses: Vec<f64> = losses
            .into_iter()
            .map(|loss| loss / labels.len() as f64)
            .collect();
        if let Some((run, &loss)) = runs.iter().zip(&losses).find(|(_, loss)| !loss.is_finite()) {
            return Err(Error::Diverged { lr: run.lr, loss }.into());
        }
        let accuracies = accuracies(&runs, problem)?;
        for ((run, loss), accuracy) in runs.iter_mut().zip(losses).zip(accuracies) {
            run.history.push(EpochScore {
                epoch: epoch + 1,
                loss,
                accuracy,
            });
        }
        let now: Vec<EpochScore> = runs.iter().map(|run| run.last().clone()).collect();
        progress(&now);
    }
    Ok(runs)
}

/// The accuracy of each layer on the validation set, which is read once for all.
fn accuracies(
    runs: &[LinearRun],
    problem: &Problem<'_, LabelledRows<'_>>,
) -> Result<Vec<Accuracy>> {
    let LabelledRows { rows, labels } = problem.validation;
    let mut hits = vec![Hits::default(); runs.len()];
    for_blocks(rows, |first, block| {
        check_finite("features", block)?;
        let labels = &labels[first..][..block.len() / rows.dim()];
        for (run, hits) in runs.iter().zip(&mut hits) {
            hits.add(&run.classifier.logits(block)?, problem.classes, labels)?;
        }
        Ok(())
    })?;
    let all = hits.iter();
    all.map(|hits| hits.accuracy(problem.classes)).collect()
}

fn empty() -> Error {
    Error::invalid("features", "the set is empty")
}

fn check(
    problem: &Problem<'_, LabelledRows<'_>>,
    lrs: &[f64],
    config: &LinearConfig,
) -> Result<()> {
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
        return Err(empty());
    }
    if let Some(label) = labels.iter().find(|&&label| label >= classes) {
        let reason = format!("{label} is not one of {classes} classes");
        return Err(Error::invalid("training label", reason));
    }
    check_length("labels", validation.rows.len(), validation.labels.len())?;
    Ok(check_length("feature width", dim, validation.rows.dim())?)
}
