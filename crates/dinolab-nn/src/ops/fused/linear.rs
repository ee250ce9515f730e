//! Linear maps, with bias and GELU in the product's tiles.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::Shape;
use dinolab_kernels as kernels;

use super::{dense, tensor, values};

/// Linear maps as operations of a backend; `x` `[.., I]`, `weight` `[O, I]` → `[.., O]`.
#[backend_extension(Flex, Autodiff)]
pub trait LinearOp: Backend {
    /// `x · weightᵀ`.
    fn dinolab_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `x · weightᵀ + bias`.
    fn dinolab_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// `gelu(x · weightᵀ + bias)`.
    fn dinolab_linear_gelu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Outputs and inputs of a weight `[O, I]`.
fn sizes(weight: &FlexTensor) -> [usize; 2] {
    let shape = weight.shape();
    [shape[0], shape[1]]
}

/// The shape of `x` with the weight's outputs in the last place.
fn output_shape(x: &FlexTensor, weight: &FlexTensor) -> Shape {
    let mut shape = x.shape();
    let last = shape.num_dims() - 1;
    shape[last] = sizes(weight)[0];
    shape
}

impl LinearOp for Flex {
    fn dinolab_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let [x, weight] = [x, weight].map(dense);
        let y = kernels::linear(values(&x), values(&weight), None, sizes(&weight)[1]);
        tensor(y, output_shape(&x, &weight))
    }

    fn dinolab_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [x, weight, bias] = [x, weight, bias].map(dense);
        let inputs = sizes(&weight)[1];
        let y = kernels::linear(values(&x), values(&weight), Some(values(&bias)), inputs);
        tensor(y, output_shape(&x, &weight))
    }

    fn dinolab_linear_gelu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [x, weight, bias] = [x, weight, bias].map(dense);
        let inputs = sizes(&weight)[1];
        let y = kernels::linear_gelu(values(&x), values(&weight), Some(values(&bias)), inputs);
        tensor(y, output_shape(&x, &weight))
    }
}

/// Registers the gradients of input and weight that are wanted, from that of the map's result.
fn register(
    grads: &mut Gradients,
    [x_node, weight_node]: [Option<NodeId>; 2],
    [x, weight]: [FlexTensor; 2],
    dy: &[f32],
) {
    let [outputs, inputs] = sizes(&weight);
    if let Some(node) = x_node {
        let dx = kernels::input_gradient(dy, values(&weight), inputs);
        grads.register::<Flex>(node, tensor(dx, x.shape()));
    }
    if let Some(node) = weight_node {
        let dw = kernels::weight_gradient(dy, values(&x), outputs, inputs);
        grads.register::<Flex>(node, tensor(dw, [outputs, inputs]));
    }
}

#[derive(Debug)]
struct Product;

impl Backward<Flex, 2> for Product {
    /// Input and weight.
    type State = [FloatTensor<Flex>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let nodes = ops.parents.map(|node| node.map(|node| node.id));
        register(grads, nodes, ops.state, values(&dy));
    }
}

#[derive(Debug)]
struct Linear;

impl Backward<Flex, 3> for Linear {
    /// Input and weight.
    type State = [FloatTensor<Flex>; 2];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let [x, weight, bias] = ops.parents.map(|node| node.map(|node| node.id));
        if let Some(node) = bias {
            let [outputs, _] = sizes(&ops.state[1]);
            let db = kernels::bias_gradient(values(&dy), outputs);
            grads.register::<Flex>(node, tensor(db, [outputs]));
        }
        register(grads, [x, weight], ops.state, values(&dy));
    }
}

#[derive(Debug)]
struct LinearGelu;

impl Backward<Flex, 3> for LinearGelu {
    /// Input, weight, and GELU's derivative.
    type State = ([FloatTensor<Flex>; 2], Vec<f32>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let (saved, derivative) = ops.state;
        let [x, weight, bias] = ops.parents.map(|node| node.map(|node| node.id));
        let [outputs, _] = sizes(&saved[1]);
        let (dh, db) = kernels::gelu_bias_gradient(values(&dy), &derivative, outputs);
        if let Some(node) = bias {
            grads.register::<Flex>(node, tensor(db, [outputs]));
        }
        register(grads, [x, weight], saved, &dh);
    }
}

impl<C: CheckpointStrategy> LinearOp for Autodiff<Flex, C> {
    fn dinolab_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let [x, weight] = [x, weight].map(dense);
        let y = Flex::dinolab_product(x.clone(), weight.clone());
        match Product
            .prepare::<C>([x_node, weight_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish([x, weight], y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn dinolab_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let [x, weight] = [x, weight].map(dense);
        let y = Flex::dinolab_linear(x.clone(), weight.clone(), bias);
        match Linear
            .prepare::<C>([x_node, weight_node, bias_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish([x, weight], y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn dinolab_linear_gelu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        match LinearGelu
            .prepare::<C>([x_node, weight_node, bias_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let [x, weight, bias] = [x, weight, bias].map(dense);
                let (y, derivative) = kernels::linear_gelu_with_derivative(
                    values(&x),
                    values(&weight),
                    Some(values(&bias)),
                    sizes(&weight)[1],
                );
                let y = tensor(y, output_shape(&x, &weight));
                prep.finish(([x, weight], derivative), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::dinolab_linear_gelu(x, weight, bias)),
        }
    }
}
