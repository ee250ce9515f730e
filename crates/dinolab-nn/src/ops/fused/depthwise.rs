//! Depthwise convolutions: save images and weights.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use dinolab_kernels::{self as kernels, DepthwiseShape};

use super::{dense, tensor, unzip, values};

/// A depthwise convolution as an operation of a backend.
#[backend_extension(Flex, Autodiff)]
pub trait DepthwiseOp: Backend {
    /// See [`depthwise_conv`](crate::ops::depthwise_conv).
    fn dinolab_depthwise_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

fn shape_of(x: &FlexTensor) -> DepthwiseShape {
    let [images, height, width, channels] = x.shape().dims();
    DepthwiseShape {
        images,
        height,
        width,
        channels,
    }
}

impl DepthwiseOp for Flex {
    fn dinolab_depthwise_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [x, weight, bias] = [x, weight, bias].map(dense);
        let shape = shape_of(&x);
        let y = kernels::depthwise_conv(values(&x), values(&weight), values(&bias), &shape);
        tensor(y, x.shape())
    }
}

#[derive(Debug)]
struct Depthwise;

impl Backward<Flex, 3> for Depthwise {
    /// Images and weights.
    type State = [FlexTensor; 2];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let [x, weight] = ops.state;
        let shape = shape_of(&x);
        let [of_x, of_weight, of_bias] = ops.parents.map(|node| node.map(|node| node.id));
        if of_weight.is_some() || of_bias.is_some() {
            let ours = kernels::depthwise_parameter_gradients(values(&dy), values(&x), &shape);
            if let Some(node) = of_weight {
                grads.register::<Flex>(node, tensor(ours.weight, weight.shape()));
            }
            if let Some(node) = of_bias {
                grads.register::<Flex>(node, tensor(ours.bias, [shape.channels]));
            }
        }
        if let Some(node) = of_x {
            let dx = kernels::depthwise_input_gradient(values(&dy), values(&weight), &shape);
            grads.register::<Flex>(node, tensor(dx, x.shape()));
        }
    }
}

impl<C: CheckpointStrategy> DepthwiseOp for Autodiff<Flex, C> {
    fn dinolab_depthwise_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (operands, nodes) = unzip([x, weight, bias].map(|tensor| tensor.into_parts()));
        let [x, weight, bias] = operands.map(dense);
        let y = Flex::dinolab_depthwise_conv(x.clone(), weight.clone(), bias);
        match Depthwise.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([x, weight], y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
