//! Sketched isotropic Gaussian regularisation (SIGReg, Balestriero & LeCun, arXiv 2511.08544).

use rayon::prelude::*;

use crate::embedding_shape::EmbeddingShape;
use crate::parallel::ordered_sum;
use crate::simd::{fma, multiversioned};

/// Knots of the trapezoid rule on `[0, 3]`; the negative half is its mirror image.
const KNOTS: usize = 17;
/// The last knot.
const END: f64 = 3.0;
/// Directions of a task, one a lane.
const BLOCK: usize = 16;

/// `t`, `e^{−t²/2}` and the quadrature's weight of each knot but the first, where the integrand
/// vanishes.
fn knots() -> [(f32, f32, f32); KNOTS - 1] {
    let step = END / (KNOTS - 1) as f64;
    std::array::from_fn(|i| {
        let t = step * (i + 1) as f64;
        let gaussian = (-0.5 * t * t).exp();
        let half = if i + 2 == KNOTS { 0.5 } else { 1.0 };
        // Twice, for the negative half.
        (
            t as f32,
            gaussian as f32,
            (2.0 * half * step * gaussian) as f32,
        )
    })
}

multiversioned! {
    /// One block of directions for the rows `z` `[B, d]` of a view. `columns` `[d, BLOCK]` holds the
    /// directions as columns, zeros where there are fewer. Writes the statistic of each direction
    /// to `statistics`, its gradient in `z` to `gradient` `[B, d]`.
    fn block(
        z: &[f32], width: usize, columns: &[f32], statistics: &mut [f32; BLOCK], gradient: &mut [f32],
    ) {
        let (columns, _) = columns.as_chunks::<BLOCK>();
        let batch = z.len() / width;
        let share = 1.0 / batch as f32;
        let knots = knots();
        // e^{iu·step} of each row; powers of it are the values at the knots.
        let mut turns = vec![[[0.0f32; BLOCK]; 2]; batch];
        let mut sums = [[[0.0f32; BLOCK]; 2]; KNOTS - 1];
        for (z, [cos, sin]) in z.chunks_exact(width).zip(&mut turns) {
            let mut u = [0.0f32; BLOCK];
            for (z, column) in z.iter().zip(columns) {
                for i in 0..BLOCK {
                    u[i] = fma::<FMA>(*z, column[i], u[i]);
                }
            }
            for i in 0..BLOCK {
                (sin[i], cos[i]) = (u[i] * knots[0].0).sin_cos();
            }
            let (mut c, mut s) = (*cos, *sin);
            for [sum_c, sum_s] in &mut sums {
                for i in 0..BLOCK {
                    sum_c[i] += c[i];
                    sum_s[i] += s[i];
                    let turned = fma::<FMA>(c[i], cos[i], -(s[i] * sin[i]));
                    s[i] = fma::<FMA>(s[i], cos[i], c[i] * sin[i]);
                    c[i] = turned;
                }
            }
        }
        // From the sums to the statistic, and to its slope in each row's cosine and sine.
        *statistics = [0.0; BLOCK];
        for ([c, s], (t, gaussian, weight)) in sums.iter_mut().zip(knots) {
            for i in 0..BLOCK {
                let (real, imaginary) = (c[i] * share - gaussian, s[i] * share);
                statistics[i] += batch as f32 * weight * (real * real + imaginary * imaginary);
                c[i] = 2.0 * weight * t * real;
                s[i] = 2.0 * weight * t * imaginary;
            }
        }
        for (gradient, [cos, sin]) in gradient.chunks_exact_mut(width).zip(&turns) {
            let (mut c, mut s) = (*cos, *sin);
            let mut slope = [0.0f32; BLOCK];
            for [real, imaginary] in &sums {
                for i in 0..BLOCK {
                    slope[i] += imaginary[i] * c[i] - real[i] * s[i];
                    let turned = fma::<FMA>(c[i], cos[i], -(s[i] * sin[i]));
                    s[i] = fma::<FMA>(s[i], cos[i], c[i] * sin[i]);
                    c[i] = turned;
                }
            }
            for (gradient, column) in gradient.iter_mut().zip(columns) {
                let mut sum = 0.0;
                for i in 0..BLOCK {
                    sum = fma::<FMA>(slope[i], column[i], sum);
                }
                *gradient = sum;
            }
        }
    }
}

/// How far the embeddings of each view are from a standard normal distribution, and its gradient.
///
/// `z` `[V·B, d]` are embeddings, view-major; `directions` `[S, d]` have length 1. With `u` the
/// embeddings of a view along a direction, the statistic of Epps and Pulley is
/// `B · ∫ w(t) (|mean cos(t·u) − e^{−t²/2}|² + |mean sin(t·u)|²) dt` with `w(t) = e^{−t²/2}`,
/// by the trapezoid rule with 17 knots on `[0, 3]` and their mirror images.
///
/// Returns its mean over views and directions, and the gradient `[V·B, d]`.
pub fn sigreg(z: &[f32], directions: &[f32], shape: EmbeddingShape) -> (f32, Vec<f32>) {
    let count = shape.check(z, directions);
    let EmbeddingShape {
        batch,
        views,
        width,
    } = shape;
    let blocks: Vec<Vec<f32>> = directions
        .chunks(BLOCK * width)
        .map(|rows| columns(rows, width))
        .collect();
    let scale = 1.0 / (views * count) as f32;
    let parts: Vec<(f64, Vec<f32>)> = (0..views * blocks.len())
        .into_par_iter()
        .map(|task| {
            let (view, at) = (task / blocks.len(), task % blocks.len());
            let rows = &z[view * batch * width..][..batch * width];
            let mut gradient = vec![0.0; rows.len()];
            let mut statistics = [0.0; BLOCK];
            block(rows, width, &blocks[at], &mut statistics, &mut gradient);
            let own = BLOCK.min(count - at * BLOCK);
            let sum = statistics[..own].iter().map(|&s| f64::from(s)).sum::<f64>();
            (sum, gradient)
        })
        .collect();
    let total: f64 = parts.iter().map(|(sum, _)| sum).sum();
    let mut parts = parts.into_iter().map(|(_, gradient)| gradient);
    let mut gradient = Vec::with_capacity(z.len());
    for _ in 0..views {
        let parts = parts.by_ref().take(blocks.len());
        gradient.append(&mut ordered_sum(batch * width, parts));
    }
    gradient.iter_mut().for_each(|g| *g *= scale);
    ((total * f64::from(scale)) as f32, gradient)
}

/// Rows `[≤ BLOCK, width]` as columns `[width, BLOCK]`, filled up with zeros.
fn columns(rows: &[f32], width: usize) -> Vec<f32> {
    let mut columns = vec![0.0; width * BLOCK];
    for (place, row) in rows.chunks_exact(width).enumerate() {
        for (column, value) in columns.chunks_exact_mut(BLOCK).zip(row) {
            column[place] = *value;
        }
    }
    columns
}
