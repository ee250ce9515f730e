//! Multi-head self-attention from the joint query-key-value buffer.

use rayon::prelude::*;

use crate::parallel::{Output, Parts, under_miri};
use crate::product::{Destination, Matrix, Packed, Store};
use crate::scratch::Scratch;
use crate::simd::{exp, fma, multiversioned, sum_lanes};

/// Queries that are scored together, few enough that their scores stay in cache.
const QUERIES: usize = under_miri(8, 128);
/// Lanes of a row of scores, which is padded to a multiple of them.
const LANES: usize = 8;
/// From this many images on, one task per image is enough to keep threads busy.
const MANY_IMAGES: usize = under_miri(3, 32);

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

    /// Runs `task` for every image and head.
    fn for_each(&self, task: impl Fn(usize, usize) + Sync) {
        let heads = self.heads;
        // Heads are independent, so results do not depend on how they are grouped into tasks.
        let group = if self.images >= MANY_IMAGES { heads } else { 1 };
        (0..self.images * heads / group)
            .into_par_iter()
            .with_max_len(1)
            .for_each(|i| {
                for unit in i * group..(i + 1) * group {
                    task(unit / heads, unit % heads);
                }
            });
    }
}

multiversioned! {
    /// Turns rows of scores, `stride` apart, into `e^(score − max)`, and writes the inverse of
    /// each row's sum and its log-sum-exp.
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
            // A loop of its own: a sum in it would prevent its vectorisation.
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

    /// Turns rows of scores into probabilities, by their saved log-sum-exp.
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
    let rows = shape.images * shape.tokens;
    let mut output = Output::new(rows * shape.width);
    let mut lse = Output::new(rows * shape.heads);
    // SAFETY: they are borrowed here alone, and all of both is written.
    unsafe {
        attention_into(qkv, shape, output.parts(), lse.parts());
        (output.finish(), lse.finish())
    }
}

/// [`attention`] into `out` and `sums`.
///
/// # Safety
/// Nothing else reaches them in the meantime.
pub(crate) unsafe fn attention_into(qkv: &[f32], shape: AttentionShape, out: Parts, sums: Parts) {
    let AttentionShape {
        images,
        tokens,
        width,
        heads,
    } = shape;
    shape.check();
    assert_eq!(qkv.len(), images * tokens * 3 * width);
    let (stride, head_width) = (shape.stride(), shape.head_width());
    let most = QUERIES.min(tokens);
    shape.for_each(|image, head| {
        let qkv = &qkv[image * tokens * 3 * width..][..tokens * 3 * width];
        let [q, k, v] = [0, 1, 2].map(|part| shape.part(qkv, head, part));
        let [mut keys, mut values, mut scores] = [(); 3].map(|()| Scratch::take());
        let keys = Packed::new(k.transposed(), keys.vec());
        let values = Packed::new(v, values.vec());
        let (scores, inverse) = scores.room(most * (stride + 1)).split_at_mut(most * stride);
        for (start, count) in shape.blocks() {
            let scores = &mut scores[..count * stride];
            let block = q.rows(start..start + count);
            keys.product(block, scores, stride, shape.scale(), Store::Replace);
            let first = (image * heads + head) * tokens + start;
            // SAFETY: each row of each head belongs to one task.
            let lse = unsafe { sums.zeroed(first..first + count) };
            softmax_rows(scores, tokens, stride, &mut inverse[..count], lse);
            let offset = (image * tokens + start) * width + head * head_width;
            let p = Matrix::new(scores, count, tokens, stride);
            let into = Destination::new(out, offset, [count, head_width], width);
            // SAFETY: a head's columns of an image are one task's.
            unsafe { values.multiply(p, 0..head_width, into) };
            for (row, inverse) in inverse[..count].iter().enumerate() {
                let first = offset + row * width;
                // SAFETY: the row of this head has just been written, by this task.
                scale_row(unsafe { out.written(first..first + head_width) }, *inverse);
            }
        }
    });
}

/// The gradient of `qkv` `[B, N, 3·D]` from that of the result, `dy` `[B, N, D]`, and the saved
/// log-sum-exp `[B, H, N]`. Probabilities are recomputed, which is as fast as reading them.
pub fn attention_backward(qkv: &[f32], lse: &[f32], dy: &[f32], shape: AttentionShape) -> Vec<f32> {
    let mut output = Output::new(qkv.len());
    // SAFETY: it is borrowed here alone, and all of it is written.
    unsafe {
        attention_backward_into(qkv, lse, dy, shape, output.parts());
        output.finish()
    }
}

/// [`attention_backward`] into `out`.
///
/// # Safety
/// Nothing else reaches it in the meantime.
pub(crate) unsafe fn attention_backward_into(
    qkv: &[f32],
    lse: &[f32],
    dy: &[f32],
    shape: AttentionShape,
    out: Parts,
) {
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
    let (stride, head_width, scale) = (shape.stride(), shape.head_width(), shape.scale());
    let most = QUERIES.min(tokens);
    shape.for_each(|image, head| {
        let qkv = &qkv[image * tokens * 3 * width..][..tokens * 3 * width];
        let [q, k, v] = [0, 1, 2].map(|part| shape.part(qkv, head, part));
        let dy = &dy[image * tokens * width + head * head_width..];
        let dy = Matrix::new(dy, tokens, head_width, width);
        let lse = &lse[(image * heads + head) * tokens..][..tokens];
        let at = |part: usize, row: usize, rows: usize, store: Store, scale: f32| {
            let row = image * tokens + row;
            let offset = row * 3 * width + part * width + head * head_width;
            let mut into = Destination::new(out, offset, [rows, head_width], 3 * width);
            (into.store, into.scale) = (store, scale);
            into
        };
        let [mut kt, mut vt, mut kp, mut qp, mut dyp] = [(); 5].map(|()| Scratch::take());
        let kt = Packed::new(k.transposed(), kt.vec());
        let vt = Packed::new(v.transposed(), vt.vec());
        let kp = Packed::new(k, kp.vec());
        let mut scores = Scratch::take();
        let (p, dp) = scores.room(2 * most * stride).split_at_mut(most * stride);
        for (start, count) in shape.blocks() {
            let rows = start..start + count;
            let (p, dp) = (&mut p[..count * stride], &mut dp[..count * stride]);
            let (q, dy) = (q.rows(rows.clone()), dy.rows(rows.clone()));
            kt.product(q, p, stride, scale, Store::Replace);
            probabilities(p, stride, &lse[rows]);
            vt.product(dy, dp, stride, 1.0, Store::Replace);
            // The gradients of keys and values are sums over all blocks of queries.
            let store = if start == 0 {
                Store::Replace
            } else {
                Store::Add
            };
            let matrix = |x| Matrix::new(x, count, tokens, stride);
            let dy = Packed::new(dy, dyp.vec());
            let into = at(2, 0, tokens, store, 1.0);
            // SAFETY: a head's columns of an image are one task's; what is added to has been
            // written by the same task before. So below.
            unsafe { dy.multiply(matrix(p).transposed(), 0..head_width, into) };
            softmax_gradient(dp, p, tokens, stride);
            let ds = matrix(dp);
            let into = at(0, start, count, Store::Replace, scale);
            // SAFETY: see above.
            unsafe { kp.multiply(ds, 0..head_width, into) };
            let q = Packed::new(q, qp.vec());
            let into = at(1, 0, tokens, store, scale);
            // SAFETY: see above.
            unsafe { q.multiply(ds.transposed(), 0..head_width, into) };
        }
    });
}
