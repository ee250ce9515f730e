//! The attention branch over all tokens.

use crate::attention::{AttentionShape, attention_backward_into, attention_into};
use crate::branch::{
    BranchGradients, BranchWeights, FirstLayerGradient, add_residual, first_layer,
    first_layer_gradient, rows_of,
};
use crate::linear::{
    WeightGradient, backward_operand, bias_gradient, forward_operand, row_step, weight_gradients,
};
use crate::parallel::{Output, Parts, map_blocks};
use crate::product::{Matrix, Packed, Store};
use crate::rotation::{Turn, rotate};
use crate::scratch::{Buffer, Scratch};
use crate::token_layout::{TokenGroup, TokenLayout};

/// Values saved for the backward pass, of the rows that take part, `R′`.
#[derive(Debug)]
pub struct AttentionSaved {
    /// Mean and 1/σ, `[R′, 2]`.
    statistics: Buffer,
    /// Queries, keys and values, `[R′, 3·D]`, turned where the layout has a rotation.
    qkv: Buffer,
    /// Attention's output, before the projection, `[R′, D]`.
    mixed: Buffer,
    /// Log-sum-exp of the scores, group after group `[B, H, N]`.
    lse: Buffer,
}

fn shape(group: TokenGroup, width: usize, heads: usize) -> AttentionShape {
    AttentionShape {
        images: group.images,
        tokens: group.tokens,
        width,
        heads,
    }
}

/// `x + factor · projection(attention(norm(x)))`: `x` `[R, D]` → `[R, D]`.
pub fn attention_branch(
    x: &[f32],
    weights: &BranchWeights,
    heads: usize,
    layout: &TokenLayout,
) -> (Vec<f32>, AttentionSaved) {
    let d = weights.width();
    weights.check(3 * d, d);
    assert_eq!(x.len(), layout.all_rows() * d);
    let rows = layout.kept_rows();
    let (mut qkv, statistics) =
        first_layer(x, weights, layout, (weights.first, weights.first_bias));
    rotate(&mut qkv, 3 * d, 2 * d, layout, Turn::Forward);
    let mut saved = AttentionSaved {
        statistics,
        qkv,
        mixed: Buffer::new(rows * d),
        lse: Buffer::new(rows * heads),
    };
    let mut out = Output::new(x.len());
    layout.pass_through(x, d, &mut out);
    let out_parts = out.parts();
    let step = row_step(rows);
    if rows > 0 {
        for (group, row) in layout.kept_groups().filter(|(group, _)| group.images > 0) {
            let end = row + group.images * group.tokens;
            let mixed = Parts::of(&mut saved.mixed[row * d..end * d]);
            let lse = Parts::of(&mut saved.lse[row * heads..end * heads]);
            let qkv = &saved.qkv[row * 3 * d..end * 3 * d];
            // SAFETY: of the group's size, and borrowed here alone.
            unsafe { attention_into(qkv, shape(group, d, heads), mixed, lse) };
        }
        let mut packed = Buffer::default();
        let second = Packed::in_parallel(forward_operand(weights.second, d), &mut packed);
        let mixed = Matrix::dense(&saved.mixed, rows, d);
        map_blocks(rows, step, |rows| {
            let mut branch = Scratch::take();
            let branch = branch.room(rows.len() * d);
            second.product(mixed.rows(rows.clone()), branch, d, 1.0, Store::Replace);
            // SAFETY: blocks have disjoint rows.
            unsafe { add_residual(x, branch, weights.second_bias, layout, rows, out_parts) };
        });
    }
    // SAFETY: images that take part have been written by their blocks, the others passed through.
    (unsafe { out.finish() }, saved)
}

/// The gradients of [`attention_branch`] from that of its result, `dy` `[R, D]`.
pub fn attention_branch_backward(
    x: &[f32],
    weights: &BranchWeights,
    heads: usize,
    layout: &TokenLayout,
    saved: &AttentionSaved,
    dy: &[f32],
) -> BranchGradients {
    let d = weights.width();
    assert!(x.len() == layout.all_rows() * d && dy.len() == x.len());
    let rows = layout.kept_rows();
    let mut out = Output::new(x.len());
    layout.pass_through(dy, d, &mut out);
    if rows == 0 {
        // SAFETY: all has been passed through.
        return BranchGradients::none(unsafe { out.finish() }, weights);
    }
    let out_parts = out.parts();
    let step = row_step(rows);
    let mut gathered = Buffer::default();
    let branch_dy = &layout.gather(dy, d, &mut gathered)[..rows * d];

    let mut mixed_grad = Buffer::new(rows * d);
    let mut packed = Buffer::default();
    let second = Packed::in_parallel(backward_operand(weights.second, d), &mut packed);
    let parts = Parts::of(&mut mixed_grad);
    let dy_matrix = Matrix::dense(branch_dy, rows, d);
    map_blocks(rows, step, |rows| {
        let into = rows_of(parts, &rows, d);
        // SAFETY: blocks have disjoint rows.
        unsafe { second.multiply(dy_matrix.rows(rows), 0..d, into) };
    });

    let mut qkv_grad = Buffer::new(rows * 3 * d);
    for (group, row) in layout.kept_groups().filter(|(group, _)| group.images > 0) {
        let end = row + group.images * group.tokens;
        let grad = Parts::of(&mut qkv_grad[row * 3 * d..end * 3 * d]);
        let qkv = &saved.qkv[row * 3 * d..end * 3 * d];
        let lse = &saved.lse[row * heads..end * heads];
        let dy = &mixed_grad[row * d..end * d];
        // SAFETY: of the group's size, and borrowed here alone.
        unsafe { attention_backward_into(qkv, lse, dy, shape(group, d, heads), grad) };
    }

    rotate(&mut qkv_grad, 3 * d, 2 * d, layout, Turn::Back);
    let qkv_matrix = Matrix::dense(&qkv_grad, rows, 3 * d);
    let FirstLayerGradient {
        normed,
        gamma,
        beta,
    } = first_layer_gradient(
        x,
        weights,
        layout,
        &saved.statistics,
        (weights.first, qkv_matrix),
        dy,
        |_, _| (),
        out_parts,
    );
    let [first, second] = weight_gradients([
        WeightGradient {
            dy: qkv_matrix,
            x: Matrix::dense(&normed, rows, d),
            sizes: [rows, 3 * d, d],
        },
        WeightGradient {
            dy: dy_matrix,
            x: Matrix::dense(&saved.mixed, rows, d),
            sizes: [rows, d, d],
        },
    ]);
    BranchGradients {
        // SAFETY: every row has been written by its block, or passed through.
        x: unsafe { out.finish() },
        gamma,
        beta,
        first,
        first_bias: bias_gradient(&qkv_grad, 3 * d),
        second,
        second_bias: bias_gradient(branch_dy, d),
    }
}
