//! Sinkhorn–Knopp targets (SwAV, Caron et al., arXiv 2006.09882; Cuturi 2013).

use crate::parallel::{by_rows, light_step, map_blocks};
use crate::simd::{exp, multiversioned};

/// Prototypes of a task that adds up over rows.
const COLUMNS: usize = 256;

multiversioned! {
    /// `e^((x − largest) · scale)` of a row into `y`; returns the largest.
    fn exponentials(x: &[f32], scale: f32, y: &mut [f32]) -> f32 {
        let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for (x, y) in x.iter().zip(y) {
            *y = exp::<FMA>((x - largest) * scale);
        }
        largest
    }
}

/// Balanced assignments of images to prototypes.
///
/// `logits` `[R, K]` are the teacher's, `temperature` is `T_t`. Of `Q = exp(logits / T_t)`, columns
/// are scaled to the sum `1/K` and rows to the sum `1/R`, in turn, `iterations` times, so that all
/// prototypes are used alike. Returns the rows of `Q`, each scaled to the sum 1, `[R, K]`.
///
/// A prototype that no row gives any weight stays unused. Without iterations the targets are a
/// softmax.
pub fn sinkhorn(
    logits: &[f32],
    prototypes: usize,
    temperature: f64,
    iterations: usize,
) -> Vec<f32> {
    let k = prototypes;
    assert!(k > 0 && logits.len().is_multiple_of(k));
    let rows = logits.len() / k;
    let scale = (1.0 / temperature) as f32;
    let ([mut q], largest) = by_rows(rows, light_step(2 * k), [k], |range, [q]| {
        let x = logits[range.start * k..range.end * k].chunks_exact(k);
        let rows = x.zip(q.chunks_exact_mut(k));
        rows.map(|(x, q)| exponentials(x, scale, q))
            .collect::<Vec<_>>()
    });
    let largest: Vec<f32> = largest.into_iter().flatten().collect();
    let top = largest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Factors of columns and rows instead of new matrices. The rows' begin with what each row's own
    // largest logit has taken out.
    let mut column_factors = vec![1.0f64; k];
    let taken = |&own: &f32| (f64::from(own - top) / temperature).exp();
    let mut row_factors: Vec<f64> = largest.iter().map(taken).collect();
    let inverse = |sum: f64| if sum > 0.0 { 1.0 / sum } else { 0.0 };
    let row_step = light_step(k);
    let row_sums = |column_factors: &[f64], q: &[f32]| -> Vec<f64> {
        let sums = map_blocks(rows, row_step, |range| {
            let rows = q[range.start * k..range.end * k].chunks_exact(k);
            let sum = |q: &[f32]| {
                q.iter()
                    .zip(column_factors)
                    .map(|(&q, f)| f64::from(q) * f)
                    .sum()
            };
            rows.map(sum).collect::<Vec<f64>>()
        });
        sums.into_iter().flatten().collect()
    };
    for _ in 0..iterations {
        let sums = map_blocks(k, COLUMNS, |range| {
            let mut sums = vec![0.0f64; range.len()];
            for (q, factor) in q.chunks_exact(k).zip(&row_factors) {
                for (sum, &q) in sums.iter_mut().zip(&q[range.clone()]) {
                    *sum += f64::from(q) * factor;
                }
            }
            sums
        });
        let sums = sums.into_iter().flatten();
        column_factors = sums.map(|sum| inverse(sum * k as f64)).collect();
        let sums = row_sums(&column_factors, &q);
        row_factors = sums
            .into_iter()
            .map(|sum| inverse(sum * rows as f64))
            .collect();
    }
    let sums = row_sums(&column_factors, &q);
    for (q, sum) in q.chunks_exact_mut(k).zip(sums) {
        let own = inverse(sum);
        for (q, factor) in q.iter_mut().zip(&column_factors) {
            *q = (f64::from(*q) * factor * own) as f32;
        }
    }
    q
}
