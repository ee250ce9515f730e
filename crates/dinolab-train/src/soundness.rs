//! Which checkpoints are sound: worth going back to where a run diverges.
//!
//! A network that diverges is often ruined many steps before its loss stops being a number, and
//! every checkpoint in between holds its ruins. A checkpoint is *sound* where
//!
//! - all its values are finite,
//! - the learned weights have at most [`WEIGHT_GROWTH`] times the norm they began with, and had no
//!   more at any checkpoint before it (decay may shrink weights that are ruined),
//! - in each of the last [`CALM_STEPS`] steps (all of them in a younger run) the loss was at most
//!   [`LOSS`] times that of guessing where the method knows it (ln K, or 1 if that is more), and the
//!   norm of the gradient at most [`GRADIENT_RISE`] times the median of the [`WINDOW`] steps before it,
//! - and the run's observer reported no divergence.
//!
//! A checkpoint that is not sound is written all the same and is resumed like any other one, as
//! long as the run does not diverge: an unusual gradient may be harmless.

use std::collections::VecDeque;

use dinolab_nn::Parameters;
use dinolab_nn::weights::arrays;
use serde::{Deserialize, Serialize};

use crate::Method;

/// The norm of the learned weights, against where it began, that is still ordinary. Training
/// from random weights doubles or triples it.
pub const WEIGHT_GROWTH: f64 = 10.0;
/// The norm of a gradient, against the median of recent steps, that is still ordinary. Steps of
/// ordinary runs vary by 2 to 4.
pub const GRADIENT_RISE: f64 = 10.0;
/// The loss in units of that of guessing that is still ordinary.
pub const LOSS: f64 = 2.0;
/// Steps whose gradients say what is usual.
pub const WINDOW: usize = 100;
/// Number of first steps whose gradients are not checked, because there are too few to compare
/// with.
pub const FIRST_STEPS: usize = 8;
/// Steps in a row that must have been ordinary.
pub const CALM_STEPS: u64 = 20;

/// Statistics of a run's steps so far, saved in every checkpoint so that a resumed run gives the
/// same result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Soundness {
    /// Norms of the whole gradient in recent steps, oldest first.
    norms: VecDeque<f64>,
    /// Norm of the learned weights when the run began.
    initial: f64,
    /// Ordinary steps since the last one that was not.
    calm: u64,
    /// What was wrong with that one.
    doubt: Option<String>,
    /// How far the weights had grown at a checkpoint where that was too far.
    outgrown: Option<String>,
    /// Steps done at the newest sound checkpoint.
    newest_sound: Option<u64>,
}

impl Soundness {
    /// For a run that begins with these weights; also for one that is resumed from a checkpoint
    /// without such a record, which counts as sound.
    pub fn of(method: &dyn Method) -> Self {
        Self {
            norms: VecDeque::new(),
            initial: norm_of(method.learned()),
            calm: CALM_STEPS,
            doubt: None,
            outgrown: None,
            newest_sound: None,
        }
    }

    /// Takes a step into account: its loss, the norms of its gradients by parameter (before
    /// clipping), and the loss of guessing where it is known.
    pub fn step(&mut self, loss: f64, norms: &[f32], guessing: Option<f64>) {
        let squares: f64 = norms.iter().map(|&n| f64::from(n).powi(2)).sum();
        let norm = squares.sqrt();
        let most = guessing.map_or(f64::INFINITY, |loss| LOSS * loss.max(1.0));
        let usual = median(&self.norms).filter(|_| self.norms.len() >= FIRST_STEPS);
        let doubt = match usual {
            _ if loss > most => Some(format!(
                "the loss was {loss:.3}, far above that of guessing"
            )),
            Some(usual) if norm > GRADIENT_RISE * usual => Some(format!(
                "the gradient was {:.0} times its usual size",
                norm / usual
            )),
            _ => None,
        };
        match doubt {
            Some(doubt) => {
                self.calm = 0;
                self.doubt = Some(doubt);
            }
            None => self.calm = self.calm.saturating_add(1),
        }
        if self.norms.len() == WINDOW {
            self.norms.pop_front();
        }
        self.norms.push_back(norm);
    }

    /// Forgets which gradients are usual: other parameters learn from here on.
    pub fn forget_gradients(&mut self) {
        self.norms.clear();
    }

    /// Why a checkpoint of `method` would not be sound; `None` where it is. Whether its values are
    /// finite is checked where they are written.
    pub fn doubt(&mut self, method: &dyn Method) -> Option<String> {
        let growth = norm_of(method.learned()) / self.initial;
        // A norm that is not a number is none to go back to.
        if growth > WEIGHT_GROWTH || growth.is_nan() {
            let times = match growth < 1e6 {
                true => format!("{growth:.0}"),
                false => format!("{growth:.1e}"),
            };
            let said = format!("the weights grew to {times} times the norm they began with");
            self.outgrown = Some(said);
        }
        let unusual = || self.doubt.clone().filter(|_| self.calm < CALM_STEPS);
        self.outgrown.clone().or_else(unusual)
    }

    /// Steps done at the newest sound checkpoint of the run.
    pub fn newest_sound(&self) -> Option<u64> {
        self.newest_sound
    }

    /// Records that the checkpoint after `step` steps is sound.
    pub fn found_sound(&mut self, step: u64) {
        self.newest_sound = Some(step);
    }
}

/// The Euclidean norm of all weights.
fn norm_of(network: &dyn Parameters) -> f64 {
    let squares = |values: &[f32]| values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
    let arrays = arrays(network, "");
    arrays
        .values()
        .map(|array| squares(&array.data))
        .sum::<f64>()
        .sqrt()
}

fn median(values: &VecDeque<f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
