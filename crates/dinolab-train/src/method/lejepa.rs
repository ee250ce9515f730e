//! LeJEPA (Balestriero & LeCun, arXiv 2511.08544): views of an image are drawn together, and SIGReg
//! keeps the embeddings of a batch normally distributed, so they cannot collapse.

use burn::tensor::Tensor;
use dinolab_nn::ops;

use super::check;
use super::joint_embedding::{JointEmbedding, JointEmbeddingConfig, Objective, Term, invariance};
use crate::Result;

/// LeJEPA: its step is that of a [`JointEmbedding`], its loss is [`LeJepaObjective::terms`].
pub type LeJepa = JointEmbedding<LeJepaObjective>;

/// The settings of LeJEPA.
pub type LeJepaConfig = JointEmbeddingConfig<LeJepaObjective>;

/// The loss of LeJEPA.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LeJepaObjective {
    /// The weight of SIGReg in the loss, `λ`, in 0–1.
    pub sigreg_weight: f64,
}

impl Objective for LeJepaObjective {
    const METHOD: &'static str = "lejepa";
    const TITLE: &'static str = "LeJEPA";

    fn check(&self) -> Result<()> {
        check::share("sigreg-weight", self.sigreg_weight)
    }

    /// `(1 − λ) · invariance + λ · SIGReg`.
    fn terms(&self, z: Tensor<2>, directions: Tensor<2>, batch: usize) -> Vec<Term> {
        let regulariser = ops::sigreg(z.clone(), directions, batch);
        vec![
            Term {
                name: "invariance",
                value: invariance(z, batch),
                weight: 1.0 - self.sigreg_weight,
            },
            Term {
                name: "sigreg",
                value: regulariser,
                weight: self.sigreg_weight,
            },
        ]
    }
}
