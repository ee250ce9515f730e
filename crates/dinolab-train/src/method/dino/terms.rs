//! Terms beside DINO's loss, on the student's features.

use burn::tensor::Tensor;
use dinolab_nn::ops;

use super::DinoConfig;
use crate::Result;
use crate::method::check;

/// Terms by name.
type Terms = Vec<(&'static str, f64)>;

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

    /// The loss with its terms on the student's `features` `[V·B, F]`, and all of them by name.
    pub(super) fn with_terms(
        &self,
        dino: Tensor<1>,
        features: Tensor<2>,
        batch: usize,
        directions: Option<Tensor<2>>,
    ) -> (Tensor<1>, Terms) {
        let mut terms = vec![("dino", check::scalar(&dino))];
        let mut loss = dino;
        if self.koleo_weight > 0.0 {
            let koleo = ops::koleo(features.clone().narrow(0, 0, 2 * batch), batch);
            terms.push(("koleo", check::scalar(&koleo)));
            loss = loss + koleo * self.koleo_weight;
        }
        if let Some(directions) = directions.filter(|_| self.sigreg_weight > 0.0) {
            let sigreg = ops::sigreg(features, Tensor::from_inner(directions), batch);
            terms.push(("sigreg", check::scalar(&sigreg)));
            loss = loss + sigreg * self.sigreg_weight;
        }
        (loss, terms)
    }
}
