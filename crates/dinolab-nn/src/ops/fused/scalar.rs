//! Losses whose gradient is computed along with them and saved.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use dinolab_kernels as kernels;

use super::{Dispatch, dense, tensor, values};

/// From the values of a matrix to a number and its gradient in them.
type Body = Box<dyn FnOnce(&[f32]) -> (f32, Vec<f32>)>;

/// A number of a matrix as an operation of a backend.
#[backend_extension(Flex, Autodiff)]
pub trait ScalarOp: Backend {
    /// `x` `[R, D]` → `[1]`.
    fn dinolab_scalar(x: FloatTensor<Self>, body: Body) -> FloatTensor<Self>;
}

/// What `body` makes of `x` `[R, D]`, a tensor that [`applies`](super::applies); gradients reach it.
pub fn scalar(x: Tensor<2>, body: impl FnOnce(&[f32]) -> (f32, Vec<f32>) + 'static) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::dinolab_scalar(x.into_dispatch(), Box::new(body)))
}

fn forward(x: FlexTensor, body: Body) -> (FlexTensor, FlexTensor) {
    let x = dense(x);
    let shape = x.shape();
    let (value, gradient) = body(values(&x));
    (tensor(vec![value], [1]), tensor(gradient, shape))
}

impl ScalarOp for Flex {
    fn dinolab_scalar(x: FloatTensor<Self>, body: Body) -> FloatTensor<Self> {
        forward(x, body).0
    }
}

#[derive(Debug)]
struct Scalar;

impl Backward<Flex, 1> for Scalar {
    /// The gradient.
    type State = FloatTensor<Flex>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let ([node], mut gradient) = (ops.parents, ops.state);
        if let Some(node) = node {
            let factor = values(&dy)[0];
            if factor != 1.0 {
                kernels::scale(gradient.storage_mut(), factor);
            }
            grads.register::<Flex>(node.id, gradient);
        }
    }
}

impl<C: CheckpointStrategy> ScalarOp for Autodiff<Flex, C> {
    fn dinolab_scalar(x: FloatTensor<Self>, body: Body) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let (value, gradient) = forward(x, body);
        match Scalar.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(gradient, value),
            OpsKind::UnTracked(prep) => prep.finish(value),
        }
    }
}
