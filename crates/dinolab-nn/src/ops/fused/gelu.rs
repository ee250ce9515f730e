//! GELU: saves its derivative, so that the backward pass is one product.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use dinolab_kernels as kernels;

use super::{dense, tensor, values};

/// GELU as an operation of a backend.
#[backend_extension(Flex, Autodiff)]
pub trait GeluOp: Backend {
    /// Any shape, kept.
    fn dinolab_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl GeluOp for Flex {
    fn dinolab_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = dense(x);
        tensor(kernels::gelu(values(&x)), x.shape())
    }
}

#[derive(Debug)]
struct Gelu;

impl Backward<Flex, 1> for Gelu {
    /// The derivative.
    type State = FloatTensor<Flex>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let ([node], derivative) = (ops.parents, ops.state);
        if let Some(node) = node {
            let dx = kernels::gelu_backward(values(&dy), values(&derivative));
            grads.register::<Flex>(node.id, tensor(dx, dy.shape()));
        }
    }
}

impl<C: CheckpointStrategy> GeluOp for Autodiff<Flex, C> {
    fn dinolab_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match Gelu.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let x = dense(x);
                let (y, derivative) = kernels::gelu_with_derivative(values(&x));
                prep.finish(tensor(derivative, x.shape()), tensor(y, x.shape()))
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::dinolab_gelu(x)),
        }
    }
}
