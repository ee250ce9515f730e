//! The MLP branch.

use crate::branch::{
    BranchGradients, BranchWeights, add_residual, normalise, residual_gradient, rows_of,
};
use crate::gelu::{gelu_gradient_in_place, gelu_into};
use crate::linear::{
    WeightGradient, backward_operand, forward_operand, row_step, weight_gradients,
};
use crate::parallel::{Output, Parts, map_blocks, ordered_sum};
use crate::product::{Matrix, Packed, Store};
use crate::scratch::{Buffer, Scratch};
use crate::simd::{add_columns, add_to};
use crate::swiglu::{swiglu_gradient, swiglu_into};
use crate::token_layout::TokenLayout;

/// What is between the two linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlpActivation {
    /// The exact GELU of all `H` outputs of the first layer.
    Gelu,
    /// SwiGLU (Shazeer, arXiv 2002.05202): `silu(a) · b` of the first and the second half of the
    /// outputs, so that the second layer has `H/2` inputs.
    SwiGlu,
}

impl MlpActivation {
    /// Inputs of the second layer for `hidden` outputs of the first.
    fn inner(self, hidden: usize) -> usize {
        match self {
            Self::Gelu => hidden,
            Self::SwiGlu => {
                assert!(hidden.is_multiple_of(2));
                hidden / 2
            }
        }
    }
}

/// Values saved for the backward pass, of the rows that take part, `R′`.
#[derive(Debug)]
pub struct MlpSaved {
    /// Mean and 1/σ, `[R′, 2]`.
    statistics: Buffer,
    /// The hidden layer before the activation, `[R′, H]`.
    hidden: Buffer,
}

/// `x + factor · second(activation(first(norm(x))))`: `x` `[R, D]` → `[R, D]`.
pub fn mlp_branch(
    x: &[f32],
    weights: &BranchWeights,
    activation: MlpActivation,
    layout: &TokenLayout,
) -> (Vec<f32>, MlpSaved) {
    mlp_branch_onto(x, x, weights, activation, layout)
}

/// [`mlp_branch`] whose result is added to other tokens than it is computed from:
/// `base + factor · second(activation(first(norm(x))))`, `x` and `base` `[R, D]` → `[R, D]`. The gradient of
/// `base` is that of the result.
pub fn mlp_branch_onto(
    x: &[f32],
    base: &[f32],
    weights: &BranchWeights,
    activation: MlpActivation,
    layout: &TokenLayout,
) -> (Vec<f32>, MlpSaved) {
    let (d, h) = (weights.width(), weights.first_bias.len());
    let inner = activation.inner(h);
    weights.check(h, inner);
    assert!(x.len() == layout.all_rows() * d && base.len() == x.len());
    let rows = layout.kept_rows();
    let mut saved = MlpSaved {
        statistics: Buffer::new(2 * rows),
        hidden: Buffer::new(rows * h),
    };
    let mut out = Output::new(x.len());
    layout.pass_through(base, d, &mut out);
    let out_parts = out.parts();
    if rows > 0 {
        let [mut first, mut second] = [(); 2].map(|()| Buffer::default());
        let first = Packed::in_parallel(forward_operand(weights.first, d), &mut first);
        let second = Packed::in_parallel(forward_operand(weights.second, inner), &mut second);
        let hidden = Parts::of(&mut saved.hidden);
        let statistics = Parts::of(&mut saved.statistics);
        map_blocks(rows, row_step(rows), |rows| {
            let [mut normed, mut active] = [(); 2].map(|()| Scratch::take());
            let normed = normed.room(rows.len() * d);
            let active = active.room(rows.len() * inner);
            // SAFETY: blocks have disjoint rows.
            let hidden = unsafe {
                let statistics = statistics.written(2 * rows.start..2 * rows.end);
                normalise(x, weights, layout, rows.clone(), normed, statistics);
                let normed = Matrix::dense(normed, rows.len(), d);
                first.multiply(normed, 0..h, rows_of(hidden, &rows, h));
                hidden.written(rows.start * h..rows.end * h)
            };
            let lines = hidden.chunks_exact_mut(h);
            for (hidden, active) in lines.zip(active.chunks_exact_mut(inner)) {
                add_to(hidden, weights.first_bias);
                match activation {
                    MlpActivation::Gelu => gelu_into(hidden, active),
                    MlpActivation::SwiGlu => swiglu_into(hidden, active),
                }
            }
            // The normalised rows are no longer needed.
            let branch = normed;
            let active = Matrix::dense(active, rows.len(), inner);
            second.product(active, branch, d, 1.0, Store::Replace);
            // SAFETY: as above.
            unsafe { add_residual(base, branch, weights.second_bias, layout, rows, out_parts) };
        });
    }
    // SAFETY: images that take part have been written by their blocks, the others passed through.
    (unsafe { out.finish() }, saved)
}

/// The gradients of [`mlp_branch`] from that of its result, `dy` `[R, D]`.
pub fn mlp_branch_backward(
    x: &[f32],
    weights: &BranchWeights,
    activation: MlpActivation,
    layout: &TokenLayout,
    saved: &MlpSaved,
    dy: &[f32],
) -> BranchGradients {
    backward(x, weights, activation, layout, saved, dy, true)
}

/// The gradients of [`mlp_branch_onto`] but that of `base`, from that of its result, `dy` `[R, D]`.
pub fn mlp_branch_onto_backward(
    x: &[f32],
    weights: &BranchWeights,
    activation: MlpActivation,
    layout: &TokenLayout,
    saved: &MlpSaved,
    dy: &[f32],
) -> BranchGradients {
    backward(x, weights, activation, layout, saved, dy, false)
}

/// The gradients; that of `x` with `dy` itself if `x` is also what the branch is added to.
fn backward(
    x: &[f32],
    weights: &BranchWeights,
    activation: MlpActivation,
    layout: &TokenLayout,
    saved: &MlpSaved,
    dy: &[f32],
    onto_itself: bool,
) -> BranchGradients {
    let (d, h) = (weights.width(), weights.first_bias.len());
    let inner = activation.inner(h);
    assert!(x.len() == layout.all_rows() * d && dy.len() == x.len());
    let rows = layout.kept_rows();
    let mut out = Output::new(x.len());
    match onto_itself {
        true => layout.pass_through(dy, d, &mut out),
        false => layout.pass_nothing(d, &mut out),
    }
    if rows == 0 {
        // SAFETY: all has been passed through.
        return BranchGradients::none(unsafe { out.finish() }, weights);
    }
    let out_parts = out.parts();
    let mut gathered = Buffer::default();
    let branch_dy = &layout.gather(dy, d, &mut gathered)[..rows * d];
    let dy_matrix = Matrix::dense(branch_dy, rows, d);

    let [mut first, mut second] = [(); 2].map(|()| Buffer::default());
    let first = Packed::in_parallel(backward_operand(weights.first, d), &mut first);
    let second = Packed::in_parallel(backward_operand(weights.second, inner), &mut second);
    // Kept of all rows for the gradients of the weights.
    let [mut hidden_grad, mut active] = [h, inner].map(|width| Buffer::new(rows * width));
    let mut normed = Buffer::new(rows * d);
    let [hidden_parts, active_parts, normed_parts] =
        [&mut hidden_grad, &mut active, &mut normed].map(|buffer| Parts::of(buffer));
    let shares = map_blocks(rows, row_step(rows), |rows| {
        let mut share = vec![0.0; 3 * d + h];
        let (dgamma, rest) = share.split_at_mut(d);
        let (dbeta, rest) = rest.split_at_mut(d);
        let (dsecond, dfirst) = rest.split_at_mut(d);
        let some = rows.start * h..rows.end * h;
        let dy_rows = dy_matrix.rows(rows.clone());
        // SAFETY: blocks have disjoint rows. Those of the hidden gradient are written here before they
        // are read.
        let (dh, normed) = unsafe {
            let active = active_parts.written(rows.start * inner..rows.end * inner);
            let hidden = &saved.hidden[some.clone()];
            match activation {
                MlpActivation::Gelu => {
                    second.multiply(dy_rows, 0..h, rows_of(hidden_parts, &rows, h));
                    gelu_gradient_in_place(hidden, hidden_parts.written(some.clone()), active);
                }
                MlpActivation::SwiGlu => {
                    let mut da = Scratch::take();
                    let da = da.room(rows.len() * inner);
                    second.product(dy_rows, da, inner, 1.0, Store::Replace);
                    let dh = hidden_parts.zeroed(some.clone());
                    let lines = hidden.chunks_exact(h).zip(dh.chunks_exact_mut(h));
                    let inner_lines = da.chunks_exact(inner).zip(active.chunks_exact_mut(inner));
                    for ((hidden, dh), (da, active)) in lines.zip(inner_lines) {
                        swiglu_gradient(hidden, da, dh, active);
                    }
                }
            }
            (
                hidden_parts.written(some),
                normed_parts.written(rows.start * d..rows.end * d),
            )
        };
        add_columns(dfirst, dh);
        add_columns(dsecond, &branch_dy[rows.start * d..rows.end * d]);
        let [mut dn, mut again] = [(); 2].map(|()| Scratch::take());
        let dn = dn.room(rows.len() * d);
        let dh = Matrix::dense(dh, rows.len(), h);
        first.product(dh, dn, d, 1.0, Store::Replace);
        let statistics = again.room(2 * rows.len());
        normalise(x, weights, layout, rows.clone(), normed, statistics);
        // SAFETY: as above.
        unsafe {
            residual_gradient(
                x,
                weights,
                &saved.statistics,
                dn,
                onto_itself.then_some(dy),
                layout,
                rows,
                [dgamma, dbeta],
                out_parts,
            );
        }
        share
    });
    let mut gamma = ordered_sum(3 * d + h, shares);
    let mut beta = gamma.split_off(d);
    let mut second_bias = beta.split_off(d);
    let first_bias = second_bias.split_off(d);
    let [first, second] = weight_gradients([
        WeightGradient {
            dy: Matrix::dense(&hidden_grad, rows, h),
            x: Matrix::dense(&normed, rows, d),
            sizes: [rows, h, d],
        },
        WeightGradient {
            dy: dy_matrix,
            x: Matrix::dense(&active, rows, inner),
            sizes: [rows, d, inner],
        },
    ]);
    BranchGradients {
        // SAFETY: every row has been written by its block, or passed through.
        x: unsafe { out.finish() },
        gamma,
        beta,
        first,
        first_bias,
        second,
        second_bias,
    }
}
