//! The attention branch for the class tokens only, as the last block of a network needs it.
//!
//! Keys and values are computed of all tokens, everything else of the class tokens alone.

use std::ops::Range;

use rayon::prelude::*;

use crate::branch::{
    BranchGradients, BranchWeights, FirstLayerGradient, add_residual, first_layer,
    first_layer_gradient, normalise,
};
use crate::linear::{WeightGradient, bias_gradient, linear, weight_gradients};
use crate::parallel::{Output, Parts, by_rows};
use crate::product::Matrix;
use crate::rotation::{Turn, rotate};
use crate::scratch::{Buffer, Scratch};
use crate::simd::{add_to, dot, exp, fma, multiversioned};
use crate::token_layout::{TokenGroup, TokenLayout};

/// Values saved for the backward pass, of the images that take part, `B′`, and their rows, `R′`.
#[derive(Debug)]
pub struct ClassAttentionSaved {
    /// Mean and 1/σ, `[R′, 2]`.
    statistics: Buffer,
    /// Keys and values, `[R′, 2·D]`, keys turned where the layout has a rotation.
    kv: Buffer,
    /// Class tokens, normalised, `[B′, D]`.
    normed: Vec<f32>,
    /// Their queries, `[B′, D]`.
    queries: Vec<f32>,
    /// Their attention, for each image `[H, N]`.
    attention: Buffer,
    /// Attention's output, before the projection, `[B′, D]`.
    mixed: Vec<f32>,
}

multiversioned! {
    /// `scores ← softmax(scale · keys · query)` over the rows of `keys`, `stride` apart.
    fn attend(query: &[f32], keys: &[f32], stride: usize, scale: f32, scores: &mut [f32]) {
        for (score, key) in scores.iter_mut().zip(keys.chunks(stride)) {
            *score = scale * dot::<FMA>(query, &key[..query.len()]);
        }
        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for score in scores.iter_mut() {
            *score = exp::<FMA>(*score - max);
        }
        let inverse = 1.0 / scores.iter().sum::<f32>();
        for score in scores {
            *score *= inverse;
        }
    }

    /// `sum ← sum + Σ factors[r] · rows[r]` over the rows, `stride` apart.
    fn add_weighted(factors: &[f32], rows: &[f32], stride: usize, sum: &mut [f32]) {
        for (factor, row) in factors.iter().zip(rows.chunks(stride)) {
            for (sum, x) in sum.iter_mut().zip(row) {
                *sum = fma::<FMA>(*factor, *x, *sum);
            }
        }
    }

    /// The gradients of scores (`ds`, by the softmax from that of the probabilities `p`) and of
    /// the values (`dv`, rows `stride` apart), from that of what was mixed.
    fn mix_gradient(
        dy: &[f32], values: &[f32], stride: usize, p: &[f32], ds: &mut [f32], dv: &mut [f32],
    ) {
        let rows = values.chunks(stride).zip(dv.chunks_mut(stride));
        for ((p, ds), (value, dv)) in p.iter().zip(ds.iter_mut()).zip(rows) {
            *ds = dot::<FMA>(dy, &value[..dy.len()]);
            for (dv, dy) in dv.iter_mut().zip(dy) {
                *dv = p * dy;
            }
        }
        let mean: f32 = p.iter().zip(ds.iter()).map(|(p, d)| p * d).sum();
        for (p, ds) in p.iter().zip(ds) {
            *ds = p * (*ds - mean);
        }
    }

    /// `rows[r] ← factors[r] · scale · x` for each row, `stride` apart.
    fn outer(factors: &[f32], scale: f32, x: &[f32], rows: &mut [f32], stride: usize) {
        for (factor, row) in factors.iter().zip(rows.chunks_mut(stride)) {
            let factor = factor * scale;
            for (row, x) in row.iter_mut().zip(x) {
                *row = factor * x;
            }
        }
    }
}

/// The rows of an image that takes part, and where its attention starts.
struct Image {
    rows: Range<usize>,
    attention: usize,
}

fn images(layout: &TokenLayout, heads: usize) -> Vec<Image> {
    layout
        .kept_groups()
        .flat_map(|(TokenGroup { images, tokens }, row)| {
            (0..images).map(move |i| row + i * tokens..row + (i + 1) * tokens)
        })
        .map(|rows| Image {
            attention: rows.start * heads,
            rows,
        })
        .collect()
}

/// The first and the other two thirds of the joint weights or biases: of queries, and of keys
/// and values.
fn split(joint: &[f32]) -> (&[f32], &[f32]) {
    joint.split_at(joint.len() / 3)
}

/// The class tokens of `attention_branch`'s result: `x` `[R, D]` → `[B, D]`.
pub fn class_attention_branch(
    x: &[f32],
    weights: &BranchWeights,
    heads: usize,
    layout: &TokenLayout,
) -> (Vec<f32>, ClassAttentionSaved) {
    let d = weights.width();
    weights.check(3 * d, d);
    assert!(heads > 0 && d.is_multiple_of(heads));
    assert_eq!(x.len(), layout.all_rows() * d);
    let (rows, count) = (layout.kept_rows(), layout.kept_images());
    let class_rows = layout.class_rows();
    let class_tokens: Vec<f32> = class_rows
        .iter()
        .flat_map(|row| &x[row * d..(row + 1) * d])
        .copied()
        .collect();
    let (query_weight, kv_weight) = split(weights.first);
    let (query_bias, kv_bias) = split(weights.first_bias);
    let (mut kv, statistics) = first_layer(x, weights, layout, (kv_weight, kv_bias));
    // Class tokens have no place, so that their queries are not turned.
    rotate(&mut kv, 2 * d, d, layout, Turn::Forward);
    let mut saved = ClassAttentionSaved {
        statistics,
        kv,
        normed: Vec::new(),
        queries: Vec::new(),
        attention: Buffer::new(rows * heads),
        mixed: Vec::new(),
    };
    if rows == 0 {
        return (class_tokens, saved);
    }
    let images = images(layout, heads);
    saved.normed = vec![0.0; count * d];
    let mut statistics = [0.0; 2];
    for (normed, image) in saved.normed.chunks_exact_mut(d).zip(&images) {
        let row = image.rows.start;
        normalise(x, weights, layout, row..row + 1, normed, &mut statistics);
    }
    saved.queries = linear(&saved.normed, query_weight, Some(query_bias), d);
    let (queries, kv) = (&saved.queries, &saved.kv);
    let attention = Parts::of(&mut saved.attention);
    let width = d / heads;
    let ([mixed], _) = by_rows(count, 1, [d], |range, [mixed]| {
        let Image {
            rows,
            attention: at,
        } = &images[range.start];
        let tokens = rows.len();
        for head in 0..heads {
            let own = head * width..(head + 1) * width;
            let query = &queries[range.start * d..][own.clone()];
            let keys = &kv[rows.start * 2 * d + own.start..rows.end * 2 * d];
            let first = at + head * tokens;
            // SAFETY: each image has its part of the attention.
            let scores = unsafe { attention.written(first..first + tokens) };
            attend(query, keys, 2 * d, 1.0 / (width as f32).sqrt(), scores);
            add_weighted(scores, &keys[d..], 2 * d, &mut mixed[own]);
        }
    });
    saved.mixed = mixed;
    let branch = linear(&saved.mixed, weights.second, None, d);
    let mut out = class_tokens.clone();
    let tokens = layout.class_tokens();
    // SAFETY: one task has all rows.
    unsafe {
        let out = Parts::of(&mut out);
        add_residual(
            &class_tokens,
            &branch,
            weights.second_bias,
            &tokens,
            0..count,
            out,
        );
    }
    (out, saved)
}

/// The gradients of [`class_attention_branch`] from that of its result, `dy` `[B, D]`.
pub fn class_attention_branch_backward(
    x: &[f32],
    weights: &BranchWeights,
    heads: usize,
    layout: &TokenLayout,
    saved: &ClassAttentionSaved,
    dy: &[f32],
) -> BranchGradients {
    let d = weights.width();
    assert!(x.len() == layout.all_rows() * d && dy.len() == layout.all_images() * d);
    let (rows, count) = (layout.kept_rows(), layout.kept_images());
    let class_rows = layout.class_rows();
    if rows == 0 {
        let mut dx = vec![0.0; x.len()];
        for (row, dy) in class_rows.iter().zip(dy.chunks_exact(d)) {
            dx[row * d..(row + 1) * d].copy_from_slice(dy);
        }
        return BranchGradients::none(dx, weights);
    }
    let tokens = layout.class_tokens();
    let mut gathered = Buffer::default();
    let branch_dy = &tokens.gather(dy, d, &mut gathered)[..count * d];
    let mixed_grad = crate::linear::input_gradient(branch_dy, weights.second, d);

    let images = images(layout, heads);
    let (query_weight, kv_weight) = split(weights.first);
    let width = d / heads;
    let scale = 1.0 / (width as f32).sqrt();
    let mut kv_grad = Buffer::new(rows * 2 * d);
    let kv_parts = Parts::of(&mut kv_grad);
    let ([query_grad], _) = by_rows(count, 1, [d], |range, [query_grad]| {
        let Image {
            rows,
            attention: at,
        } = &images[range.start];
        let tokens = rows.len();
        let mut ds = Scratch::take();
        let ds = ds.room(tokens);
        let kv = &saved.kv[rows.start * 2 * d..rows.end * 2 * d];
        // SAFETY: each image has its own rows, all of which are written below.
        let kv_grad = unsafe { kv_parts.written(rows.start * 2 * d..rows.end * 2 * d) };
        for head in 0..heads {
            let own = head * width..(head + 1) * width;
            let query = &saved.queries[range.start * d..][own.clone()];
            let dy = &mixed_grad[range.start * d..][own.clone()];
            let p = &saved.attention[at + head * tokens..][..tokens];
            let of_values = d + own.start;
            mix_gradient(
                dy,
                &kv[of_values..],
                2 * d,
                p,
                ds,
                &mut kv_grad[of_values..],
            );
            outer(ds, scale, query, &mut kv_grad[own.start..], 2 * d);
            for ds in ds.iter_mut() {
                *ds *= scale;
            }
            add_weighted(ds, &kv[own.start..], 2 * d, &mut query_grad[own]);
        }
    });
    // Through the queries of class tokens; added to the gradient through keys and values.
    let class_grad = crate::linear::input_gradient(&query_grad, query_weight, d);

    let mut out = Output::new(x.len());
    // Of the residual, whose gradient only class tokens have.
    let mut residual = Buffer::new(x.len());
    residual
        .par_chunks_mut(1 << 16)
        .for_each(|part| part.fill(0.0));
    for (row, dy) in class_rows.iter().zip(dy.chunks_exact(d)) {
        residual[row * d..(row + 1) * d].copy_from_slice(dy);
    }
    layout.pass_through(&residual, d, &mut out);
    let out_parts = out.parts();
    rotate(&mut kv_grad, 2 * d, d, layout, Turn::Back);
    let kv_matrix = Matrix::dense(&kv_grad, rows, 2 * d);
    let by_queries = |rows: Range<usize>, dn: &mut [f32]| {
        let start = images.partition_point(|image| image.rows.start < rows.start);
        for (image, grad) in images.iter().zip(class_grad.chunks_exact(d)).skip(start) {
            if image.rows.start >= rows.end {
                break;
            }
            add_to(&mut dn[(image.rows.start - rows.start) * d..][..d], grad);
        }
    };
    let FirstLayerGradient {
        normed,
        gamma,
        beta,
    } = first_layer_gradient(
        x,
        weights,
        layout,
        &saved.statistics,
        (kv_weight, kv_matrix),
        &residual,
        by_queries,
        out_parts,
    );
    let [mut first, kv_first, second] = weight_gradients([
        WeightGradient {
            dy: Matrix::dense(&query_grad, count, d),
            x: Matrix::dense(&saved.normed, count, d),
            sizes: [count, d, d],
        },
        WeightGradient {
            dy: kv_matrix,
            x: Matrix::dense(&normed, rows, d),
            sizes: [rows, 2 * d, d],
        },
        WeightGradient {
            dy: Matrix::dense(branch_dy, count, d),
            x: Matrix::dense(&saved.mixed, count, d),
            sizes: [count, d, d],
        },
    ]);
    first.extend(kv_first);
    let mut first_bias = bias_gradient(&query_grad, d);
    first_bias.extend(bias_gradient(&kv_grad, 2 * d));
    BranchGradients {
        // SAFETY: every row has been written by its block, or passed through.
        x: unsafe { out.finish() },
        gamma,
        beta,
        first,
        first_bias,
        second,
        second_bias: bias_gradient(branch_dy, d),
    }
}
