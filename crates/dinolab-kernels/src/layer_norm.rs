//! Layer normalisation (Ba, Kiros & Hinton) over rows.

use crate::parallel::{by_rows, light_step, ordered_sum};
use crate::simd::{LANES, fma, multiversioned, sum_lanes};

multiversioned! {
    /// Normalises rows of `x` into `y`; `statistics` gets mean and 1/σ of each row.
    pub(crate) fn forward_rows(
        x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &mut [f32], statistics: &mut [f32],
    ) {
        let d = gamma.len();
        let rows = x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(statistics.chunks_exact_mut(2));
        for ((x, y), statistics) in rows {
            let mut lanes = [0.0; LANES];
            let blocks = x.chunks_exact(LANES);
            let mut sum: f32 = blocks.remainder().iter().sum();
            for block in blocks {
                for i in 0..LANES {
                    lanes[i] += block[i];
                }
            }
            sum += sum_lanes(lanes);
            let mean = sum / d as f32;
            let mut lanes = [0.0; LANES];
            let blocks = x.chunks_exact(LANES);
            let mut sum: f32 = blocks.remainder().iter().map(|x| (x - mean) * (x - mean)).sum();
            for block in blocks {
                for i in 0..LANES {
                    let centred = block[i] - mean;
                    lanes[i] = fma::<FMA>(centred, centred, lanes[i]);
                }
            }
            sum += sum_lanes(lanes);
            let inverse = 1.0 / (sum / d as f32 + eps).sqrt();
            statistics[0] = mean;
            statistics[1] = inverse;
            for ((y, x), (g, b)) in y.iter_mut().zip(x).zip(gamma.iter().zip(beta)) {
                *y = fma::<FMA>((x - mean) * inverse, *g, *b);
            }
        }
    }

    /// With `g = dy·γ` and `x̂` the normalised row: `dx = (g − mean(g) − x̂·mean(g·x̂)) / σ`.
    /// Adds this task's share to `dgamma` and `dbeta`.
    pub(crate) fn backward_rows(
        x: &[f32], gamma: &[f32], statistics: &[f32], dy: &[f32],
        dx: &mut [f32], dgamma: &mut [f32], dbeta: &mut [f32],
    ) {
        let d = gamma.len();
        let (dgamma, dbeta) = (&mut dgamma[..d], &mut dbeta[..d]);
        let rows = x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d));
        for (((x, dy), dx), statistics) in rows.zip(statistics.chunks_exact(2)) {
            let (mean, inverse) = (statistics[0], statistics[1]);
            let (mut plain, mut weighted) = ([0.0; LANES], [0.0; LANES]);
            let whole = d / LANES * LANES;
            for j in (0..whole).step_by(LANES) {
                let (x, dy, gamma) = (&x[j..j + LANES], &dy[j..j + LANES], &gamma[j..j + LANES]);
                let dgamma = &mut dgamma[j..j + LANES];
                let dbeta = &mut dbeta[j..j + LANES];
                for i in 0..LANES {
                    let normalised = (x[i] - mean) * inverse;
                    let g = dy[i] * gamma[i];
                    plain[i] += g;
                    weighted[i] = fma::<FMA>(g, normalised, weighted[i]);
                    dgamma[i] = fma::<FMA>(dy[i], normalised, dgamma[i]);
                    dbeta[i] += dy[i];
                }
            }
            let (mut plain, mut weighted) = (sum_lanes(plain), sum_lanes(weighted));
            for j in whole..d {
                let normalised = (x[j] - mean) * inverse;
                let g = dy[j] * gamma[j];
                plain += g;
                weighted += g * normalised;
                dgamma[j] += dy[j] * normalised;
                dbeta[j] += dy[j];
            }
            let (plain, weighted) = (plain / d as f32, weighted / d as f32);
            for ((dx, x), (dy, gamma)) in dx.iter_mut().zip(x).zip(dy.iter().zip(gamma)) {
                let normalised = (x - mean) * inverse;
                *dx = inverse * (dy * gamma - plain - normalised * weighted);
            }
        }
    }
}

/// Normalises the rows of `x` `[R, D]` to mean 0 and variance 1 (biased, `eps` added), scales
/// by `gamma` and shifts by `beta`, both `[D]`.
///
/// Returns the result `[R, D]` and the rows' statistics `[R, 2]`: mean and 1/σ.
pub fn layer_norm(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>) {
    let d = gamma.len();
    assert!(d > 0 && beta.len() == d && x.len().is_multiple_of(d));
    let ([y, statistics], _) = by_rows(
        x.len() / d,
        light_step(d),
        [d, 2],
        |rows, [y, statistics]| {
            forward_rows(
                &x[rows.start * d..rows.end * d],
                gamma,
                beta,
                eps,
                y,
                statistics,
            );
        },
    );
    (y, statistics)
}

/// Gradients of [`layer_norm`].
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNormGradients {
    /// Of the input, `[R, D]`.
    pub x: Vec<f32>,
    /// Of the scale, `[D]`.
    pub gamma: Vec<f32>,
    /// Of the shift, `[D]`.
    pub beta: Vec<f32>,
}

/// Gradients from `dy` `[R, D]`, the input `x` `[R, D]` and the saved `statistics` `[R, 2]`.
pub fn layer_norm_backward(
    x: &[f32],
    gamma: &[f32],
    statistics: &[f32],
    dy: &[f32],
) -> LayerNormGradients {
    let d = gamma.len();
    assert!(d > 0 && x.len().is_multiple_of(d));
    let rows = x.len() / d;
    assert!(dy.len() == x.len() && statistics.len() == 2 * rows);
    let ([dx], shares) = by_rows(rows, light_step(d), [d], |rows, [dx]| {
        let (mut dgamma, mut dbeta) = (vec![0.0; d], vec![0.0; d]);
        let range = rows.start * d..rows.end * d;
        let statistics = &statistics[2 * rows.start..2 * rows.end];
        backward_rows(
            &x[range.clone()],
            gamma,
            statistics,
            &dy[range],
            dx,
            &mut dgamma,
            &mut dbeta,
        );
        (dgamma, dbeta)
    });
    let (dgamma, dbeta): (Vec<_>, Vec<_>) = shares.into_iter().unzip();
    LayerNormGradients {
        x: dx,
        gamma: ordered_sum(d, dgamma),
        beta: ordered_sum(d, dbeta),
    }
}
