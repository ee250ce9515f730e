//! Is the run learning, or has it collapsed or diverged?
//!
//! [`HealthMeter`] gathers figures during an epoch and closes them into [`Health`];
//! [`diagnose`] compares those with earlier epochs and says in plain words what is wrong and
//! what to do about it.
//!
//! With *p* a teacher row `softmax((t − c) / T_t)`, *q* the student's `softmax(s / T_s)` of
//! another view of the same image, and *m* the mean of *p* over an epoch's sampled rows:
//!
//! | figure | formula | range | a healthy run |
//! |---|---|---|---|
//! | teacher entropy | mean of H(p) | 0 – ln K | falls from ln K, stays above 0 |
//! | marginal entropy | H(m) | 0 – ln K | stays high |
//! | mutual information | H(m) − mean H(p) | 0 – ln min(K, rows) | rises: outputs differ between images |
//! | KL | mean of KL(p ‖ q) | 0 – ∞ | small next to ln K |
//! | active prototypes | share of K that is some row's argmax | 1/K – min(1, rows/K) | stays well above 1/K |
//! | prototype perplexity | exp(H(m)) / K | 1/K – 1 | stays well above 1/K |
//! | centre norm | Euclidean length of c | 0 – ∞ | levels off |
//! | feature std | mean over dimensions of the standard deviation of the normalised features, × √D | 0 – 1 | well above 0 |
//! | effective rank | exp of the entropy of the covariance's normalised eigenvalues | 0 – min(D, rows − 1) | rises after the first epochs |
//! | loss terms | means of the terms of a loss that has several | | they fall |
//! | drift | such a term: mean of 1 − cosine of features and those of the network that the run started from | 0 – 2 | rises as the network adapts, levels off well below 1 |
//! | patch entropy, marginal entropy, KL | the same of masked patches | 0 – ln K | as above: outputs differ between patches |
//! | masked fraction | share of the patches of global views that the student does not see | 0 – 1 | half of the mean mask ratio |
//! | embedding std | mean over dimensions of the embeddings' standard deviation | 0 – ∞ | near 1 under SIGReg and VISReg, up to 1 under SimDINO (times √d) |
//! | embedding rank | as the feature rank, of the embeddings | 0 – min(d, rows − 1) | well above 1 |
//!
//! A method has the figures of what it has: those of prototypes or of embeddings, and the others
//! are absent.
//!
//! Entropies are in nats. The effective rank is that of Roy and Vetterli (2007),
//! taken of the covariance.

mod diagnosis;
mod features;
mod invariants;
mod mean;
mod meter;
mod patches;
mod remedy;
mod rows;
mod sample;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use diagnosis::{Context, FailureMode, TeacherContext, Warning, diagnose};
pub use features::feature_figures;
pub use invariants::Invariants;
pub use meter::HealthMeter;
pub use patches::PatchFigures;
pub use remedy::{Adjustment, Remedy, Setting, after_divergence};
pub use sample::{EmbeddingSample, PatchSample, PrototypeSample, Sample};

/// Figures of one epoch. `None`: nothing to compute it from. Never NaN, so that it survives
/// JSON. Ranges and formulas are in the [module's table](self).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Steps taken.
    pub steps: u64,
    /// Steps whose loss or gradient norm was NaN or infinite.
    pub non_finite_steps: u64,
    /// Mean loss over the steps where it was finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Means of the loss's terms by name, where it has several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub terms: BTreeMap<String, f64>,
    /// Mean gradient norm before clipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// Largest gradient norm before clipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm_max: Option<f64>,
    /// K; 0 without prototypes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub out_dim: usize,
    /// Teacher rows that the following figures rest on.
    pub rows: u64,
    /// Sampled rows that were left out because they were not finite.
    pub non_finite_rows: u64,
    /// Mean teacher temperature of the samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_temp: Option<f64>,
    /// Mean entropy of the teacher's rows, 0 – ln K.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_entropy: Option<f64>,
    /// Entropy of the mean teacher row, 0 – ln K.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marginal_entropy: Option<f64>,
    /// Marginal entropy less teacher entropy, 0 – ln min(K, rows).
    #[serde(
        default,
        alias = "information",
        skip_serializing_if = "Option::is_none"
    )]
    pub mutual_information: Option<f64>,
    /// Mean KL(teacher ‖ student), from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// Share of prototypes that were some row's argmax, 0–1.
    #[serde(
        default,
        alias = "used_prototypes",
        skip_serializing_if = "Option::is_none"
    )]
    pub active_prototypes: Option<f64>,
    /// exp(marginal entropy) / K, 1/K – 1.
    #[serde(
        default,
        alias = "effective_prototypes",
        skip_serializing_if = "Option::is_none"
    )]
    pub prototype_perplexity: Option<f64>,
    /// Length of the centre at the last sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub centre_norm: Option<f64>,
    /// Spread of the features, 0 (constant) – 1 (even in all directions).
    #[serde(
        default,
        alias = "feature_spread",
        skip_serializing_if = "Option::is_none"
    )]
    pub feature_std: Option<f64>,
    /// Effective rank of the features' covariance; 0 if they are constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_rank: Option<f64>,
    /// Mean standard deviation of the embeddings' dimensions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_std: Option<f64>,
    /// Effective rank of the embeddings' covariance; 0 if they are constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_rank: Option<f64>,
    /// Figures of masked patches, of a method that predicts those.
    #[serde(flatten)]
    pub patches: PatchFigures,
    /// Figures with a known right value, where they were measured.
    #[serde(flatten)]
    pub invariants: Invariants,
}

impl Health {
    /// The part of the loss that is DINO's cross entropy; the loss, where that is all of it or there is none.
    fn cross_entropy(&self) -> Option<f64> {
        self.terms.get("dino").copied().or(self.loss)
    }

    /// The cross entropy above the teacher's entropy, its floor; alone where that is unknown.
    fn excess(&self) -> Option<f64> {
        Some(self.cross_entropy()? - self.teacher_entropy.unwrap_or(0.0))
    }

    /// ln K, the entropy of a uniform output; 0 without prototypes.
    pub fn max_entropy(&self) -> f64 {
        (self.out_dim.max(1) as f64).ln()
    }
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests;
