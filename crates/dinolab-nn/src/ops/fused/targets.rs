//! The teacher's targets, of logits without gradients.

use burn::backend::TensorMetadata;
use burn::tensor::Tensor;
use dinolab_kernels as kernels;

use super::{dense, tensor, values};

/// The teacher's targets, outside of any gradient graph.
pub fn probabilities(logits: Tensor<2>, centre: Tensor<1>, temperature: f64) -> Tensor<2> {
    let logits = dense(super::primitive(logits));
    let centre = dense(super::primitive(centre));
    let scale = (1.0 / temperature) as f32;
    let y = kernels::softmax_rows(values(&logits), values(&centre), scale);
    super::wrap(tensor(y, logits.shape()))
}

/// Sinkhorn–Knopp targets of plain logits.
pub fn sinkhorn(logits: Tensor<2>, temperature: f64, iterations: usize) -> Tensor<2> {
    let logits = dense(super::primitive(logits));
    let shape = logits.shape();
    let y = kernels::sinkhorn(values(&logits), shape[1], temperature, iterations);
    super::wrap(tensor(y, shape))
}
