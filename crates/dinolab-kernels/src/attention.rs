//! Multi-head self-attention from the joint query-key-value buffer.

use rayon::prelude::*;

use crate::matrix::{Matrix, Store, product, product_raw};
use crate::parallel::{Output, Parts};
use crate::simd::{exp, fma, multiversioned, sum_lanes};

/// Queries that are scored together: their scores stay in cache, and scratch stays small.
const QUERIES: usize = 128;
/// Lanes of a row of scores, which is padded to a multiple of them.
const LANES: usize = 8;
/// From this many images on, one task per image is enough to keep threads busy.
const MANY_IMAGES: usize = 32;

/// Sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Images, `B`.
    pub images: usize,
    /// Tokens per image, `N`.
    pub tokens: usize,
    /// Width of a token, `D`.
    pub width: usize,
    /// Heads, `H`; divides the width.
    pub heads: usize,
}

impl AttentionShape {
    fn check(&self) {
        assert!(self.heads > 0 && self.width.is_multiple_of(self.heads) && self.width > 0);
        assert!(self.tokens > 0);
    }

    fn head_width(&self) -> usize {
        self.width / self.heads
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_width() as f32).sqrt()
    }

    /// Distance of rows of scores.
    fn stride(&self) -> usize {
        self.tokens.next_multiple_of(LANES)
    }

    /// Query (0), key (1) or value (2) `[N, D/H]` of one head in an image's `[N, 3·D]`.
    fn part<'a>(&self, qkv: &'a [f32], head: usize, part: usize) -> Matrix<'a> {
        let offset = part * self.width + head * self.head_width();
        Matrix::new(
            &qkv[offset..],
            self.tokens,
            self.head_width(),
            3 * self.width,
        )
    }

    /// Blocks of queries: the first and the number.
    fn blocks(self) -> impl Iterator<Item = (usize, usize)> {
        let tokens = self.tokens;
        (0..tokens)
            .step_by(QUERIES)
            .map(move |start| (start, QUERIES.min(tokens - start)))
    }

    /// Runs `task` for every image and head with `scratch` zeros, which it may leave dirty.
    fn for_each(&self, scratch: usize, task: impl Fn(usize, usize, &mut [f32]) + Sync) {
        let heads = self.heads;
        // Heads are independent, so how they are grouped into tasks does not show in results.
        let group = if self.images >= MANY_IMAGES { heads } else { 1 };
        (0..self.images * heads / group)
            .into_par_iter()
            .with_max_len(1)
            .for_each_init(
                || vec![0.0; scratch],
                |scratch, i| {
                    for unit in i * group..(i + 1) * group {
                        task(unit / heads, unit % heads, scratch);
                    }
                },
            );
    }
}

multiversioned! {
    /// Rows of scores, `stride` apart, to `e^(score − max)`; the sums' inverses and the
    /// logarithms of the sums (with the maximum back) beside them.
    fn softmax_rows(
        scores: &mut [f32], tokens: usize, stride: usize, inverse: &mut [f32], lse: &mut [f32],
    ) {
        for ((row, inverse), lse) in scores.chunks_exact_mut(stride).zip(inverse).zip(lse) {
            row[tokens..].fill(f32::NEG_INFINITY);
            let (blocks, _) = row.as_chunks::<LANES>();
            let mut lanes = [f32::NEG_INFINITY; LANES];
            for block in blocks {
                for i in 0..LANES {
                    lanes[i] = if block[i] > lanes[i] { block[i] } else { lanes[i] };
                }
            }
            let max = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
            // By itself, since a sum in the same loop keeps the exponential from vectors.
            for x in row.iter_mut() {
                *x = exp::<FMA>(*x - max);
            }
            let (blocks, _) = row.as_chunks::<LANES>();
            let mut lanes = [0.0; LANES];
            for block in blocks {
                for i in 0..LANES {
                    lanes[i] += block[i];
                }
            }
            let sum = sum_lanes(lanes);
            *inverse = 1.0 / sum;
            *lse = max + sum.ln();
        }
    }

    /// Rows of scores to probabilities, from their saved log-sum-exp.
    fn probabilities(scores: &mut [f32], stride: usize, lse: &[f32]) {
        for (row, lse) in scores.chunks_exact_mut(stride).zip(lse) {
            for x in row {
                *x = exp::<FMA>(*x - lse);
            }
        }
    }

    /// The softmax's gradient: `dp ← p · (dp − Σ p·dp)` by rows.
    fn softmax_gradient(dp: &mut [f32], p: &[f32], tokens: usize, stride: usize) {
        for (dp, p) in dp.chunks_exact_mut(stride).zip(p.chunks_exact(stride)) {
            let mut lanes = [0.0; LANES];
            let (whole, rest) = dp[..tokens].as_chunks::<LANES>();
            let (p_whole, p_rest) = p[..tokens].as_chunks::<LANES>();
            for (dp, p) in whole.iter().zip(p_whole) {
                for i in 0..LANES {
                    lanes[i] = fma::<FMA>(dp[i], p[i], lanes[i]);
                }
            }
            let rest: f32 = rest.iter().zip(p_rest).map(|(dp, p)| dp * p).sum();
            let dot = sum_lanes(lanes) + rest;
            for (dp, p) in dp.iter_mut().zip(p) {
                *dp = p * (*dp - dot);
            }
        }
    }

    /// Scales a row.
    fn scale_row(row: &mut [f32], factor: f32) {
        for x in row {
            *x *= factor;
        }
    }
}

/// `softmax(q·kᵀ/√(D/H)) · v` per head, heads concatenated.
///
/// `qkv` `[B, N, 3·D]`: query, key, value, within each by head → the result `[B, N, D]` and
/// the log-sum-exp of each row of scores `[B, H, N]`.
pub fn attention(qkv: &[f32], shape: AttentionShape) -> (Vec<f32>, Vec<f32>) {
    let AttentionShape {
        images,
        tokens,
        width,
        heads,
    } = shape;
    shape.check();
    assert_eq!(qkv.len(), images * tokens * 3 * width);
    let mut output = Output::new(images * tokens * width);
    let mut lse = Output::new(images * heads * tokens);
    let (out, sums) = (output.parts(), lse.parts());
    let (stride, head_width) = (shape.stride(), shape.head_width());
    let most = QUERIES.min(tokens);
    shape.for_each(most * (stride + 1), |image, head, scratch| {
        let qkv = &qkv[image * tokens * 3 * width..][..tokens * 3 * width];
        let [q, k, v] = [0, 1, 2].map(|part| shape.part(qkv, head, part));
        let (scores, inverse) = scratch.split_at_mut(most * stride);
        for (start, count) in shape.blocks() {
            let scores = &mut scores[..count * stride];
            let block = q.rows(start..start + count);
            product(
                scores,
                stride,
                block,
                k.transposed(),
                shape.scale(),
                Store::Replace,
            );
            let first = (image * heads + head) * tokens + start;
            // SAFETY: each row of each head belongs to one task.
            let lse = unsafe { sums.zeroed(first..first + count) };
            softmax_rows(scores, tokens, stride, &mut inverse[..count], lse);
            let offset = (image * tokens + start) * width + head * head_width;
            let p = Matrix::new(scores, count, tokens, stride);
            write_columns(
                out,
                offset,
                width,
                p,
                v,
                1.0,
                Store::Replace,
                [count, head_width],
            );
            for (row, inverse) in inverse[..count].iter().enumerate() {
                let first = offset + row * width;
                // SAFETY: the row of this head has just been written, by this task.
                scale_row(unsafe { out.written(first..first + head_width) }, *inverse);
            }
        }
    });
    // SAFETY: images, heads and blocks of rows cover both.
    unsafe { (output.finish(), lse.finish()) }
}

/// A product into some columns of a matrix that is shared by tasks; `[rows, columns]` is its
/// size and `width` the distance of rows.
#[allow(clippy::too_many_arguments)]
fn write_columns(
    into: Parts,
    offset: usize,
    width: usize,
    a: Matrix,
    b: Matrix,
    scale: f32,
    store: Store,
    [rows, columns]: [usize; 2],
) {
    let into = into.at(offset, (rows - 1) * width + columns);
    // SAFETY: `at` has checked the extent; a head's columns of an image are one task's, and
    // what is added to has been written by the same task before.
    unsafe { product_raw(into, width, a, b, scale, store) }
}

/// The gradient of `qkv` `[B, N, 3·D]` from that of the result, `dy` `[B, N, D]`, and the saved
/// log-sum-exp `[B, H, N]`. Probabilities are computed again, which is as fast as reading them.
pub fn attention_backward(qkv: &[f32], lse: &[f32], dy: &[f32], shape: AttentionShape) -> Vec<f32> {
    let AttentionShape {
        images,
        tokens,
        width,
        heads,
    } = shape;
    shape.check();
    assert_eq!(qkv.len(), images * tokens * 3 * width);
    assert_eq!(dy.len(), images * tokens * width);
    assert_eq!(lse.len(), images * heads * tokens);
    let mut output = Output::new(qkv.len());
    let out = output.parts();
    let (stride, head_width, scale) = (shape.stride(), shape.head_width(), shape.scale());
    let most = QUERIES.min(tokens);
    shape.for_each(2 * most * stride, |image, head, scratch| {
        let qkv = &qkv[image * tokens * 3 * width..][..tokens * 3 * width];
        let [q, k, v] = [0, 1, 2].map(|part| shape.part(qkv, head, part));
        let dy = &dy[image * tokens * width + head * head_width..];
        let dy = Matrix::new(dy, tokens, head_width, width);
        let lse = &lse[(image * heads + head) * tokens..][..tokens];
        let at = |part: usize, row: usize| {
            (image * tokens + row) * 3 * width + part * width + head * head_width
        };
        let (p, dp) = scratch.split_at_mut(most * stride);
        for (start, count) in shape.blocks() {
            let rows = start..start + count;
            let (p, dp) = (&mut p[..count * stride], &mut dp[..count * stride]);
            let (q, dy) = (q.rows(rows.clone()), dy.rows(rows.clone()));
            product(p, stride, q, k.transposed(), scale, Store::Replace);
            probabilities(p, stride, &lse[rows]);
            product(dp, stride, dy, v.transposed(), 1.0, Store::Replace);
            let store = if start == 0 {
                Store::Replace
            } else {
                Store::Add
            };
            let all = [tokens, head_width];
            let matrix = |x| Matrix::new(x, count, tokens, stride);
            write_columns(
                out,
                at(2, 0),
                3 * width,
                matrix(p).transposed(),
                dy,
                1.0,
                store,
                all,
            );
            softmax_gradient(dp, p, tokens, stride);
            let some = [count, head_width];
            let ds = matrix(dp);
            write_columns(
                out,
                at(0, start),
                3 * width,
                ds,
                k,
                scale,
                Store::Replace,
                some,
            );
            write_columns(
                out,
                at(1, 0),
                3 * width,
                ds.transposed(),
                q,
                scale,
                store,
                all,
            );
        }
    });
    // SAFETY: queries by blocks, keys and values from the first block on, all are written.
    unsafe { output.finish() }
}
