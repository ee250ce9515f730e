//! Transfer learning: frozen and fine-tuned networks against training from scratch.
//!
//! Three modes are trained on the same few labels with the same images in the same order, the same
//! random views, the same number of steps and the same optimiser (AdamW, linear warm-up, cosine
//! schedule to 0):
//!
//! | mode | backbone starts from | trains |
//! |---|---|---|
//! | [`TransferMode::Frozen`] | the weights | the linear head only |
//! | [`TransferMode::FineTuned`] | the weights | everything |
//! | [`TransferMode::Scratch`] | random values | everything |
//!
//! Each mode runs with every seed and every learning rate of its list. A seed determines which
//! images are labelled, their order and views, the initial weights of the head and those of a
//! backbone trained from scratch, equally for all modes. The score is taken once, after the last
//! step.

mod classification;
mod fit;
mod fitted;
mod labelled;
mod segmentation;
mod supervised;
mod task;
#[cfg(test)]
mod tests;

pub use fit::FineTune;
pub use labelled::Share;
pub use task::Task;

use dinolab_nn::init::Init;
use dinolab_nn::{AnyBackbone, Backbone, Parameters};

use crate::{Error, Result};

/// The initial weights of a network and which of them are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransferMode {
    /// Trained weights, fixed, with a head that is trained.
    Frozen,
    /// Trained weights that are fine-tuned.
    FineTuned,
    /// Random initialisation.
    Scratch,
}

impl TransferMode {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 3] = [Self::Frozen, Self::FineTuned, Self::Scratch];
}

/// The score of a network, in percent.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Score {
    /// The main metric: top-1 accuracy or mean IoU.
    pub value: f64,
    /// A second metric: top-5 accuracy or pixel accuracy.
    pub second: Option<f64>,
}

/// The settings that all modes share.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferConfig {
    /// Training of each network.
    pub fine_tune: FineTune,
    /// The share of training images that is labelled.
    pub share: Share,
    /// Seeds of labelled images, order, views and initial weights.
    pub seeds: Vec<u64>,
    /// Learning rates of the modes that train the backbone.
    pub lrs: Vec<f64>,
    /// Learning rates with a frozen backbone.
    pub frozen_lrs: Vec<f64>,
}

/// The scores of one mode at one learning rate.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Trial {
    /// The mode; its key in JSON stays `arm`.
    #[serde(rename = "arm")]
    pub mode: TransferMode,
    /// The learning rate.
    pub lr: f64,
    /// One score per seed.
    pub scores: Vec<Score>,
    /// Training loss over the last epoch, per seed.
    pub losses: Vec<f64>,
    /// Whether the mode's mean score is highest at this rate.
    pub best: bool,
}

impl Trial {
    /// Returns the mean score over seeds.
    pub fn mean(&self) -> f64 {
        self.scores.iter().map(|s| s.value).sum::<f64>() / self.scores.len() as f64
    }

    /// Returns the mean of the second metric over seeds.
    pub fn second(&self) -> Option<f64> {
        let values: Option<Vec<f64>> = self.scores.iter().map(|s| s.second).collect();
        values.map(|values| values.iter().sum::<f64>() / self.scores.len() as f64)
    }

    /// Returns the sample standard deviation over seeds; `None` for fewer than two.
    pub fn spread(&self) -> Option<f64> {
        let (n, mean) = (self.scores.len(), self.mean());
        let squares: f64 = self.scores.iter().map(|s| (s.value - mean).powi(2)).sum();
        (n > 1).then(|| (squares / (n - 1) as f64).sqrt())
    }
}

/// The progress of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct TrialProgress {
    /// Steps done, over all networks.
    pub step: usize,
    /// Total steps.
    pub steps: usize,
    /// The mode being trained.
    pub mode: TransferMode,
    /// Its learning rate.
    pub lr: f64,
    /// Its seed.
    pub seed: u64,
}

impl TransferConfig {
    /// Compares `modes` on `task`; `backbone` holds the trained weights. Returns one [`Trial`] per mode and
    /// learning rate, in the order of `modes`.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for settings out of range, [`Error::Data`] for an unusable training image,
    /// [`Error::Diverged`] for a loss that is not finite.
    pub fn compare(
        &self,
        task: &Task<'_>,
        backbone: &AnyBackbone,
        modes: &[TransferMode],
        progress: &mut dyn FnMut(TrialProgress),
    ) -> Result<Vec<Trial>> {
        let lists = [&self.lrs, &self.frozen_lrs];
        if lists.iter().any(|list| list.is_empty()) || self.seeds.is_empty() || modes.is_empty() {
            return Err(Error::invalid(
                "transfer",
                "needs a mode, a learning rate and a seed",
            ));
        }
        let lrs_of = |mode| match mode {
            TransferMode::Frozen => &self.frozen_lrs,
            TransferMode::FineTuned | TransferMode::Scratch => &self.lrs,
        };
        let task = &*task.0;
        let groups = task.groups();
        let shares: Vec<Vec<usize>> = self
            .seeds
            .iter()
            .map(|&seed| self.share.draw(&groups, seed))
            .collect::<Result<_>>()?;
        let of_share = |share: &Vec<usize>| self.fine_tune.steps(share.len());
        let networks: usize = modes.iter().map(|&mode| lrs_of(mode).len()).sum();
        let steps = networks * shares.iter().map(of_share).sum::<usize>();
        let mut step = 0;
        let mut trials = Vec::with_capacity(networks);
        for &mode in modes {
            let first = trials.len();
            for &lr in lrs_of(mode) {
                let (mut scores, mut losses) = (Vec::new(), Vec::new());
                for (&seed, labelled) in self.seeds.iter().zip(&shares) {
                    let start = match mode {
                        TransferMode::Frozen | TransferMode::FineTuned => backbone.clone(),
                        TransferMode::Scratch => random_initialised(backbone, seed)?,
                    };
                    let fitted = self.fine_tune.fit(
                        task,
                        start,
                        mode == TransferMode::Frozen,
                        labelled,
                        (lr, seed),
                        &mut |_| {
                            step += 1;
                            progress(TrialProgress {
                                step,
                                steps,
                                mode,
                                lr,
                                seed,
                            });
                        },
                    )?;
                    scores.push(task.evaluate(&fitted)?);
                    losses.push(fitted.loss);
                }
                trials.push(Trial {
                    mode,
                    lr,
                    scores,
                    losses,
                    best: false,
                });
            }
            let best = (first + 1..trials.len()).fold(first, |best, place| {
                if trials[place].mean() > trials[best].mean() {
                    place
                } else {
                    best
                }
            });
            trials[best].best = true;
        }
        Ok(trials)
    }
}

/// Returns a randomly initialised network of the same architecture and precision.
fn random_initialised(trained: &AnyBackbone, seed: u64) -> Result<AnyBackbone> {
    let device = trained.device();
    let mut network = AnyBackbone::new(&trained.config(), &mut Init::new(seed), &device)?;
    let mut precision = None;
    trained.visit("", &mut |_, param| {
        precision = precision.or(Some(param.precision()))
    });
    precision
        .into_iter()
        .for_each(|precision| network.set_precision(precision));
    Ok(network)
}
