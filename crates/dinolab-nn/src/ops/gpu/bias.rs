//! A bias added to every row: the sum of the rows backward.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

use super::sums;

/// The bias of a linear layer as an operation of a backend.
#[backend_extension(Cube, Autodiff)]
pub trait GpuBiasOp: Backend {
    /// `x` `[R, O]` and `bias` `[O]` in `f32` → `[R, O]`, in the numbers of `x`.
    fn dinolab_gpu_bias(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl GpuBiasOp for CubeBackend {
    fn dinolab_gpu_bias(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let width = bias.shape().num_elements();
        let bias = Self::float_cast(bias, x.dtype.into());
        Self::float_add(x, Self::float_reshape(bias, [1, width].into()))
    }
}

#[derive(Debug)]
struct Bias;

impl Backward<CubeBackend, 2> for Bias {
    type State = ();

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = into_contiguous(grads.consume::<CubeBackend>(&ops.node));
        let [of_x, of_bias] = ops.parents;
        if let Some(node) = of_bias {
            grads.register::<CubeBackend>(node.id, sums::over_rows(dy.clone()));
        }
        if let Some(node) = of_x {
            grads.register::<CubeBackend>(node.id, dy);
        }
    }
}

impl<C: CheckpointStrategy> GpuBiasOp for Autodiff<CubeBackend, C> {
    fn dinolab_gpu_bias(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((x, nx), (bias, nb)) = (x.into_parts(), bias.into_parts());
        let y = CubeBackend::dinolab_gpu_bias(x, bias);
        match Bias.prepare::<C>([nx, nb]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
