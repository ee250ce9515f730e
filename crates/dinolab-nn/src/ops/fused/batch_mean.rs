//! Means over the processes that train one network together.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};

use super::{dense, tensor, values};
use crate::ops::batch_sums::means_of_all;

/// The mean over processes as an operation of a backend.
#[backend_extension(Flex, Autodiff)]
pub trait BatchMeanOp: Backend {
    /// See [`batch_mean`](crate::ops::batch_sums::batch_mean). Any shape, kept.
    fn dinolab_batch_mean(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

fn mean(x: FlexTensor) -> FlexTensor {
    let x = dense(x);
    tensor(means_of_all(values(&x)), x.shape())
}

impl BatchMeanOp for Flex {
    fn dinolab_batch_mean(x: FloatTensor<Self>) -> FloatTensor<Self> {
        mean(x)
    }
}

#[derive(Debug)]
struct BatchMean;

impl Backward<Flex, 1> for BatchMean {
    type State = ();

    /// The loss is the sum of those of all processes, and each process' summand has an equal share in the mean.
    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let [node] = ops.parents;
        let dx = mean(dy);
        if let Some(node) = node {
            grads.register::<Flex>(node.id, dx);
        }
    }
}

impl<C: CheckpointStrategy> BatchMeanOp for Autodiff<Flex, C> {
    fn dinolab_batch_mean(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match BatchMean.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((), mean(x)),
            OpsKind::UnTracked(prep) => prep.finish(mean(x)),
        }
    }
}
