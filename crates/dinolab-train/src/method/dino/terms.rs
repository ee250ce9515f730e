//! Terms beside DINO's loss, on the student's features.

use burn::tensor::Tensor;
use dinolab_nn::ops;

use super::DinoConfig;
use crate::Result;
use crate::method::check;
use crate::ranks::Gathered;

/// Terms on the features of all images of a step.
pub(super) struct Terms {
    /// Names, values and weights.
    values: Vec<(&'static str, f64, f64)>,
    /// The weighted sum's gradient by the features of each of this process' shards, `[V·b, F]`.
    pub(super) gradients: Vec<Tensor<2>>,
}

impl DinoConfig {
    /// Whether the loss has terms beside DINO's.
    pub(super) fn has_terms(&self) -> bool {
        self.koleo_weight > 0.0 || self.sigreg_weight > 0.0
    }

    /// Refuses impossible numbers.
    pub(super) fn check_terms(&self) -> Result<()> {
        check::weight("koleo-weight", self.koleo_weight)?;
        check::weight("sigreg-weight", self.sigreg_weight)?;
        check::share("momentum-teacher-end", self.schedule.momentum_teacher_end)?;
        if self.sigreg_weight > 0.0 {
            check::count("directions", self.sigreg_directions)?;
        }
        Ok(())
    }

    /// Refuses micro-batches where a term looks at all images of a step.
    pub(super) fn check_accumulation(&self, micro_batches: usize) -> Result<()> {
        let term = match (self.koleo_weight > 0.0, self.sigreg_weight > 0.0) {
            _ if micro_batches == 1 => return Ok(()),
            (false, false) => return Ok(()),
            (true, _) => "KoLeo, which looks for neighbours",
            (false, true) => "SIGReg, which looks at how images are distributed",
        };
        let reason = format!(
            "{micro_batches} micro-batches do not equal a large batch for {term} in each by itself; use \
             one or the other"
        );
        Err(check::bad("accumulate", reason))
    }

    /// The terms on the student's features of all images of a step, `[V·B, F]`, and their gradients.
    pub(super) fn terms(
        &self,
        all: Gathered,
        views: usize,
        directions: Option<Tensor<2>>,
    ) -> Terms {
        let features = all.rows.clone();
        let batch = features.dims()[0] / views;
        let mut values = Vec::new();
        let mut weighted = Vec::new();
        if self.koleo_weight > 0.0 {
            let koleo = ops::koleo(features.clone().narrow(0, 0, 2 * batch), batch);
            values.push(("koleo", check::scalar(&koleo), self.koleo_weight));
            weighted.push(koleo * self.koleo_weight);
        }
        if let Some(directions) = directions.filter(|_| self.sigreg_weight > 0.0) {
            let sigreg = ops::sigreg(features, Tensor::from_inner(directions), batch);
            values.push(("sigreg", check::scalar(&sigreg), self.sigreg_weight));
            weighted.push(sigreg * self.sigreg_weight);
        }
        let sum = weighted.into_iter().reduce(|sum, term| sum + term);
        let mut gradients = sum.expect("there is a term").backward();
        Terms {
            values,
            gradients: all.own_gradients(&mut gradients),
        }
    }
}

impl Terms {
    /// Adds them to DINO's loss; returns all terms by name.
    pub(super) fn beside(self, loss: &mut f64) -> Vec<(&'static str, f64)> {
        let mut named = vec![("dino", *loss)];
        for (name, value, weight) in self.values {
            named.push((name, value));
            *loss += weight * value;
        }
        named
    }
}
