//! The loss: its gradient is computed along with it and saved.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use dinolab_kernels::{self as kernels, LossShape};

use super::{dense, tensor, values};

/// The loss as an operation of a backend.
#[backend_extension(Flex, Autodiff)]
pub trait LossOp: Backend {
    /// `student` `[V·B, K]` and `targets` `[2·B, K]` → `[1]`.
    fn dinolab_loss(
        student: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        batch: usize,
        temperature: f64,
    ) -> FloatTensor<Self>;
}

/// The loss and its gradient in the student's logits.
fn forward(
    student: FlexTensor,
    targets: FlexTensor,
    batch: usize,
    temperature: f64,
) -> (FlexTensor, FlexTensor) {
    let [student, targets] = [student, targets].map(dense);
    let shape = student.shape();
    let sizes = LossShape {
        batch,
        views: shape[0] / batch,
        prototypes: shape[1],
    };
    let (loss, gradient) = kernels::dino_loss(
        values(&student),
        values(&targets),
        sizes,
        temperature as f32,
    );
    (tensor(vec![loss], [1]), tensor(gradient, shape))
}

impl LossOp for Flex {
    fn dinolab_loss(
        student: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        batch: usize,
        temperature: f64,
    ) -> FloatTensor<Self> {
        forward(student, targets, batch, temperature).0
    }
}

#[derive(Debug)]
struct Loss;

impl Backward<Flex, 1> for Loss {
    /// The gradient in the student's logits.
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

impl<C: CheckpointStrategy> LossOp for Autodiff<Flex, C> {
    fn dinolab_loss(
        student: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        batch: usize,
        temperature: f64,
    ) -> FloatTensor<Self> {
        let ((student, node), (targets, _)) = (student.into_parts(), targets.into_parts());
        let (loss, gradient) = forward(student, targets, batch, temperature);
        match Loss.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(gradient, loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        }
    }
}

/// The teacher's targets, outside of any gradient graph.
pub fn probabilities(logits: Tensor<2>, centre: Tensor<1>, temperature: f64) -> Tensor<2> {
    let logits = dense(super::primitive(logits));
    let centre = dense(super::primitive(centre));
    let scale = (1.0 / temperature) as f32;
    let y = kernels::softmax_rows(values(&logits), values(&centre), scale);
    super::wrap(tensor(y, logits.shape()))
}

/// Sinkhorn–Knopp targets of plain logits.
pub fn sinkhorn(logits: Tensor<2>, temperature: f64, iterations: usize) -> Tensor<2> {
    let logits = dense(super::primitive(logits));
    let shape = logits.shape();
    let y = kernels::sinkhorn(values(&logits), shape[1], temperature, iterations);
    super::wrap(tensor(y, shape))
}
