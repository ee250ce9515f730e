//! Multi-head self-attention from the joint query-key-value buffer.

use burn::tensor::{Tensor, activation::softmax};

use super::fused::{self, Dispatch, attention::AttentionOp};
use super::matmul;
use crate::precision::{as_of, single};

/// Queries, keys and values, each `[B, H, N, D/H]`.
fn split(qkv: Tensor<3>, heads: usize) -> [Tensor<4>; 3] {
    let [b, n, three_d] = qkv.dims();
    let head_width = three_d / 3 / heads;
    let parts = qkv
        .reshape([b, n, 3, heads, head_width])
        .permute([2, 0, 3, 1, 4]);
    [0, 1, 2].map(|i| {
        parts
            .clone()
            .narrow(0, i, 1)
            .reshape([b, heads, n, head_width])
    })
}

/// In `f32`, whatever the operands are.
fn probabilities(q: Tensor<4>, k: Tensor<4>) -> Tensor<4> {
    let scale = 1.0 / (q.dims()[3] as f64).sqrt();
    softmax(single(matmul(q * scale, k.swap_dims(2, 3))), 3)
}

/// `softmax(q·kᵀ/√d)·v` per head, heads concatenated.
///
/// `qkv` `[B, N, 3·D]`, laid out as query, key, value and within each by head → `[B, N, D]`.
pub fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    if !fused::applies(&qkv) {
        return of_device(qkv, heads);
    }
    Tensor::from_dispatch(Dispatch::dinolab_attention(qkv.into_dispatch(), heads))
}

/// [`attention`] with the softmax of a GPU, or of primitives.
pub(super) fn of_device(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    #[cfg(all(feature = "gpu", not(feature = "fusion")))]
    if super::gpu::applies(&qkv) {
        use super::gpu::softmax::GpuSoftmaxOp;
        let [b, n, three_d] = qkv.dims();
        let [q, k, v] = split(qkv, heads);
        let scale = 1.0 / (q.dims()[3] as f64).sqrt();
        let scores = matmul(q, k.swap_dims(2, 3)).into_dispatch();
        let p = Tensor::<4>::from_dispatch(Dispatch::dinolab_gpu_softmax(scores, scale));
        return matmul(p, v).swap_dims(1, 2).reshape([b, n, three_d / 3]);
    }
    composite(qkv, heads)
}

/// [`attention`] of primitives.
pub fn composite(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let [b, n, three_d] = qkv.dims();
    let [q, k, v] = split(qkv, heads);
    let p = as_of(probabilities(q, k), &v);
    matmul(p, v).swap_dims(1, 2).reshape([b, n, three_d / 3])
}

/// The attention weights themselves: `[B, H, N, N]`, each row a distribution.
pub fn attention_probabilities(qkv: Tensor<3>, heads: usize) -> Tensor<4> {
    let [q, k, _] = split(qkv, heads);
    probabilities(q, k)
}

/// The first token's row of [`attention_probabilities`], `[B, H, 1, N]`, in memory that grows with
/// the tokens, not with their square.
pub fn first_attention_probabilities(qkv: Tensor<3>, heads: usize) -> Tensor<4> {
    let [q, k, _] = split(qkv, heads);
    probabilities(q.narrow(2, 0, 1), k)
}
