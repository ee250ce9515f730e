//! VISReg (variance, invariance, sketching; arXiv 2606.02572): views of an image are drawn together,
//! and the embeddings of a batch are kept normally distributed in location, scale and shape. Unlike
//! SIGReg's, the gradient of the scale does not vanish as embeddings become alike.

use burn::tensor::Tensor;
use dinolab_nn::ops;

use super::check;
use super::joint_embedding::{JointEmbedding, JointEmbeddingConfig, Objective, Term, invariance};
use crate::Result;

/// VISReg: its step is that of a [`JointEmbedding`], its loss is [`VisRegObjective::terms`].
pub type VisReg = JointEmbedding<VisRegObjective>;

/// The settings of VISReg.
pub type VisRegConfig = JointEmbeddingConfig<VisRegObjective>;

/// The loss of VISReg.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct VisRegObjective {
    /// The weight of the regulariser in the loss, `λ`, in 0–1.
    pub visreg_weight: f64,
}

impl Objective for VisRegObjective {
    const METHOD: &'static str = "visreg";
    const TITLE: &'static str = "VISReg";

    fn check(&self) -> Result<()> {
        check::share("visreg-weight", self.visreg_weight)
    }

    /// `(1 − λ) · invariance + λ · (location + scale + shape)`.
    fn terms(&self, z: Tensor<2>, directions: Tensor<2>, batch: usize) -> Vec<Term> {
        let regulariser = ops::visreg(z.clone(), directions, batch);
        let mut terms = vec![Term {
            name: "invariance",
            value: invariance(z, batch),
            weight: 1.0 - self.visreg_weight,
        }];
        for (place, name) in ["location", "scale", "shape"].into_iter().enumerate() {
            terms.push(Term {
                name,
                value: regulariser.clone().narrow(0, place, 1),
                weight: self.visreg_weight,
            });
        }
        terms
    }
}
