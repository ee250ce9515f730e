//! The attention branch over all tokens.

use crate::attention::{AttentionShape, attention_backward_into, attention_into};
use crate::branch::{
    BranchGradients, BranchWeights, add_residual, groups, normalise, residual_gradient,
};
use crate::linear::{
    WeightGradient, backward_operand, bias_gradient, forward_operand, row_step, weight_gradients,
};
use crate::parallel::{Output, Parts, ordered_sum};
use crate::product::{Destination, Matrix, Packed, Store};
use crate::samples::{Run, Samples};
use crate::scratch::{Buffer, Scratch};
use crate::simd::add_to;

/// What the way back needs besides tokens and weights, of the rows that take part, `R′`.
#[derive(Debug)]
pub struct AttentionSaved {
    /// Mean and 1/deviation, `[R′, 2]`.
    statistics: Buffer,
    /// Queries, keys and values, `[R′, 3·D]`.
    qkv: Buffer,
    /// What attention mixed, `[R′, D]`.
    mixed: Buffer,
    /// Log-sum-exp of the scores, run after run `[B, H, N]`.
    lse: Buffer,
}

fn shape(run: Run, width: usize, heads: usize) -> AttentionShape {
    AttentionShape {
        images: run.images,
        tokens: run.tokens,
        width,
        heads,
    }
}

/// `rows` of a matrix `[·, width]` as a place for a product.
pub(super) fn rows_of(all: Parts, rows: &std::ops::Range<usize>, width: usize) -> Destination {
    Destination {
        start: all.at(rows.start * width, rows.len() * width),
        stride: width,
        store: Store::Replace,
        scale: 1.0,
    }
}

/// `x + factor · projection(attention(norm(x)))`: `x` `[R, D]` → `[R, D]`.
pub fn attention_branch(
    x: &[f32],
    weights: &BranchWeights,
    heads: usize,
    samples: &Samples,
) -> (Vec<f32>, AttentionSaved) {
    let d = weights.width();
    weights.check(3 * d, d);
    assert_eq!(x.len(), samples.all_rows() * d);
    let rows = samples.kept_rows();
    let mut saved = AttentionSaved {
        statistics: Buffer::new(2 * rows),
        qkv: Buffer::new(rows * 3 * d),
        mixed: Buffer::new(rows * d),
        lse: Buffer::new(rows * heads),
    };
    let mut out = Output::new(x.len());
    samples.pass_through(x, d, &mut out);
    let out_parts = out.parts();
    let step = row_step(rows);
    if rows > 0 {
        let mut packed = Buffer::default();
        let first = Packed::in_parallel(forward_operand(weights.first, d), &mut packed);
        let (qkv, statistics) = (Parts::of(&mut saved.qkv), Parts::of(&mut saved.statistics));
        groups(rows, step, |rows| {
            let mut normed = Scratch::take();
            let normed = normed.room(rows.len() * d);
            // SAFETY: groups have disjoint rows.
            unsafe {
                let statistics = statistics.written(2 * rows.start..2 * rows.end);
                normalise(x, weights, samples, rows.clone(), normed, statistics);
                let normed = Matrix::dense(normed, rows.len(), d);
                first.multiply(normed, 0..3 * d, rows_of(qkv, &rows, 3 * d));
                let qkv = qkv.written(rows.start * 3 * d..rows.end * 3 * d);
                for row in qkv.chunks_exact_mut(3 * d) {
                    add_to(row, weights.first_bias);
                }
            }
        });
        for (run, row) in samples.kept_runs().filter(|(run, _)| run.images > 0) {
            let end = row + run.images * run.tokens;
            let mixed = Parts::of(&mut saved.mixed[row * d..end * d]);
            let lse = Parts::of(&mut saved.lse[row * heads..end * heads]);
            let qkv = &saved.qkv[row * 3 * d..end * 3 * d];
            // SAFETY: of the run's size, and borrowed here alone.
            unsafe { attention_into(qkv, shape(run, d, heads), mixed, lse) };
        }
        let mut packed = Buffer::default();
        let second = Packed::in_parallel(forward_operand(weights.second, d), &mut packed);
        let mixed = Matrix::dense(&saved.mixed, rows, d);
        groups(rows, step, |rows| {
            let mut branch = Scratch::take();
            let branch = branch.room(rows.len() * d);
            second.product(mixed.rows(rows.clone()), branch, d, 1.0, Store::Replace);
            // SAFETY: groups have disjoint rows.
            unsafe { add_residual(x, branch, weights.second_bias, samples, rows, out_parts) };
        });
    }
    // SAFETY: images that take part have been written by their groups, the others passed through.
    (unsafe { out.finish() }, saved)
}

/// The gradients of [`attention_branch`] from that of its result, `dy` `[R, D]`.
pub fn attention_branch_backward(
    x: &[f32],
    weights: &BranchWeights,
    heads: usize,
    samples: &Samples,
    saved: &AttentionSaved,
    dy: &[f32],
) -> BranchGradients {
    let d = weights.width();
    assert!(x.len() == samples.all_rows() * d && dy.len() == x.len());
    let rows = samples.kept_rows();
    let mut out = Output::new(x.len());
    samples.pass_through(dy, d, &mut out);
    if rows == 0 {
        // SAFETY: all has been passed through.
        return BranchGradients::none(unsafe { out.finish() }, weights);
    }
    let out_parts = out.parts();
    let step = row_step(rows);
    let mut gathered = Buffer::default();
    let branch_dy = &samples.gather(dy, d, &mut gathered)[..rows * d];

    let mut mixed_grad = Buffer::new(rows * d);
    let mut packed = Buffer::default();
    let second = Packed::in_parallel(backward_operand(weights.second, d), &mut packed);
    let parts = Parts::of(&mut mixed_grad);
    let dy_matrix = Matrix::dense(branch_dy, rows, d);
    groups(rows, step, |rows| {
        let into = rows_of(parts, &rows, d);
        // SAFETY: groups have disjoint rows.
        unsafe { second.multiply(dy_matrix.rows(rows), 0..d, into) };
    });

    let mut qkv_grad = Buffer::new(rows * 3 * d);
    for (run, row) in samples.kept_runs().filter(|(run, _)| run.images > 0) {
        let end = row + run.images * run.tokens;
        let grad = Parts::of(&mut qkv_grad[row * 3 * d..end * 3 * d]);
        let qkv = &saved.qkv[row * 3 * d..end * 3 * d];
        let lse = &saved.lse[row * heads..end * heads];
        let dy = &mixed_grad[row * d..end * d];
        // SAFETY: of the run's size, and borrowed here alone.
        unsafe { attention_backward_into(qkv, lse, dy, shape(run, d, heads), grad) };
    }

    let mut packed = Buffer::default();
    let first = Packed::in_parallel(backward_operand(weights.first, d), &mut packed);
    let mut normed = Buffer::new(rows * d);
    let normed_parts = Parts::of(&mut normed);
    let qkv_matrix = Matrix::dense(&qkv_grad, rows, 3 * d);
    let shares = groups(rows, step, |rows| {
        let mut dn = Scratch::take();
        let dn = dn.room(rows.len() * d);
        first.product(qkv_matrix.rows(rows.clone()), dn, d, 1.0, Store::Replace);
        let mut share = vec![0.0; 2 * d];
        let (dgamma, dbeta) = share.split_at_mut(d);
        // SAFETY: groups have disjoint rows.
        unsafe {
            let range = rows.start * d..rows.end * d;
            let mut again = Scratch::take();
            let statistics = again.room(2 * rows.len());
            normalise(
                x,
                weights,
                samples,
                rows.clone(),
                normed_parts.written(range),
                statistics,
            );
            residual_gradient(
                x,
                weights,
                &saved.statistics,
                dn,
                dy,
                samples,
                rows,
                [dgamma, dbeta],
                out_parts,
            );
        }
        share
    });
    let mut gamma = ordered_sum(2 * d, shares);
    let beta = gamma.split_off(d);
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
        // SAFETY: every row has been written by its group, or passed through.
        x: unsafe { out.finish() },
        gamma,
        beta,
        first,
        first_bias: bias_gradient(&qkv_grad, 3 * d),
        second,
        second_bias: bias_gradient(branch_dy, d),
    }
}
