//! SIGReg: its gradient is computed along with it and saved.

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
pub trait SigRegOp: Backend {
    /// `z` `[V·B, d]` and `directions` `[S, d]` → `[1]`.
    fn dinolab_sigreg(
        z: FloatTensor<Self>,
        directions: FloatTensor<Self>,
        batch: usize,
    ) -> FloatTensor<Self>;
}

/// The statistic and its gradient in the embeddings.
fn forward(z: FlexTensor, directions: FlexTensor, batch: usize) -> (FlexTensor, FlexTensor) {
    let [z, directions] = [z, directions].map(dense);
    let shape = z.shape();
    let sizes = EmbeddingShape {
        batch,
        views: shape[0] / batch,
        width: shape[1],
    };
    let (statistic, gradient) = kernels::sigreg(values(&z), values(&directions), sizes);
    (tensor(vec![statistic], [1]), tensor(gradient, shape))
}

impl SigRegOp for Flex {
    fn dinolab_sigreg(
        z: FloatTensor<Self>,
        directions: FloatTensor<Self>,
        batch: usize,
    ) -> FloatTensor<Self> {
        forward(z, directions, batch).0
    }
}

#[derive(Debug)]
struct SigReg;

impl Backward<Flex, 1> for SigReg {
    /// The gradient in the embeddings.
    type State = FloatTensor<Flex>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let ([node], mut gradient) = (ops.parents, ops.state);
        if let Some(node) = node {
            kernels::scale(gradient.storage_mut(), values(&dy)[0]);
            grads.register::<Flex>(node.id, gradient);
        }
    }
}

impl<C: CheckpointStrategy> SigRegOp for Autodiff<Flex, C> {
    fn dinolab_sigreg(
        z: FloatTensor<Self>,
        directions: FloatTensor<Self>,
        batch: usize,
    ) -> FloatTensor<Self> {
        let ((z, node), (directions, _)) = (z.into_parts(), directions.into_parts());
        let (statistic, gradient) = forward(z, directions, batch);
        match SigReg.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(gradient, statistic),
            OpsKind::UnTracked(prep) => prep.finish(statistic),
        }
    }
}
