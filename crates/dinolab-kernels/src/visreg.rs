//! The regulariser of VISReg (arXiv 2606.02572): location, scale and shape of embeddings.

use rayon::prelude::*;

use crate::embedding_shape::EmbeddingShape;
use crate::linear::{linear, weight_gradient};
use crate::normal_quantiles::normal_quantiles;

/// Added to variances, so that the slope of a standard deviation is finite where rows are equal.
const EPS: f64 = 1e-4;

/// How far the embeddings of each view are from a standard normal distribution, in three terms, and
/// their gradients.
///
/// `z` `[V·B, d]` are embeddings, view-major; `directions` `[S, d]` have length 1. With `μ` and
/// `σ = √(variance + 10⁻⁴)` of the `B` rows of a view in each dimension, the terms are
///
/// - location: the mean of `μ²`;
/// - scale: the mean of `(σ − 1)²`;
/// - shape: the rows `(z − μ) / σ` are projected on each direction and sorted; the mean squared
///   distance of the `i`-th smallest value from the normal quantile `Φ⁻¹(i / (B + 1))`. Its gradient
///   takes `σ` as given. Equal values keep the order of their rows.
///
/// Returns the three terms and their gradients, `[3, V·B, d]`.
pub fn visreg(z: &[f32], directions: &[f32], shape: EmbeddingShape) -> ([f32; 3], Vec<f32>) {
    let count = shape.check(z, directions);
    let EmbeddingShape {
        batch,
        views,
        width,
    } = shape;
    let of_view = batch * width;
    let mut gradients = vec![0.0; 3 * z.len()];
    let (location, rest) = gradients.split_at_mut(z.len());
    let (scale, form) = rest.split_at_mut(z.len());

    // The buffer of the third gradient holds the standardised rows first.
    let mut deviations = vec![0.0; views * width];
    let sums: Vec<[f64; 2]> = z
        .par_chunks(of_view)
        .zip(deviations.par_chunks_mut(width))
        .zip(location.par_chunks_mut(of_view))
        .zip(scale.par_chunks_mut(of_view))
        .zip(form.par_chunks_mut(of_view))
        .map(|((((z, deviations), location), scale), rows)| {
            moments(z, views, deviations, [location, scale, rows])
        })
        .collect();
    let cells = (views * width) as f64;
    let [location, scale] =
        [0, 1].map(|term| sums.iter().map(|sums| sums[term]).sum::<f64>() / cells);

    // Values along each direction, a view's beside each other.
    let mut along = linear(directions, form, None, width);
    let quantiles = normal_quantiles(batch);
    let share = 1.0 / (views * batch * count) as f64;
    let distances: Vec<f64> = along
        .par_chunks_mut(views * batch)
        .map(|views| {
            let mut keys = vec![0; batch];
            let views = views.chunks_exact_mut(batch);
            views
                .map(|values| distance(values, &quantiles, (2.0 * share) as f32, &mut keys))
                .sum()
        })
        .collect();
    // The gradients of the values of a view and direction add up to 0, since both values and
    // quantiles do: nothing passes through the mean.
    let slopes = weight_gradient(&along, directions, views * batch, width);
    form.par_chunks_mut(of_view)
        .zip(slopes.par_chunks(of_view))
        .zip(deviations.par_chunks(width))
        .for_each(|((gradient, slopes), deviations)| {
            let rows = gradient.chunks_exact_mut(width);
            for (gradient, slopes) in rows.zip(slopes.chunks_exact(width)) {
                for ((gradient, slope), deviation) in
                    gradient.iter_mut().zip(slopes).zip(deviations)
                {
                    *gradient = slope / deviation;
                }
            }
        });
    let form = distances.iter().sum::<f64>() * share;
    ([location, scale, form].map(|term| term as f32), gradients)
}

/// The sums over a view's dimensions of `μ²` and `(σ − 1)²`. Writes `σ`, the gradients of both means
/// and the standardised rows.
fn moments(
    z: &[f32],
    views: usize,
    deviations: &mut [f32],
    [location, scale, standard]: [&mut [f32]; 3],
) -> [f64; 2] {
    let width = deviations.len();
    let batch = (z.len() / width) as f64;
    let column_means = |value: &dyn Fn(usize, f32) -> f64| {
        let mut sums = vec![0.0; width];
        for row in z.chunks_exact(width) {
            for (j, (sum, &z)) in sums.iter_mut().zip(row).enumerate() {
                *sum += value(j, z);
            }
        }
        sums.iter_mut().for_each(|sum| *sum /= batch);
        sums
    };
    let means = column_means(&|_, z| f64::from(z));
    let variances = column_means(&|j, z| (f64::from(z) - means[j]).powi(2));
    let share = 2.0 / (batch * (views * width) as f64);
    let mut sums = [0.0; 2];
    for (j, (mean, variance)) in means.iter().zip(variances).enumerate() {
        let deviation = (variance + EPS).sqrt();
        deviations[j] = deviation as f32;
        sums[0] += mean * mean;
        sums[1] += (deviation - 1.0).powi(2);
        let pull = share * (deviation - 1.0);
        for at in (j..z.len()).step_by(width) {
            let standardised = (f64::from(z[at]) - mean) / deviation;
            location[at] = (share * mean) as f32;
            scale[at] = (pull * standardised) as f32;
            standard[at] = standardised as f32;
        }
    }
    sums
}

/// The sum of squared distances of the sorted `values` from the quantiles. Each value becomes its
/// distance times `share`.
fn distance(values: &mut [f32], quantiles: &[f32], share: f32, keys: &mut [u64]) -> f64 {
    for (row, (key, value)) in keys.iter_mut().zip(&*values).enumerate() {
        *key = u64::from(ordered(*value)) << 32 | row as u64;
    }
    keys.sort_unstable();
    let mut sum = 0.0;
    for (key, quantile) in keys.iter().zip(quantiles) {
        let value = &mut values[(key & 0xffff_ffff) as usize];
        let distance = *value - quantile;
        sum += f64::from(distance).powi(2);
        *value = distance * share;
    }
    sum
}

/// A number that is ordered as `value`, both zeros alike.
fn ordered(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}
