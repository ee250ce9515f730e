//! What a step shows of its outputs, for the figures of health.

use burn::tensor::Tensor;

use crate::{Ranks, Result};

/// Outputs of the last micro-batch, without gradients. What a method does not have is absent, and so
/// are the figures that would be made of it.
#[derive(Debug)]
pub struct Outputs {
    /// Features of global views, `[M, F]`.
    pub features: Tensor<2>,
    /// Of a method with prototypes.
    pub prototypes: Option<PrototypeOutputs>,
    /// For masked patches, of a method with prototypes that predicts those.
    pub patches: Option<PatchOutputs>,
    /// Embeddings of all views, view-major, `[V·B, d]`, of a method without prototypes, at the scale at
    /// which a standard deviation of 1 is aimed at.
    pub embeddings: Option<Tensor<2>>,
}

impl Outputs {
    /// Those of a method without prototypes.
    pub fn of_embeddings(features: Tensor<2>, embeddings: Tensor<2>) -> Self {
        Self {
            features,
            prototypes: None,
            patches: None,
            embeddings: Some(embeddings),
        }
    }
}

impl Outputs {
    /// Replaces rows of this process only by those of all.
    ///
    /// # Errors
    /// [`crate::Error::Ranks`].
    pub fn gather(&mut self, ranks: &Ranks) -> Result<()> {
        let Some(prototypes) = self.prototypes.as_mut().filter(|outputs| outputs.own) else {
            return Ok(());
        };
        let all = [
            &mut self.features,
            &mut prototypes.teacher,
            &mut prototypes.student,
        ];
        for rows in all {
            *rows = ranks.gather(vec![rows.clone()], 2)?;
        }
        prototypes.own = false;
        if let Some(patches) = &mut self.patches {
            let device = self.features.device();
            for rows in [&mut patches.teacher, &mut patches.student] {
                *rows = ranks.gather_some(vec![rows.take()], patches.prototypes, &device)?;
            }
        }
        Ok(())
    }
}

/// Outputs over prototypes.
#[derive(Debug)]
pub struct PrototypeOutputs {
    /// Teacher logits of the global views, `[2·B, K]`, whose `softmax((t − c) / T_t)` are the targets.
    pub teacher: Tensor<2>,
    /// Student logits of the global views, `[2·B, K]`.
    pub student: Tensor<2>,
    /// The centre that the step used, `[K]`, if there is one.
    pub centre: Option<Tensor<1>>,
    /// Teacher temperature, `T_t`.
    pub teacher_temp: f64,
    /// Student temperature, `T_s`.
    pub student_temp: f64,
    /// Whether the rows, of features also, are those of this process only.
    pub own: bool,
}

/// Outputs over prototypes for masked patches, at the temperatures of [`PrototypeOutputs`].
#[derive(Debug)]
pub struct PatchOutputs {
    /// Number of prototypes, `K`.
    pub prototypes: usize,
    /// Teacher logits of the masked patches, `[M, K]`, whose `softmax((t − c) / T_t)` are the targets; `None`
    /// if the micro-batch has no masked patch.
    pub teacher: Option<Tensor<2>>,
    /// Student logits of the same patches, `[M, K]`.
    pub student: Option<Tensor<2>>,
    /// The centre that the step used, `[K]`, if there is one.
    pub centre: Option<Tensor<1>>,
    /// Share of the patches of global views that the step masked, 0–1.
    pub masked: f64,
}
