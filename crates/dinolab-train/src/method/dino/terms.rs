//! Terms beside DINO's loss, on the student's features.

use burn::tensor::Tensor;
use dinolab_nn::ops;

use super::DinoConfig;
use crate::{Error, Result};

/// Terms by name.
type Terms = Vec<(&'static str, f64)>;

impl DinoConfig {
    /// Whether the loss has terms beside DINO's.
    pub(super) fn has_terms(&self) -> bool {
        self.koleo_weight > 0.0 || self.sigreg_weight > 0.0
    }

    /// Refuses impossible weights.
    pub(super) fn check_terms(&self) -> Result<()> {
        let weights = [
            ("koleo-weight", self.koleo_weight),
            ("sigreg-weight", self.sigreg_weight),
        ];
        for (field, weight) in weights {
            if !(weight >= 0.0 && weight.is_finite()) {
                let reason = "must not be below 0".to_owned();
                return Err(Error::BadSetting { field, reason });
            }
        }
        if self.sigreg_weight > 0.0 && self.sigreg_directions == 0 {
            let reason = "must be at least 1".to_owned();
            let field = "sigreg-directions";
            return Err(Error::BadSetting { field, reason });
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
        Err(Error::BadSetting {
            field: "accumulate",
            reason: format!(
                "{micro_batches} micro-batches do not equal a large batch for {term} in each by \
                 itself; use one or the other"
            ),
        })
    }

    /// The loss with its terms on the student's `features` `[V·B, F]`, and all of them by name.
    pub(super) fn with_terms(
        &self,
        dino: Tensor<1>,
        features: Tensor<2>,
        batch: usize,
        directions: Option<Tensor<2>>,
    ) -> (Tensor<1>, Terms) {
        let value = |x: &Tensor<1>| f64::from(x.clone().into_scalar::<f32>());
        let mut terms = vec![("dino", value(&dino))];
        let mut loss = dino;
        if self.koleo_weight > 0.0 {
            let koleo = ops::koleo(features.clone().narrow(0, 0, 2 * batch), batch);
            terms.push(("koleo", value(&koleo)));
            loss = loss + koleo * self.koleo_weight;
        }
        if let Some(directions) = directions.filter(|_| self.sigreg_weight > 0.0) {
            let sigreg = ops::sigreg(features, Tensor::from_inner(directions), batch);
            terms.push(("sigreg", value(&sigreg)));
            loss = loss + sigreg * self.sigreg_weight;
        }
        (loss, terms)
    }
}
