//! Attention: saves its input and the log-sum-exp of the scores, never the probabilities.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use dinolab_kernels::{self as kernels, AttentionShape};

use super::{dense, tensor, values};

/// Attention as an operation of a backend.
#[backend_extension(Flex, Autodiff)]
pub trait AttentionOp: Backend {
    /// `[B, N, 3·D]` → `[B, N, D]`.
    fn dinolab_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;
}

fn sizes(qkv: &FlexTensor, heads: usize) -> AttentionShape {
    let shape = qkv.shape();
    AttentionShape {
        images: shape[0],
        tokens: shape[1],
        width: shape[2] / 3,
        heads,
    }
}

fn forward(qkv: &FlexTensor, heads: usize) -> (FlexTensor, Vec<f32>) {
    let shape = sizes(qkv, heads);
    let (y, lse) = kernels::attention(values(qkv), shape);
    (tensor(y, [shape.images, shape.tokens, shape.width]), lse)
}

impl AttentionOp for Flex {
    fn dinolab_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        forward(&dense(qkv), heads).0
    }
}

#[derive(Debug)]
struct Attention;

impl Backward<Flex, 1> for Attention {
    /// Input, log-sum-exp, heads.
    type State = (FloatTensor<Flex>, Vec<f32>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let ([node], (qkv, lse, heads)) = (ops.parents, ops.state);
        if let Some(node) = node {
            let shape = sizes(&qkv, heads);
            let dx = kernels::attention_backward(values(&qkv), &lse, values(&dy), shape);
            grads.register::<Flex>(node.id, tensor(dx, qkv.shape()));
        }
    }
}

impl<C: CheckpointStrategy> AttentionOp for Autodiff<Flex, C> {
    fn dinolab_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let (qkv, node) = qkv.into_parts();
        let qkv = dense(qkv);
        let (y, lse) = forward(&qkv, heads);
        match Attention.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((qkv, lse, heads), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
