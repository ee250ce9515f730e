//! What a step shows of its outputs, for the figures of health.

use burn::tensor::Tensor;

/// Outputs of the last micro-batch, without gradients. What a method does not have is absent, and so
/// are the figures that would be made of it.
#[derive(Debug)]
pub struct Outputs {
    /// Features of global views, `[M, F]`.
    pub features: Tensor<2>,
    /// Of a method with prototypes.
    pub prototypes: Option<PrototypeOutputs>,
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
            embeddings: Some(embeddings),
        }
    }
}

/// Outputs over prototypes.
#[derive(Debug)]
pub struct PrototypeOutputs {
    /// Teacher logits of the global views, `[2·B, K]`, whose `softmax((t − c) / T_t)` are the targets.
    pub teacher: Tensor<2>,
    /// Student logits of all views, `[V·B, K]`, the global ones first.
    pub student: Tensor<2>,
    /// The centre that the step used, `[K]`, if there is one.
    pub centre: Option<Tensor<1>>,
    /// Teacher temperature, `T_t`.
    pub teacher_temp: f64,
    /// Student temperature, `T_s`.
    pub student_temp: f64,
}
