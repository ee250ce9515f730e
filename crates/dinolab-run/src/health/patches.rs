//! What is gathered of masked patches.

use serde::{Deserialize, Serialize};

use super::mean::Mean;
use super::rows::{Part, entropy, parts};
use super::sample::PatchSample;
use crate::Result;

/// Gathers the figures of masked patches over an epoch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct PatchMeter {
    entropy: Mean,
    kl: Mean,
    masked: Mean,
    marginal: Vec<f64>,
}

/// Figures of masked patches over an epoch. `None`: nothing to compute it from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PatchFigures {
    /// Prototypes of patch tokens, K; 0 without them.
    #[serde(rename = "patch_out_dim", skip_serializing_if = "super::is_zero")]
    pub out_dim: usize,
    /// Share of the patches of global views that are masked, 0–1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_fraction: Option<f64>,
    /// Mean entropy of the teacher's rows for masked patches, 0 – ln K.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_entropy: Option<f64>,
    /// Entropy of the mean of those rows, 0 – ln K.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_marginal_entropy: Option<f64>,
    /// Mean KL(teacher ‖ student) of masked patches, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_kl: Option<f64>,
}

impl PatchMeter {
    /// Looks at up to `max_rows` patches; returns the number of rows that are not finite.
    pub(super) fn sample(&mut self, sample: &PatchSample<'_>, max_rows: usize) -> Result<u64> {
        let k = sample.out_dim;
        self.masked.add(sample.masked);
        if self.marginal.is_empty() {
            self.marginal = vec![0.0; k];
        }
        if self.marginal.len() != k {
            bail!("patches: {k} prototypes, not {}", self.marginal.len());
        }
        let mut non_finite = 0;
        for part in parts(&sample.prototypes, k, max_rows)? {
            let Part {
                entropy,
                kl,
                non_finite_rows,
                marginal,
                ..
            } = part;
            self.entropy.merge(entropy);
            self.kl.merge(kl);
            non_finite += non_finite_rows;
            for (sum, p) in self.marginal.iter_mut().zip(marginal) {
                *sum += f64::from(p);
            }
        }
        Ok(non_finite)
    }

    /// The figures of what was seen.
    pub(super) fn figures(&self) -> PatchFigures {
        PatchFigures {
            out_dim: self.marginal.len(),
            masked_fraction: self.masked.value(),
            patch_entropy: self.entropy.value(),
            patch_marginal_entropy: self.entropy.value().map(|_| entropy(&self.marginal)),
            patch_kl: self.kl.value(),
        }
    }
}

impl PatchFigures {
    /// ln K, the entropy of a uniform output; 0 without prototypes.
    pub fn max_entropy(&self) -> f64 {
        (self.out_dim.max(1) as f64).ln()
    }
}
