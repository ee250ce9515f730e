//! Do the weights help a network that goes on learning?
//!
//! Three arms learn the same few labels with the same images in the same order, the same random
//! views, the same number of steps and the same optimiser (AdamW, linear warm-up, cosine to 0):
//!
//! | arm | backbone starts from | learns |
//! |---|---|---|
//! | [`Arm::Frozen`] | the weights | the linear head only |
//! | [`Arm::FineTuned`] | the weights | everything |
//! | [`Arm::Scratch`] | random values | everything |
//!
//! Each arm runs with every seed and every learning rate of its list. A seed decides which
//! images are labelled, their order and views, the head's initial weights and those of the
//! backbone that starts cold; it decides alike for all arms. The score is taken once, after the
//! last step.

mod classification;
mod fit;
mod labelled;
mod layer_rate;
mod segmentation;
#[cfg(test)]
mod tests;

pub use classification::Classification;
pub use fit::{FineTune, Fitted};
pub use labelled::{Share, labelled_share};
pub use layer_rate::layer_rate;
pub use segmentation::Segmentation;

use burn::tensor::Tensor;
use dinolab_data::Size;
use dinolab_data::random::Random;
use dinolab_nn::init::Init;
use dinolab_nn::{Parameters, Vit};

use crate::{Error, Result};

/// Where a network starts and how much of it learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// Trained weights that stay as they are, under a head that learns.
    Frozen,
    /// Trained weights that go on learning.
    FineTuned,
    /// Random weights that learn.
    Scratch,
}

impl Arm {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 3] = [Self::Frozen, Self::FineTuned, Self::Scratch];
}

/// A training example: the network's input and what each of its rows should say.
pub struct Example {
    /// Normalised planes `[3, S, S]`.
    pub planes: Vec<f32>,
    /// Weights `[rows, K]`, see [`Targets::Weights`](crate::cross_entropy::Targets::Weights).
    pub targets: Vec<f32>,
}

/// How well a network did, in percent.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Score {
    /// What arms and learning rates are compared by: top-1 accuracy, or mean IoU.
    pub value: f64,
    /// Another figure beside it: top-5 accuracy, or pixel accuracy.
    pub second: Option<f64>,
}

/// Something to learn from labels.
pub trait Task: Sync {
    /// Values that the head says per row, `K`.
    fn classes(&self) -> usize;

    /// Size of the views in pixels.
    fn size(&self) -> Size;

    /// Groups that a labelled share is drawn from evenly: one entry per training image.
    fn groups(&self) -> Vec<usize>;

    /// A random view of training image number `place`, with its targets.
    ///
    /// # Errors
    /// An image that cannot be used.
    fn example(&self, place: usize, random: &mut Random) -> Result<Example>;

    /// Width of what the head sees.
    fn head_dim(&self, vit: &Vit) -> usize;

    /// What the head sees: images `[B, 3, S, S]` to `[B · rows, head_dim]`.
    fn head_input(&self, vit: &Vit, images: Tensor<4>) -> Tensor<2>;

    /// Judges a network by images that it has not learned from.
    ///
    /// # Errors
    /// No usable image.
    fn judge(&self, fitted: &Fitted) -> Result<Score>;
}

/// Everything that the arms share.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferConfig {
    /// How each network learns.
    pub fine_tune: FineTune,
    /// Which share of the training images is labelled.
    pub share: Share,
    /// Each gives every arm another draw of images, order, views and initial weights.
    pub seeds: Vec<u64>,
    /// Learning rates of the arms whose backbone learns.
    pub lrs: Vec<f64>,
    /// Learning rates of the frozen arm.
    pub frozen_lrs: Vec<f64>,
}

/// Scores of one arm at one learning rate.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Trial {
    /// The arm.
    pub arm: Arm,
    /// The learning rate.
    pub lr: f64,
    /// One score per seed.
    pub scores: Vec<Score>,
    /// Training loss over the last epoch, per seed.
    pub losses: Vec<f64>,
    /// Whether the arm's mean score is highest at this rate.
    pub best: bool,
}

impl Trial {
    /// Mean over seeds.
    pub fn mean(&self) -> f64 {
        self.scores.iter().map(|s| s.value).sum::<f64>() / self.scores.len() as f64
    }

    /// Mean of the second figure over seeds.
    pub fn second(&self) -> Option<f64> {
        let values: Option<Vec<f64>> = self.scores.iter().map(|s| s.second).collect();
        values.map(|values| values.iter().sum::<f64>() / self.scores.len() as f64)
    }

    /// Sample standard deviation over seeds; `None` for fewer than two.
    pub fn spread(&self) -> Option<f64> {
        let (n, mean) = (self.scores.len(), self.mean());
        let squares: f64 = self.scores.iter().map(|s| (s.value - mean).powi(2)).sum();
        (n > 1).then(|| (squares / (n - 1) as f64).sqrt())
    }
}

/// What is being done, for progress.
#[derive(Clone, Copy, Debug)]
pub struct Doing {
    /// Steps done, over all networks.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The arm.
    pub arm: Arm,
    /// Its learning rate.
    pub lr: f64,
    /// Its seed.
    pub seed: u64,
}

/// Compares `arms` on `task`; `vit` holds the trained weights. One [`Trial`] per arm and
/// learning rate, in the order of `arms`.
///
/// # Errors
/// Settings out of range, a training image that cannot be used, a loss that is not finite.
pub fn compare(
    task: &dyn Task,
    vit: &Vit,
    arms: &[Arm],
    config: &TransferConfig,
    progress: &mut dyn FnMut(Doing),
) -> Result<Vec<Trial>> {
    let lists = [&config.lrs, &config.frozen_lrs];
    if lists.iter().any(|list| list.is_empty()) || config.seeds.is_empty() || arms.is_empty() {
        return Err(Error::invalid(
            "transfer",
            "needs an arm, a rate and a seed",
        ));
    }
    let lrs_of = |arm| match arm {
        Arm::Frozen => &config.frozen_lrs,
        Arm::FineTuned | Arm::Scratch => &config.lrs,
    };
    let groups = task.groups();
    let shares: Vec<Vec<usize>> = config
        .seeds
        .iter()
        .map(|&seed| labelled_share(&groups, config.share, seed))
        .collect::<Result<_>>()?;
    let of_share = |share: &Vec<usize>| config.fine_tune.steps(share.len());
    let networks: usize = arms.iter().map(|&arm| lrs_of(arm).len()).sum();
    let steps = networks * shares.iter().map(of_share).sum::<usize>();
    let mut step = 0;
    let mut trials = Vec::with_capacity(networks);
    for &arm in arms {
        let first = trials.len();
        for &lr in lrs_of(arm) {
            let (mut scores, mut losses) = (Vec::new(), Vec::new());
            for (&seed, labelled) in config.seeds.iter().zip(&shares) {
                let start = match arm {
                    Arm::Frozen | Arm::FineTuned => vit.clone(),
                    Arm::Scratch => cold(vit, seed)?,
                };
                let fitted = config.fine_tune.fit(
                    task,
                    start,
                    arm == Arm::Frozen,
                    labelled,
                    (lr, seed),
                    &mut |_| {
                        step += 1;
                        progress(Doing {
                            step,
                            steps,
                            arm,
                            lr,
                            seed,
                        });
                    },
                )?;
                scores.push(task.judge(&fitted)?);
                losses.push(fitted.loss);
            }
            trials.push(Trial {
                arm,
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

/// A network of the same sizes with initial weights of `seed`, computing as `vit` does.
fn cold(vit: &Vit, seed: u64) -> Result<Vit> {
    let mut cold = Vit::new(
        vit.config(),
        &mut Init::new(seed),
        &vit.cls_token.flat().device(),
    )?;
    cold.set_precision(vit.cls_token.precision());
    Ok(cold)
}
