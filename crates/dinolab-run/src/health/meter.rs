//! Gathering the figures of an epoch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Health;
use super::features::Reservoir;
use super::invariants::Invariants;
use super::mean::Mean;
use super::patches::PatchMeter;
use super::rows::{entropy, parts};
use super::sample::{PatchSample, PrototypeSample, Sample};
use crate::Result;

/// Gathers [`Health`] over an epoch.
///
/// [`step`](Self::step) costs nothing and belongs in every step. [`sample`](Self::sample)
/// looks at no more than `max_rows` rows, about 2·K exponentials each; every tenth to
/// fiftieth step is plenty.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HealthMeter {
    out_dim: usize,
    max_rows: usize,
    steps: u64,
    non_finite_steps: u64,
    loss: Mean,
    grad_norm: Mean,
    grad_norm_max: Option<f64>,
    entropy: Mean,
    kl: Mean,
    teacher_temp: Mean,
    non_finite_rows: u64,
    marginal: Vec<f64>,
    used: Vec<bool>,
    centre_norm: Option<f64>,
    features: Reservoir,
    #[serde(default)]
    terms: BTreeMap<String, Mean>,
    #[serde(default = "Reservoir::raw")]
    embeddings: Reservoir,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    patches: Option<PatchMeter>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    invariants: Vec<Invariants>,
}

impl HealthMeter {
    /// A meter for outputs over `out_dim` = K prototypes, or without prototypes, that looks at up
    /// to `max_rows` rows of a sample (64 is a good number), spread evenly over it.
    ///
    /// # Errors
    /// `out_dim` or `max_rows` is 0.
    pub fn new(out_dim: Option<usize>, max_rows: usize) -> Result<Self> {
        if out_dim == Some(0) || max_rows == 0 {
            bail!("health meter: out_dim and max_rows must be at least 1");
        }
        Ok(Self::blank(out_dim.unwrap_or(0), max_rows))
    }

    fn blank(out_dim: usize, max_rows: usize) -> Self {
        Self {
            out_dim,
            max_rows,
            steps: 0,
            non_finite_steps: 0,
            loss: Mean::default(),
            grad_norm: Mean::default(),
            grad_norm_max: None,
            entropy: Mean::default(),
            kl: Mean::default(),
            teacher_temp: Mean::default(),
            non_finite_rows: 0,
            marginal: vec![0.0; out_dim],
            used: vec![false; out_dim],
            centre_norm: None,
            features: Reservoir::default(),
            terms: BTreeMap::new(),
            embeddings: Reservoir::raw(),
            patches: None,
            invariants: Vec::new(),
        }
    }

    /// Counts one step: its loss and, where known, the norm of its gradient before clipping.
    pub fn step(&mut self, loss: f64, grad_norm: Option<f64>) {
        self.steps += 1;
        let finite = loss.is_finite() && grad_norm.is_none_or(f64::is_finite);
        self.non_finite_steps += u64::from(!finite);
        if loss.is_finite() {
            self.loss.add(loss);
        }
        if let Some(norm) = grad_norm.filter(|n| n.is_finite()) {
            self.grad_norm.add(norm);
            self.grad_norm_max = Some(self.grad_norm_max.map_or(norm, |m| m.max(norm)));
        }
    }

    /// Counts the terms of a step's loss.
    pub fn terms(&mut self, terms: &[(&str, f64)]) {
        for (name, value) in terms.iter().filter(|(_, value)| value.is_finite()) {
            self.terms
                .entry((*name).to_owned())
                .or_default()
                .add(*value);
        }
    }

    /// Counts figures with a known right value, of any step.
    pub fn invariants(&mut self, of_step: Invariants) {
        self.invariants.push(of_step);
    }

    /// Looks at the outputs of one step. Rows with values that are not finite are counted
    /// and left out.
    ///
    /// # Errors
    /// Lengths that do not fit, a temperature that is not above 0.
    pub fn sample(&mut self, sample: &Sample<'_>) -> Result<()> {
        self.features.offer(sample.features, sample.feature_dim)?;
        if let Some(embeddings) = &sample.embeddings {
            self.embeddings.offer(embeddings.rows, embeddings.dim)?;
            let finite = |row: &[f32]| row.iter().all(|v| v.is_finite());
            let rows = embeddings.rows.chunks(embeddings.dim.max(1));
            self.non_finite_rows += rows.filter(|row| !finite(row)).count() as u64;
        }
        match &sample.prototypes {
            Some(prototypes) => self.sample_prototypes(prototypes),
            None => Ok(()),
        }
    }

    /// Looks at the outputs of one step for masked patches.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn patches(&mut self, sample: &PatchSample<'_>) -> Result<()> {
        let patches = self.patches.get_or_insert_default();
        self.non_finite_rows += patches.sample(sample, self.max_rows)?;
        Ok(())
    }

    fn sample_prototypes(&mut self, sample: &PrototypeSample<'_>) -> Result<()> {
        for part in parts(sample, self.out_dim, self.max_rows)? {
            self.entropy.merge(part.entropy);
            self.kl.merge(part.kl);
            self.non_finite_rows += part.non_finite_rows;
            for (sum, p) in self.marginal.iter_mut().zip(part.marginal) {
                *sum += f64::from(p);
            }
            for prototype in part.first_choices {
                self.used[prototype] = true;
            }
        }
        self.teacher_temp.add(sample.teacher_temp);
        let squares = |centre: &[f32]| centre.iter().map(|&c| f64::from(c).powi(2)).sum::<f64>();
        let length = sample.centre.map(|centre| squares(centre).sqrt());
        self.centre_norm = length.filter(|n| n.is_finite());
        Ok(())
    }

    /// Ends the epoch: its figures, and the meter is as new.
    pub fn close(&mut self, epoch: usize) -> Health {
        let m = std::mem::replace(self, Self::blank(self.out_dim, self.max_rows));
        let k = m.out_dim as f64;
        let rows = m.entropy.count;
        let teacher_entropy = m.entropy.value();
        let marginal_entropy = (rows > 0).then(|| entropy(&m.marginal));
        let (feature_std, feature_rank) = m.features.figures();
        let terms = m.terms.into_iter();
        let means = terms
            .filter_map(|(name, mean)| Some((name, mean.value()?)))
            .collect();
        Health {
            epoch,
            steps: m.steps,
            non_finite_steps: m.non_finite_steps,
            loss: m.loss.value(),
            terms: means,
            grad_norm: m.grad_norm.value(),
            grad_norm_max: m.grad_norm_max,
            out_dim: m.out_dim,
            rows,
            non_finite_rows: m.non_finite_rows,
            teacher_temp: m.teacher_temp.value(),
            teacher_entropy,
            marginal_entropy,
            mutual_information: marginal_entropy
                .zip(teacher_entropy)
                .map(|(whole, each)| (whole - each).max(0.0)),
            kl: m.kl.value(),
            active_prototypes: (rows > 0).then(|| m.used.iter().filter(|&&u| u).count() as f64 / k),
            prototype_perplexity: marginal_entropy.map(|h| h.exp() / k),
            centre_norm: m.centre_norm,
            feature_std,
            feature_rank,
            embedding_std: m.embeddings.deviation(),
            embedding_rank: m.embeddings.figures().1,
            patches: m
                .patches
                .map(|patches| patches.figures())
                .unwrap_or_default(),
            invariants: Invariants::of_steps(&m.invariants),
        }
    }
}
