//! The two residual branches of a transformer block, forward and backward, each as a whole.
//!
//! `x + factor · attention(norm(x))` and `x + factor · mlp(norm(x))`, over the tokens `[R, D]`
//! of all images at once. Rows go through a branch in small blocks, so that intermediate values
//! stay in cache. The backward pass recomputes normalised rows and GELU's values, which is faster
//! than reading them; 10 values per token and width are saved for a transformer block.

mod attention;
mod class_attention;
mod mlp;

pub use attention::{AttentionSaved, attention_branch, attention_branch_backward};
pub use class_attention::{
    ClassAttentionSaved, class_attention_branch, class_attention_branch_backward,
};
pub use mlp::{
    MlpActivation, MlpSaved, mlp_branch, mlp_branch_backward, mlp_branch_onto,
    mlp_branch_onto_backward,
};

use std::ops::Range;

use crate::layer_norm::{backward_rows, forward_rows};
use crate::linear::{backward_operand, forward_operand, row_step};
use crate::parallel::{Parts, map_blocks, ordered_sum};
use crate::product::{Destination, Matrix, Packed, Store};
use crate::scratch::{Buffer, Scratch};
use crate::simd::{add_to, multiversioned};
use crate::token_layout::TokenLayout;

/// Weights of a branch: a normalisation and two linear layers (query-key-value and projection, or
/// the two of the MLP). Weights are `[O, I]`.
#[derive(Clone, Copy, Debug)]
pub struct BranchWeights<'a> {
    /// Scale of the normalisation, `[D]`.
    pub gamma: &'a [f32],
    /// Its shift, `[D]`.
    pub beta: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
    /// Weights of the first layer, `[H, D]`.
    pub first: &'a [f32],
    /// Its bias, `[H]`.
    pub first_bias: &'a [f32],
    /// Weights of the second layer, `[D, H]` (`[D, D]` for attention).
    pub second: &'a [f32],
    /// Its bias, `[D]`.
    pub second_bias: &'a [f32],
}

impl BranchWeights<'_> {
    fn width(&self) -> usize {
        self.gamma.len()
    }

    /// Checks all sizes for a first layer of `hidden` outputs and a second one of `inner` inputs.
    fn check(&self, hidden: usize, inner: usize) {
        let d = self.width();
        assert!(d > 0 && self.beta.len() == d && self.second_bias.len() == d);
        assert!(self.first.len() == hidden * d && self.first_bias.len() == hidden);
        assert_eq!(self.second.len(), d * inner);
    }
}

/// Gradients of a branch, each of the shape of its weights or tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct BranchGradients {
    /// Of the tokens, `[R, D]`.
    pub x: Vec<f32>,
    /// Of the normalisation's scale.
    pub gamma: Vec<f32>,
    /// Of its shift.
    pub beta: Vec<f32>,
    /// Of the first layer's weights.
    pub first: Vec<f32>,
    /// Of its bias.
    pub first_bias: Vec<f32>,
    /// Of the second layer's weights.
    pub second: Vec<f32>,
    /// Of its bias.
    pub second_bias: Vec<f32>,
}

impl BranchGradients {
    /// The gradients if no image takes part.
    fn none(x: Vec<f32>, weights: &BranchWeights) -> Self {
        let zeros = |like: &[f32]| vec![0.0; like.len()];
        Self {
            x,
            gamma: zeros(weights.gamma),
            beta: zeros(weights.beta),
            first: zeros(weights.first),
            first_bias: zeros(weights.first_bias),
            second: zeros(weights.second),
            second_bias: zeros(weights.second_bias),
        }
    }
}

/// Normalises the rows `rows` that take part into `out` and writes their `statistics` `[·, 2]`.
fn normalise(
    x: &[f32],
    weights: &BranchWeights,
    layout: &TokenLayout,
    rows: Range<usize>,
    out: &mut [f32],
    statistics: &mut [f32],
) {
    let d = weights.width();
    let lines = out.chunks_exact_mut(d).zip(statistics.chunks_exact_mut(2));
    for (row, (out, statistics)) in rows.zip(lines) {
        let x = &x[layout.place(row).0 * d..][..d];
        forward_rows(x, weights.gamma, weights.beta, weights.eps, out, statistics);
    }
}

/// `out ← x + factor · (branch + bias)` for the rows `rows` that take part; `branch` has those.
///
/// # Safety
/// Nothing else reaches these rows of `out` in the meantime.
unsafe fn add_residual(
    x: &[f32],
    branch: &[f32],
    bias: &[f32],
    layout: &TokenLayout,
    rows: Range<usize>,
    out: Parts,
) {
    let d = bias.len();
    for (row, branch) in rows.zip(branch.chunks_exact(d)) {
        let (place, factor) = layout.place(row);
        let range = place * d..(place + 1) * d;
        // SAFETY: the row is this task's, and has just been written.
        unsafe {
            crate::token_layout::copy(&x[range.clone()], out, range.clone());
            add_scaled(out.written(range), branch, bias, factor);
        }
    }
}

/// Normalises the rows that take part and applies the linear layer `layer` (weight, bias): returns
/// its outputs `[R′, O]` and the statistics `[R′, 2]`.
fn first_layer(
    x: &[f32],
    weights: &BranchWeights,
    layout: &TokenLayout,
    layer: (&[f32], &[f32]),
) -> (Buffer, Buffer) {
    let (d, rows) = (weights.width(), layout.kept_rows());
    let ((weight, bias), outputs) = (layer, layer.1.len());
    let [mut out, mut statistics] = [outputs, 2].map(|width| Buffer::new(rows * width));
    if rows == 0 {
        return (out, statistics);
    }
    let mut packed = Buffer::default();
    let weight = Packed::in_parallel(forward_operand(weight, d), &mut packed);
    let (out_parts, statistics_parts) = (Parts::of(&mut out), Parts::of(&mut statistics));
    map_blocks(rows, row_step(rows), |rows| {
        let mut normed = Scratch::take();
        let normed = normed.room(rows.len() * d);
        // SAFETY: blocks have disjoint rows.
        unsafe {
            let statistics = statistics_parts.written(2 * rows.start..2 * rows.end);
            normalise(x, weights, layout, rows.clone(), normed, statistics);
            let normed = Matrix::dense(normed, rows.len(), d);
            weight.multiply(normed, 0..outputs, rows_of(out_parts, &rows, outputs));
            let out = out_parts.written(rows.start * outputs..rows.end * outputs);
            for row in out.chunks_exact_mut(outputs) {
                add_to(row, bias);
            }
        }
    });
    (out, statistics)
}

/// Results of [`first_layer_gradient`] besides the gradient of the tokens.
struct FirstLayerGradient {
    /// The normalised rows, `[R′, D]`.
    normed: Buffer,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

/// The backward pass through [`first_layer`] and the residual: from the gradients of the layer's
/// outputs, `dh` `[R′, O]`, and of the branch, `dy` `[R, D]`, to that of the tokens in `dx`. `also`
/// adds to the gradient of normalised rows.
#[allow(clippy::too_many_arguments)]
fn first_layer_gradient(
    x: &[f32],
    weights: &BranchWeights,
    layout: &TokenLayout,
    statistics: &[f32],
    (weight, dh): (&[f32], Matrix),
    dy: &[f32],
    also: impl Fn(Range<usize>, &mut [f32]) + Sync,
    dx: Parts,
) -> FirstLayerGradient {
    let (d, rows) = (weights.width(), layout.kept_rows());
    let mut packed = Buffer::default();
    let weight = Packed::in_parallel(backward_operand(weight, d), &mut packed);
    let mut normed = Buffer::new(rows * d);
    let normed_parts = Parts::of(&mut normed);
    let shares = map_blocks(rows, row_step(rows), |rows| {
        let [mut dn, mut again] = [(); 2].map(|()| Scratch::take());
        let dn = dn.room(rows.len() * d);
        weight.product(dh.rows(rows.clone()), dn, d, 1.0, Store::Replace);
        also(rows.clone(), dn);
        let mut share = vec![0.0; 2 * d];
        let (dgamma, dbeta) = share.split_at_mut(d);
        let scales = [dgamma, dbeta];
        // SAFETY: blocks have disjoint rows.
        unsafe {
            let normed = normed_parts.written(rows.start * d..rows.end * d);
            let again = again.room(2 * rows.len());
            normalise(x, weights, layout, rows.clone(), normed, again);
            let dy = Some(dy);
            residual_gradient(x, weights, statistics, dn, dy, layout, rows, scales, dx);
        }
        share
    });
    let mut gamma = ordered_sum(2 * d, shares);
    let beta = gamma.split_off(d);
    FirstLayerGradient {
        normed,
        gamma,
        beta,
    }
}

/// The rows `rows` of a matrix `[·, width]` as a destination of a product.
fn rows_of<'a>(all: Parts<'a>, rows: &Range<usize>, width: usize) -> Destination<'a> {
    Destination::new(all, rows.start * width, [rows.len(), width], width)
}

multiversioned! {
    /// `y ← y + factor · (x + bias)`.
    fn add_scaled(y: &mut [f32], x: &[f32], bias: &[f32], factor: f32) {
        for ((y, x), bias) in y.iter_mut().zip(x).zip(bias) {
            *y += factor * (x + bias);
        }
    }
}

/// The backward pass through residual and normalisation, for the rows `rows` that take part:
/// `dx ← dy + norm'(dn)`, without `dy` if the branch is added to other tokens than `x`; the gradients
/// of scale and shift are added to `dgamma` and `dbeta`.
///
/// # Safety
/// Nothing else reaches these rows of `dx` in the meantime.
#[allow(clippy::too_many_arguments)]
unsafe fn residual_gradient(
    x: &[f32],
    weights: &BranchWeights,
    statistics: &[f32],
    dn: &[f32],
    dy: Option<&[f32]>,
    layout: &TokenLayout,
    rows: Range<usize>,
    [dgamma, dbeta]: [&mut [f32]; 2],
    dx: Parts,
) {
    let d = weights.width();
    for (row, dn) in rows.zip(dn.chunks_exact(d)) {
        let place = layout.place(row).0;
        let range = place * d..(place + 1) * d;
        // SAFETY: the row is this task's.
        let dx = unsafe { dx.zeroed(range.clone()) };
        let statistics = &statistics[2 * row..2 * row + 2];
        backward_rows(
            &x[range.clone()],
            weights.gamma,
            statistics,
            dn,
            dx,
            dgamma,
            dbeta,
        );
        if let Some(dy) = dy {
            add_to(dx, &dy[range]);
        }
    }
}
