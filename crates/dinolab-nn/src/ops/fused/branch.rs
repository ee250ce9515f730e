//! Residual branches: one node of the gradient graph each.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use dinolab_kernels::{
    self as kernels, AttentionSaved, BranchWeights, ClassAttentionSaved, MlpActivation, MlpSaved,
    TokenLayout,
};

use super::{dense, tensor, unzip, values};
use crate::ops::branch_kind::Branch;

/// Branches as operations of a backend.
#[backend_extension(Flex, Autodiff)]
pub trait BranchOp: Backend {
    /// See [`branch`](crate::ops::branch()).
    #[allow(clippy::too_many_arguments)]
    fn dinolab_branch(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
        eps: f64,
        kind: Branch,
        samples: Arc<TokenLayout>,
    ) -> FloatTensor<Self>;
}

/// Tokens and parameters, in the order of the operation's arguments.
pub(super) type Operands = [FlexTensor; 7];

/// What the backward pass needs besides the operands.
#[derive(Debug)]
enum Saved {
    Attention(AttentionSaved),
    ClassAttention(ClassAttentionSaved),
    Mlp(MlpSaved),
}

pub(super) fn weights(operands: &Operands, eps: f64) -> BranchWeights<'_> {
    let [_, gamma, beta, first, first_bias, second, second_bias] = operands.each_ref().map(values);
    BranchWeights {
        gamma,
        beta,
        eps: eps as f32,
        first,
        first_bias,
        second,
        second_bias,
    }
}

/// What an MLP has between its linear layers.
fn activation(kind: Branch) -> MlpActivation {
    match kind {
        Branch::GatedMlp => MlpActivation::SwiGlu,
        _ => MlpActivation::Gelu,
    }
}

fn forward(
    operands: &Operands,
    eps: f64,
    kind: Branch,
    samples: &TokenLayout,
) -> (FlexTensor, Saved) {
    let (x, weights) = (values(&operands[0]), weights(operands, eps));
    let (y, saved) = match kind {
        Branch::Attention(heads) => {
            let (y, saved) = kernels::attention_branch(x, &weights, heads, samples);
            (y, Saved::Attention(saved))
        }
        Branch::ClassAttention(heads) => {
            let (y, saved) = kernels::class_attention_branch(x, &weights, heads, samples);
            (y, Saved::ClassAttention(saved))
        }
        Branch::Mlp | Branch::GatedMlp => {
            let (y, saved) = kernels::mlp_branch(x, &weights, activation(kind), samples);
            (y, Saved::Mlp(saved))
        }
    };
    let width = weights.gamma.len();
    let rows = y.len() / width;
    (tensor(y, [rows, width]), saved)
}

impl BranchOp for Flex {
    fn dinolab_branch(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
        eps: f64,
        kind: Branch,
        samples: Arc<TokenLayout>,
    ) -> FloatTensor<Self> {
        let operands = [x, gamma, beta, first, first_bias, second, second_bias].map(dense);
        forward(&operands, eps, kind, &samples).0
    }
}

#[derive(Clone, Debug)]
struct State {
    operands: Operands,
    eps: f64,
    kind: Branch,
    samples: Arc<TokenLayout>,
    saved: Arc<Saved>,
}

#[derive(Debug)]
struct BranchBackward;

impl Backward<Flex, 7> for BranchBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 7>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let State {
            operands,
            eps,
            kind,
            samples,
            saved,
        } = ops.state;
        let (x, weights, dy) = (values(&operands[0]), weights(&operands, eps), values(&dy));
        let ours = match (kind, &*saved) {
            (Branch::Attention(heads), Saved::Attention(saved)) => {
                kernels::attention_branch_backward(x, &weights, heads, &samples, saved, dy)
            }
            (Branch::ClassAttention(heads), Saved::ClassAttention(saved)) => {
                kernels::class_attention_branch_backward(x, &weights, heads, &samples, saved, dy)
            }
            (Branch::Mlp | Branch::GatedMlp, Saved::Mlp(saved)) => {
                kernels::mlp_branch_backward(x, &weights, activation(kind), &samples, saved, dy)
            }
            _ => unreachable!("a branch saves what is its own"),
        };
        let all = [
            ours.x,
            ours.gamma,
            ours.beta,
            ours.first,
            ours.first_bias,
            ours.second,
            ours.second_bias,
        ];
        for ((node, grad), operand) in ops.parents.into_iter().zip(all).zip(&operands) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(grad, operand.shape()));
            }
        }
    }
}

impl<C: CheckpointStrategy> BranchOp for Autodiff<Flex, C> {
    fn dinolab_branch(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
        eps: f64,
        kind: Branch,
        samples: Arc<TokenLayout>,
    ) -> FloatTensor<Self> {
        let parts = [x, gamma, beta, first, first_bias, second, second_bias]
            .map(|tensor| tensor.into_parts());
        let (operands, nodes) = unzip(parts);
        let operands = operands.map(dense);
        let (y, saved) = forward(&operands, eps, kind, &samples);
        match BranchBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let state = State {
                    operands,
                    eps,
                    kind,
                    samples,
                    saved: Arc::new(saved),
                };
                prep.finish(state, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
