//! Prototypes, read once on each way.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use dinolab_kernels as kernels;

use super::{dense, tensor, unzip, values};

/// Prototypes as an operation of a backend.
#[backend_extension(Flex, Autodiff)]
pub trait PrototypesOp: Backend {
    /// `x` `[R, W]`, `v` `[K, W]`, `g` `[K]` → `[R, K]`.
    fn dinolab_prototypes(
        x: FloatTensor<Self>,
        v: FloatTensor<Self>,
        g: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// The similarities, and the lengths of the directions.
fn forward([x, v, g]: &[FlexTensor; 3]) -> (FlexTensor, Vec<f32>) {
    let [rows, width] = [x.shape()[0], x.shape()[1]];
    let (y, lengths) = kernels::prototypes(values(x), values(v), values(g), width);
    (tensor(y, [rows, g.shape()[0]]), lengths)
}

impl PrototypesOp for Flex {
    fn dinolab_prototypes(
        x: FloatTensor<Self>,
        v: FloatTensor<Self>,
        g: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        forward(&[x, v, g].map(dense)).0
    }
}

#[derive(Debug)]
struct Prototypes;

impl Backward<Flex, 3> for Prototypes {
    /// Rows, directions and lengths as given, and the directions' own lengths.
    type State = ([FloatTensor<Flex>; 3], Vec<f32>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let (operands, lengths) = ops.state;
        let [x, v, g] = operands.each_ref().map(values);
        let width = operands[0].shape()[1];
        let ours = kernels::prototypes_backward(x, v, g, &lengths, values(&dy), width);
        let all = [ours.x, ours.v, ours.g];
        for ((node, grad), operand) in ops.parents.into_iter().zip(all).zip(&operands) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(grad, operand.shape()));
            }
        }
    }
}

impl<C: CheckpointStrategy> PrototypesOp for Autodiff<Flex, C> {
    fn dinolab_prototypes(
        x: FloatTensor<Self>,
        v: FloatTensor<Self>,
        g: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let parts = [x, v, g].map(|tensor| tensor.into_parts());
        let (operands, nodes) = unzip(parts);
        let operands = operands.map(dense);
        let (y, lengths) = forward(&operands);
        match Prototypes.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((operands, lengths), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
