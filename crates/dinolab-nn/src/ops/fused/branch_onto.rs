//! MLP branches that are added to other tokens than they are computed from: one node of the gradient
//! graph each.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use dinolab_kernels::{self as kernels, MlpActivation, MlpSaved, TokenLayout};

use super::branch::{Operands, weights};
use super::{dense, tensor, unzip, values};

/// Such branches as operations of a backend.
#[backend_extension(Flex, Autodiff)]
pub trait BranchOntoOp: Backend {
    /// See [`branch_onto`](crate::ops::branch::branch_onto).
    #[allow(clippy::too_many_arguments)]
    fn dinolab_mlp_onto(
        base: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
        eps: f64,
        activation: MlpActivation,
        samples: Arc<TokenLayout>,
    ) -> FloatTensor<Self>;
}

fn forward(
    base: FlexTensor,
    operands: &Operands,
    eps: f64,
    activation: MlpActivation,
    samples: &TokenLayout,
) -> (FlexTensor, MlpSaved) {
    let base = dense(base);
    let (x, weights) = (values(&operands[0]), weights(operands, eps));
    let (y, saved) = kernels::mlp_branch_onto(x, values(&base), &weights, activation, samples);
    (tensor(y, base.shape()), saved)
}

impl BranchOntoOp for Flex {
    fn dinolab_mlp_onto(
        base: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
        eps: f64,
        activation: MlpActivation,
        samples: Arc<TokenLayout>,
    ) -> FloatTensor<Self> {
        let operands = [x, gamma, beta, first, first_bias, second, second_bias].map(dense);
        forward(base, &operands, eps, activation, &samples).0
    }
}

#[derive(Clone, Debug)]
struct State {
    operands: Operands,
    eps: f64,
    activation: MlpActivation,
    samples: Arc<TokenLayout>,
    saved: Arc<MlpSaved>,
}

#[derive(Debug)]
struct OntoBackward;

impl Backward<Flex, 8> for OntoBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 8>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let State {
            operands,
            eps,
            activation,
            samples,
            saved,
        } = ops.state;
        let (x, weights) = (values(&operands[0]), weights(&operands, eps));
        let ours = kernels::mlp_branch_onto_backward(
            x,
            &weights,
            activation,
            &samples,
            &saved,
            values(&dy),
        );
        let [base, nodes @ ..] = ops.parents;
        let all = [
            ours.x,
            ours.gamma,
            ours.beta,
            ours.first,
            ours.first_bias,
            ours.second,
            ours.second_bias,
        ];
        let nodes: [_; 7] = nodes;
        for ((node, grad), operand) in nodes.into_iter().zip(all).zip(&operands) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(grad, operand.shape()));
            }
        }
        if let Some(node) = base {
            grads.register::<Flex>(node.id, dy);
        }
    }
}

impl<C: CheckpointStrategy> BranchOntoOp for Autodiff<Flex, C> {
    fn dinolab_mlp_onto(
        base: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
        eps: f64,
        activation: MlpActivation,
        samples: Arc<TokenLayout>,
    ) -> FloatTensor<Self> {
        let parts = [base, x, gamma, beta, first, first_bias, second, second_bias];
        let (operands, nodes) = unzip(parts.map(|tensor| tensor.into_parts()));
        let [base, operands @ ..] = operands;
        let operands: Operands = operands.map(dense);
        let (y, saved) = forward(base, &operands, eps, activation, &samples);
        match OntoBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = State {
                    operands,
                    eps,
                    activation,
                    samples,
                    saved: Arc::new(saved),
                };
                prep.finish(state, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
