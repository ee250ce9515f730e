//! Convolutions, and convolutions with batch normalisation and what follows it as one node of the
//! gradient graph.

use std::sync::{Arc, OnceLock};

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use dinolab_kernels::{self as kernels, ConvShape, Moments};

use super::{dense, tensor, unzip, values};
use crate::ops::batch_sums::{moments_of_all, sums_of_all};
use crate::ops::conv::Kernel;

/// Where an operation leaves the moments that it normalised by.
pub type Found = Arc<OnceLock<Moments>>;

/// Convolutions as operations of a backend. Images are `[B, H, W, C]`, weights `[O, I·k·k]`.
#[backend_extension(Flex, Autodiff)]
pub trait ConvOp: Backend {
    /// See [`conv`](crate::ops::conv()).
    fn dinolab_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        kernel: Kernel,
    ) -> FloatTensor<Self>;

    /// See [`conv_norm`](crate::ops::conv_norm).
    #[allow(clippy::too_many_arguments)]
    fn dinolab_conv_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        kernel: Kernel,
        eps: f64,
        relu: bool,
        found: Found,
    ) -> FloatTensor<Self>;

    /// [`ConvOp::dinolab_conv_norm`] to which `residual` is added before the ReLU.
    #[allow(clippy::too_many_arguments)]
    fn dinolab_conv_norm_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        kernel: Kernel,
        eps: f64,
        relu: bool,
        found: Found,
    ) -> FloatTensor<Self>;

    /// See [`max_pool`](crate::ops::max_pool).
    fn dinolab_max_pool(x: FloatTensor<Self>, kernel: Kernel) -> FloatTensor<Self>;
}

fn shape_of(x: &FlexTensor, kernel: Kernel, outputs: usize) -> ConvShape {
    kernel.shape(x.shape().dims(), outputs)
}

fn images(y: Vec<f32>, shape: &ConvShape) -> FlexTensor {
    let (height, width) = shape.output_size();
    tensor(y, [shape.images, height, width, shape.outputs])
}

/// The gradients of images and weights that are wanted, from that of the convolution's result.
fn register(
    grads: &mut Gradients,
    [x_node, weight_node]: [Option<NodeId>; 2],
    [x, weight]: [&FlexTensor; 2],
    dy: &[f32],
    shape: &ConvShape,
) {
    if let Some(node) = weight_node {
        let dw = kernels::conv_weight_gradient(dy, values(x), shape);
        grads.register::<Flex>(node, tensor(dw, weight.shape()));
    }
    if let Some(node) = x_node {
        let dx = kernels::conv_input_gradient(dy, values(weight), shape);
        grads.register::<Flex>(node, tensor(dx, x.shape()));
    }
}

/// A convolution with batch normalisation: operands, and what the backward pass needs of it.
#[derive(Clone, Debug)]
struct Normalised {
    /// Images, weights and γ.
    operands: [FlexTensor; 3],
    shape: ConvShape,
    /// The convolution's result.
    y: Arc<Vec<f32>>,
    mean: Vec<f32>,
    inverse: Vec<f32>,
    /// The result, if there is a ReLU.
    z: Option<FlexTensor>,
}

fn normalised(
    [x, weight, gamma, beta]: [FlexTensor; 4],
    residual: Option<&FlexTensor>,
    kernel: Kernel,
    eps: f64,
    relu: bool,
    found: &Found,
) -> (FlexTensor, Normalised) {
    let shape = shape_of(&x, kernel, weight.shape()[0]);
    let (y, moments) = kernels::conv_with_moments(values(&x), values(&weight), &shape);
    let moments = moments_of_all(moments);
    let inverse = moments.inverse_deviation(eps);
    let (g, b) = (values(&gamma), values(&beta));
    let (scale, shift) = kernels::batch_norm_affine(&moments.mean, &inverse, g, b);
    let z = kernels::scale_shift(&y, &scale, &shift, residual.map(values), relu);
    let z = images(z, &shape);
    let mean = moments.mean.clone();
    found.set(moments).expect("an operation runs once");
    let saved = Normalised {
        operands: [x, weight, gamma],
        shape,
        y: Arc::new(y),
        mean,
        inverse,
        z: relu.then(|| z.clone()),
    };
    (z, saved)
}

impl Normalised {
    /// Registers the gradients that are wanted of images, weights, γ, β and residual.
    fn backward(
        self,
        dz: FlexTensor,
        [x, weight, gamma, beta, residual]: [Option<NodeId>; 5],
        grads: &mut Gradients,
    ) {
        let dz = dense(dz);
        let [images, weights, scale] = &self.operands;
        let (of_z, z) = (values(&dz), self.z.as_ref().map(values));
        let (mean, inverse) = (self.mean.as_slice(), self.inverse.as_slice());
        let own = kernels::batch_norm_sums(of_z, z, &self.y, [mean, inverse]);
        let channels = self.shape.outputs;
        let rows = self.y.len() / channels;
        let (all, count) = sums_of_all([&own[0], &own[1]], rows);
        let (of_y, of_residual) = kernels::batch_norm_input_gradient(
            of_z,
            z,
            &self.y,
            [mean, inverse, values(scale)],
            [&all[0], &all[1]],
            count,
            residual.is_some(),
        );
        drop(dz);
        let [of_beta, of_gamma] = own;
        if let Some(node) = gamma {
            grads.register::<Flex>(node, tensor(of_gamma, [channels]));
        }
        if let Some(node) = beta {
            grads.register::<Flex>(node, tensor(of_beta, [channels]));
        }
        if let (Some(node), Some(gradient)) = (residual, of_residual) {
            let z = self::images(gradient, &self.shape);
            grads.register::<Flex>(node, z);
        }
        let operands = [images, weights];
        register(grads, [x, weight], operands, &of_y, &self.shape);
    }
}

fn pooled(x: &FlexTensor, kernel: Kernel) -> (FlexTensor, Vec<u8>, ConvShape) {
    let shape = shape_of(x, kernel, x.shape()[3]);
    let (y, places) = kernels::max_pool(values(x), &shape);
    (images(y, &shape), places, shape)
}

impl ConvOp for Flex {
    fn dinolab_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        kernel: Kernel,
    ) -> FloatTensor<Self> {
        let [x, weight] = [x, weight].map(dense);
        let shape = shape_of(&x, kernel, weight.shape()[0]);
        images(kernels::conv(values(&x), values(&weight), &shape), &shape)
    }

    fn dinolab_conv_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        kernel: Kernel,
        eps: f64,
        relu: bool,
        found: Found,
    ) -> FloatTensor<Self> {
        let operands = [x, weight, gamma, beta].map(dense);
        normalised(operands, None, kernel, eps, relu, &found).0
    }

    fn dinolab_conv_norm_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        kernel: Kernel,
        eps: f64,
        relu: bool,
        found: Found,
    ) -> FloatTensor<Self> {
        let operands = [x, weight, gamma, beta].map(dense);
        let residual = dense(residual);
        normalised(operands, Some(&residual), kernel, eps, relu, &found).0
    }

    fn dinolab_max_pool(x: FloatTensor<Self>, kernel: Kernel) -> FloatTensor<Self> {
        pooled(&dense(x), kernel).0
    }
}

#[derive(Debug)]
struct Conv;

impl Backward<Flex, 2> for Conv {
    /// Images and weights, and the sizes.
    type State = ([FloatTensor<Flex>; 2], ConvShape);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let nodes = ops.parents.map(|node| node.map(|node| node.id));
        let ([x, weight], shape) = &ops.state;
        register(grads, nodes, [x, weight], values(&dy), shape);
    }
}

#[derive(Debug)]
struct ConvNorm;

impl Backward<Flex, 4> for ConvNorm {
    type State = Normalised;

    fn backward(self, ops: Ops<Normalised, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dz = grads.consume::<Flex>(&ops.node);
        let [x, weight, gamma, beta] = ops.parents.map(|node| node.map(|node| node.id));
        ops.state
            .backward(dz, [x, weight, gamma, beta, None], grads);
    }
}

impl Backward<Flex, 5> for ConvNorm {
    type State = Normalised;

    fn backward(self, ops: Ops<Normalised, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dz = grads.consume::<Flex>(&ops.node);
        let nodes = ops.parents.map(|node| node.map(|node| node.id));
        ops.state.backward(dz, nodes, grads);
    }
}

#[derive(Debug)]
struct MaxPool;

impl Backward<Flex, 1> for MaxPool {
    /// Places of the largest values, and the sizes.
    type State = (Vec<u8>, ConvShape);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let ([node], (places, shape)) = (ops.parents, ops.state);
        if let Some(node) = node {
            let dx = kernels::max_pool_backward(values(&dy), &places, &shape);
            let size = [shape.images, shape.height, shape.width, shape.inputs];
            grads.register::<Flex>(node.id, tensor(dx, size));
        }
    }
}

impl<C: CheckpointStrategy> ConvOp for Autodiff<Flex, C> {
    fn dinolab_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        kernel: Kernel,
    ) -> FloatTensor<Self> {
        let (operands, nodes) = unzip([x, weight].map(|tensor| tensor.into_parts()));
        let [x, weight] = operands.map(dense);
        let shape = shape_of(&x, kernel, weight.shape()[0]);
        let y = Flex::dinolab_conv(x.clone(), weight.clone(), kernel);
        match Conv.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([x, weight], shape), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn dinolab_conv_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        kernel: Kernel,
        eps: f64,
        relu: bool,
        found: Found,
    ) -> FloatTensor<Self> {
        let (operands, nodes) = unzip([x, weight, gamma, beta].map(|tensor| tensor.into_parts()));
        let (z, saved) = normalised(operands.map(dense), None, kernel, eps, relu, &found);
        match Backward::<Flex, 4>::prepare::<C>(ConvNorm, nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(saved, z),
            OpsKind::UnTracked(prep) => prep.finish(z),
        }
    }

    fn dinolab_conv_norm_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        kernel: Kernel,
        eps: f64,
        relu: bool,
        found: Found,
    ) -> FloatTensor<Self> {
        let parts = [x, weight, gamma, beta, residual].map(|tensor| tensor.into_parts());
        let (operands, nodes) = unzip(parts);
        let [x, weight, gamma, beta, residual] = operands.map(dense);
        let operands = [x, weight, gamma, beta];
        let (z, saved) = normalised(operands, Some(&residual), kernel, eps, relu, &found);
        match Backward::<Flex, 5>::prepare::<C>(ConvNorm, nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(saved, z),
            OpsKind::UnTracked(prep) => prep.finish(z),
        }
    }

    fn dinolab_max_pool(x: FloatTensor<Self>, kernel: Kernel) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let (y, places, shape) = pooled(&dense(x), kernel);
        match MaxPool.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((places, shape), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
