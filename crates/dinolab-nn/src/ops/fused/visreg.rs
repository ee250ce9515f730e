//! VISReg's regulariser: the gradients of its terms are computed along with them and saved.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use dinolab_kernels::{self as kernels, EmbeddingShape};

use super::{dense, tensor, values};

/// The regulariser as an operation of a backend.
#[backend_extension(Flex, Autodiff)]
pub trait VisRegOp: Backend {
    /// `z` `[V·B, d]` and `directions` `[S, d]` → `[3]`.
    fn dinolab_visreg(
        z: FloatTensor<Self>,
        directions: FloatTensor<Self>,
        batch: usize,
    ) -> FloatTensor<Self>;
}

/// The terms and their gradients in the embeddings, `[3, V·B, d]`.
fn forward(z: FlexTensor, directions: FlexTensor, batch: usize) -> (FlexTensor, FlexTensor) {
    let [z, directions] = [z, directions].map(dense);
    let [rows, width] = z.shape().dims();
    let sizes = EmbeddingShape {
        batch,
        views: rows / batch,
        width,
    };
    let (terms, gradients) = kernels::visreg(values(&z), values(&directions), sizes);
    (
        tensor(terms.to_vec(), [3]),
        tensor(gradients, [3, rows, width]),
    )
}

impl VisRegOp for Flex {
    fn dinolab_visreg(
        z: FloatTensor<Self>,
        directions: FloatTensor<Self>,
        batch: usize,
    ) -> FloatTensor<Self> {
        forward(z, directions, batch).0
    }
}

#[derive(Debug)]
struct VisReg;

impl Backward<Flex, 1> for VisReg {
    /// The gradients of the terms in the embeddings.
    type State = FloatTensor<Flex>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let ([node], gradients) = (ops.parents, ops.state);
        if let Some(node) = node {
            let [_, rows, width] = gradients.shape().dims();
            let of_terms = values(&gradients).chunks_exact(rows * width);
            let mut sum = vec![0.0; rows * width];
            for (gradient, share) in of_terms.zip(values(&dy)) {
                for (sum, gradient) in sum.iter_mut().zip(gradient) {
                    *sum += share * gradient;
                }
            }
            grads.register::<Flex>(node.id, tensor(sum, [rows, width]));
        }
    }
}

impl<C: CheckpointStrategy> VisRegOp for Autodiff<Flex, C> {
    fn dinolab_visreg(
        z: FloatTensor<Self>,
        directions: FloatTensor<Self>,
        batch: usize,
    ) -> FloatTensor<Self> {
        let ((z, node), (directions, _)) = (z.into_parts(), directions.into_parts());
        let (terms, gradients) = forward(z, directions, batch);
        match VisReg.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(gradients, terms),
            OpsKind::UnTracked(prep) => prep.finish(terms),
        }
    }
}
