//! Layer normalisation: saves its input and the rows' statistics.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use dinolab_kernels as kernels;

use super::{dense, tensor, values};

/// Layer normalisation as an operation of a backend.
#[backend_extension(Flex, Autodiff)]
pub trait LayerNormOp: Backend {
    /// `x` `[.., D]`, `gamma` and `beta` `[D]` → `[.., D]`.
    fn dinolab_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
}

impl LayerNormOp for Flex {
    fn dinolab_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let [x, gamma, beta] = [x, gamma, beta].map(dense);
        let (y, _) = kernels::layer_norm(values(&x), values(&gamma), values(&beta), eps as f32);
        tensor(y, x.shape())
    }
}

#[derive(Debug)]
struct LayerNorm;

impl Backward<Flex, 3> for LayerNorm {
    /// Input, scale, and the statistics of the rows.
    type State = ([FloatTensor<Flex>; 2], Vec<f32>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let ([x, gamma], statistics) = ops.state;
        let ours =
            kernels::layer_norm_backward(values(&x), values(&gamma), &statistics, values(&dy));
        let all = [
            (ours.x, x.shape()),
            (ours.gamma, gamma.shape()),
            (ours.beta, gamma.shape()),
        ];
        for (node, (grad, shape)) in ops.parents.into_iter().zip(all) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(grad, shape));
            }
        }
    }
}

impl<C: CheckpointStrategy> LayerNormOp for Autodiff<Flex, C> {
    fn dinolab_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let ((x, nx), (gamma, ng), (beta, nb)) =
            (x.into_parts(), gamma.into_parts(), beta.into_parts());
        match LayerNorm
            .prepare::<C>([nx, ng, nb])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let [x, gamma, beta] = [x, gamma, beta].map(dense);
                let (y, statistics) =
                    kernels::layer_norm(values(&x), values(&gamma), values(&beta), eps as f32);
                let y = tensor(y, x.shape());
                prep.finish(([x, gamma], statistics), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::dinolab_layer_norm(x, gamma, beta, eps)),
        }
    }
}
