//! The coding rate of features (SimDINO, arXiv 2502.10385).

use rayon::prelude::*;

use crate::embedding_shape::EmbeddingShape;

/// How many directions the features of each view take up, and its gradient.
///
/// `z` `[V·B, d]` are features, view-major. The coding rate of a view is `½ logdet(I + c·ZᵀZ)` with `c` =
/// `scale` and `Z` its `B` rows; its gradient is `c·Z (I + c·ZᵀZ)⁻¹`. Both come from the Cholesky factor of
/// that matrix, or of `I + c·ZZᵀ` where that is smaller: their determinants are equal. Computed in
/// double precision.
///
/// Returns the mean over views and the gradient `[V·B, d]`.
pub fn coding_rate(z: &[f32], shape: EmbeddingShape, scale: f64) -> (f32, Vec<f32>) {
    let EmbeddingShape {
        batch,
        views,
        width,
    } = shape;
    assert!(batch > 0 && views > 0 && width > 0);
    assert_eq!(z.len(), views * batch * width);
    let mut gradient = vec![0.0; z.len()];
    let rates: Vec<f64> = z
        .par_chunks(batch * width)
        .zip(gradient.par_chunks_mut(batch * width))
        .map(|(z, gradient)| {
            let few_rows = batch <= width;
            let (n, m) = (batch.min(width), batch.max(width));
            // The place in `z` of row `i` and column `k` of the matrix with fewer rows.
            let place = |i: usize, k: usize| {
                if few_rows {
                    i * width + k
                } else {
                    k * width + i
                }
            };
            let mut x: Vec<f64> = (0..n * m)
                .map(|at| f64::from(z[place(at / m, at % m)]))
                .collect();
            let factor = cholesky(&x, n, scale);
            x.iter_mut().for_each(|x| *x *= scale / views as f64);
            solve(&factor, n, &mut x);
            for (i, row) in x.chunks_exact(m).enumerate() {
                for (k, &value) in row.iter().enumerate() {
                    gradient[place(i, k)] = value as f32;
                }
            }
            (0..n).map(|i| factor[i * n + i].ln()).sum()
        })
        .collect();
    let mean = rates.iter().sum::<f64>() / views as f64;
    (mean as f32, gradient)
}

/// The lower Cholesky factor `[n, n]` of `I + scale · a·aᵀ`, `a` `[n, m]`. What lies above its diagonal
/// means nothing.
fn cholesky(a: &[f64], n: usize, scale: f64) -> Vec<f64> {
    let row = |i: usize| &a[i * (a.len() / n)..(i + 1) * (a.len() / n)];
    let mut factor = vec![0.0; n * n];
    for i in 0..n {
        let (above, own) = factor.split_at_mut(i * n);
        let own = &mut own[..n];
        for j in 0..i {
            let left = &above[j * n..(j + 1) * n];
            own[j] = (scale * dot(row(i), row(j)) - dot(&own[..j], &left[..j])) / left[j];
        }
        // At least 1, but for rounding.
        own[i] = (1.0 + scale * dot(row(i), row(i)) - dot(&own[..i], &own[..i])).sqrt();
    }
    factor
}

/// Solves `L·Lᵀ · y = x` in place for the columns of `x` `[n, m]`, with `L` the lower `factor`.
fn solve(factor: &[f64], n: usize, x: &mut [f64]) {
    let m = x.len() / n;
    for i in 0..n {
        let (above, own) = x.split_at_mut(i * m);
        let own = &mut own[..m];
        for (k, row) in above.chunks_exact(m).enumerate() {
            subtract(own, row, factor[i * n + k]);
        }
        own.iter_mut().for_each(|x| *x /= factor[i * n + i]);
    }
    for i in (0..n).rev() {
        let (own, below) = x[i * m..].split_at_mut(m);
        for (k, row) in below.chunks_exact(m).enumerate() {
            subtract(own, row, factor[(i + 1 + k) * n + i]);
        }
        own.iter_mut().for_each(|x| *x /= factor[i * n + i]);
    }
}

fn subtract(from: &mut [f64], row: &[f64], share: f64) {
    for (from, row) in from.iter_mut().zip(row) {
        *from -= share * row;
    }
}

/// Four sums beside each other, for vector instructions; their order is fixed.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<4>();
    let (b, b_rest) = b.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}
