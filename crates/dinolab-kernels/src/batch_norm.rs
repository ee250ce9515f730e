//! Batch normalisation over the rows of a matrix, with the sum and ReLU that follow it in a residual
//! network (Ioffe & Szegedy; He et al.).

use crate::conv::Block;
use crate::parallel::{Output, by_rows, light_step};
use crate::simd::{add_to, fma, multiversioned};

/// Mean and variance of each channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Number of values that each is of.
    pub count: usize,
    /// Means, `[C]`.
    pub mean: Vec<f32>,
    /// Variances, biased, `[C]`.
    pub variance: Vec<f32>,
}

/// Moments of the rows of a block.
pub(crate) struct PartialMoments {
    /// The first channel.
    first: usize,
    count: usize,
    mean: Vec<f32>,
    /// Sums of squared differences from the mean.
    squares: Vec<f32>,
}

/// The moments of a block that has just been computed.
pub(crate) fn moments_of_block(block: &mut Block) -> PartialMoments {
    let (rows, width) = (block.rows.clone(), block.columns.len());
    let mut mean = vec![0.0; width];
    for row in rows.clone() {
        add_to(&mut mean, block.row(row));
    }
    let count = rows.len();
    let share = 1.0 / count as f32;
    mean.iter_mut().for_each(|mean| *mean *= share);
    let mut squares = vec![0.0; width];
    for row in rows {
        add_squares(&mut squares, block.row(row), &mean);
    }
    PartialMoments {
        first: block.columns.start,
        count,
        mean,
        squares,
    }
}

impl Moments {
    /// The moments of all rows, of those of their parts (Chan et al.'s update), in their order.
    pub(crate) fn combined(
        channels: usize,
        parts: impl IntoIterator<Item = PartialMoments>,
    ) -> Self {
        let mut all = vec![(0.0f64, 0.0f64, 0.0f64); channels];
        for part in parts {
            let added = part.count as f64;
            let some = all[part.first..].iter_mut();
            for ((all, &mean), &squares) in some.zip(&part.mean).zip(&part.squares) {
                let (count, mean_of_all, squares_of_all) = all;
                let difference = f64::from(mean) - *mean_of_all;
                let total = *count + added;
                *squares_of_all +=
                    f64::from(squares) + difference * difference * *count * added / total;
                *mean_of_all += difference * added / total;
                *count = total;
            }
        }
        Self {
            count: all.first().map_or(0, |all| all.0 as usize),
            mean: all.iter().map(|all| all.1 as f32).collect(),
            variance: all.iter().map(|all| (all.2 / all.0) as f32).collect(),
        }
    }

    /// `1 / √(variance + eps)` of each channel.
    pub fn inverse_deviation(&self, eps: f64) -> Vec<f32> {
        let inverse = |&variance: &f32| (1.0 / (f64::from(variance) + eps).sqrt()) as f32;
        self.variance.iter().map(inverse).collect()
    }
}

/// Batch normalisation as a factor and a sum for each channel: `scale = γ · inverse deviation`,
/// `shift = β − mean · scale`.
pub fn batch_norm_affine(
    mean: &[f32],
    inverse: &[f32],
    gamma: &[f32],
    beta: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let scale: Vec<f32> = gamma.iter().zip(inverse).map(|(g, i)| g * i).collect();
    let product = mean.iter().zip(&scale);
    let shift = product.zip(beta).map(|((m, s), b)| b - m * s).collect();
    (scale, shift)
}

/// `y · scale + shift + residual` of rows `[R, C]`, negative values then 0 if `relu`.
pub fn scale_shift(
    y: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
) -> Vec<f32> {
    let channels = scale.len();
    assert!(channels > 0 && shift.len() == channels && y.len().is_multiple_of(channels));
    assert!(residual.is_none_or(|residual| residual.len() == y.len()));
    let rows = y.len() / channels;
    let ([z], _) = by_rows(rows, light_step(channels), [channels], |rows, [z]| {
        let range = rows.start * channels..rows.end * channels;
        let residual = residual.map(|residual| &residual[range.clone()]);
        scale_shift_rows(z, &y[range], scale, shift, residual, relu);
    });
    z
}

/// The gradients of [`batch_norm_backward`].
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormGradients {
    /// Of the normalised values' source, `[R, C]`.
    pub y: Vec<f32>,
    /// Of γ, `[C]`.
    pub gamma: Vec<f32>,
    /// Of β, `[C]`.
    pub beta: Vec<f32>,
    /// Of the residual, `[R, C]`, if it is wanted: that of the sum.
    pub residual: Option<Vec<f32>>,
}

/// The backward pass of batch normalisation with the statistics of `y` itself: `dz` `[R, C]` is the
/// gradient of `z = relu(γ · (y − mean) · inverse + β + residual)`. `z` is given if there is a ReLU;
/// `residual` tells whether its gradient is wanted.
pub fn batch_norm_backward(
    dz: &[f32],
    z: Option<&[f32]>,
    y: &[f32],
    [mean, inverse, gamma]: [&[f32]; 3],
    residual: bool,
) -> BatchNormGradients {
    let [beta, of_gamma] = batch_norm_sums(dz, z, y, [mean, inverse]);
    let rows = y.len() / mean.len();
    let sums = [beta.as_slice(), &of_gamma];
    let of_rows = [mean, inverse, gamma];
    let (y, residual) = batch_norm_input_gradient(dz, z, y, of_rows, sums, rows, residual);
    BatchNormGradients {
        y,
        gamma: of_gamma,
        beta,
        residual,
    }
}

/// The gradients of β and γ, `[C]` each: `Σ d` and `Σ d · (y − mean) · inverse` over the rows `[R, C]`, with
/// `d` the gradient `dz` where `z`, if it is given, is positive.
pub fn batch_norm_sums(
    dz: &[f32],
    z: Option<&[f32]>,
    y: &[f32],
    [mean, inverse]: [&[f32]; 2],
) -> [Vec<f32>; 2] {
    let channels = mean.len();
    assert!(channels > 0 && inverse.len() == channels);
    assert!(dz.len() == y.len() && y.len().is_multiple_of(channels));
    assert!(z.is_none_or(|z| z.len() == y.len()));
    let rows = y.len() / channels;
    let (_, sums) = by_rows(rows, light_step(channels), [], |rows, []| {
        let range = rows.start * channels..rows.end * channels;
        let mut sums = vec![0.0; 2 * channels];
        let (beta, gamma) = sums.split_at_mut(channels);
        let z = z.map(|z| &z[range.clone()]);
        add_gradients(beta, gamma, &dz[range.clone()], z, &y[range], mean, inverse);
        sums
    });
    let mut total = vec![0.0f64; 2 * channels];
    for sums in &sums {
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += f64::from(*sum);
        }
    }
    let mut beta: Vec<f32> = total.iter().map(|&total| total as f32).collect();
    let gamma = beta.split_off(channels);
    [beta, gamma]
}

/// The gradients of the rows `y` `[R, C]` and of the residual, of which the latter is that of the sum, from the
/// [sums](batch_norm_sums) over all `count` rows that the mean and the variance are of: those of `y`, and those
/// of others.
pub fn batch_norm_input_gradient(
    dz: &[f32],
    z: Option<&[f32]>,
    y: &[f32],
    [mean, inverse, gamma]: [&[f32]; 3],
    [dbeta, dgamma]: [&[f32]; 2],
    count: usize,
    residual: bool,
) -> (Vec<f32>, Option<Vec<f32>>) {
    let channels = mean.len();
    assert!(channels > 0 && inverse.len() == channels && gamma.len() == channels);
    assert!(dbeta.len() == channels && dgamma.len() == channels);
    assert!(dz.len() == y.len() && y.len().is_multiple_of(channels));
    assert!(z.is_none_or(|z| z.len() == y.len()));
    let rows = y.len() / channels;
    // dy = γ · inverse · (d − Σd / R − ŷ · Σ(d · ŷ) / R), as d · a + y · b + c.
    let share = 1.0 / count.max(1) as f32;
    let a: Vec<f32> = gamma.iter().zip(inverse).map(|(g, i)| g * i).collect();
    let of_y = (0..channels).map(|c| -a[c] * inverse[c] * dgamma[c] * share);
    let b: Vec<f32> = of_y.collect();
    let constant = (0..channels).map(|c| -a[c] * dbeta[c] * share - b[c] * mean[c]);
    let c: Vec<f32> = constant.collect();
    let mut dresidual = Output::new(if residual { y.len() } else { 0 });
    let parts = dresidual.parts();
    let ([dy], _) = by_rows(rows, light_step(channels), [channels], |rows, [dy]| {
        let range = rows.start * channels..rows.end * channels;
        let z = z.map(|z| &z[range.clone()]);
        let mut masked;
        let dz = &dz[range.clone()];
        let dz = match (z, residual) {
            (None, false) => dz,
            (z, true) => {
                // SAFETY: tasks have disjoint rows.
                let into = unsafe { parts.zeroed(range.clone()) };
                mask(into, dz, z);
                into
            }
            (z, false) => {
                masked = vec![0.0; dz.len()];
                mask(&mut masked, dz, z);
                &masked
            }
        };
        combine(dy, dz, &y[range], &a, &b, &c);
    });
    // SAFETY: the tasks above have written all rows, if there is room for any.
    let residual = residual.then(|| unsafe { dresidual.finish() });
    (dy, residual)
}

multiversioned! {
    fn add_squares(squares: &mut [f32], x: &[f32], mean: &[f32]) {
        for ((s, x), m) in squares.iter_mut().zip(x).zip(mean) {
            let d = x - m;
            *s = fma::<FMA>(d, d, *s);
        }
    }

    fn scale_shift_rows(
        z: &mut [f32],
        y: &[f32],
        scale: &[f32],
        shift: &[f32],
        residual: Option<&[f32]>,
        relu: bool,
    ) {
        let channels = scale.len();
        for (z, y) in z.chunks_exact_mut(channels).zip(y.chunks_exact(channels)) {
            for i in 0..channels {
                z[i] = fma::<FMA>(y[i], scale[i], shift[i]);
            }
        }
        if let Some(residual) = residual {
            for (z, r) in z.iter_mut().zip(residual) {
                *z += r;
            }
        }
        if relu {
            for z in z.iter_mut() {
                *z = if *z < 0.0 { 0.0 } else { *z };
            }
        }
    }

    fn add_gradients(
        beta: &mut [f32],
        gamma: &mut [f32],
        dz: &[f32],
        z: Option<&[f32]>,
        y: &[f32],
        mean: &[f32],
        inverse: &[f32],
    ) {
        let channels = mean.len();
        let (beta, gamma) = (&mut beta[..channels], &mut gamma[..channels]);
        let inverse = &inverse[..channels];
        for (row, (dz, y)) in dz.chunks_exact(channels).zip(y.chunks_exact(channels)).enumerate() {
            let z = z.map(|z| &z[row * channels..][..channels]);
            match z {
                Some(z) => for i in 0..channels {
                    let d = if z[i] > 0.0 { dz[i] } else { 0.0 };
                    beta[i] += d;
                    gamma[i] = fma::<FMA>(d, (y[i] - mean[i]) * inverse[i], gamma[i]);
                },
                None => for i in 0..channels {
                    beta[i] += dz[i];
                    gamma[i] = fma::<FMA>(dz[i], (y[i] - mean[i]) * inverse[i], gamma[i]);
                },
            }
        }
    }

    /// `dz` where `z` is positive, else 0.
    fn mask(into: &mut [f32], dz: &[f32], z: Option<&[f32]>) {
        match z {
            Some(z) => for ((into, dz), z) in into.iter_mut().zip(dz).zip(z) {
                *into = if *z > 0.0 { *dz } else { 0.0 };
            },
            None => into.copy_from_slice(dz),
        }
    }

    fn combine(dy: &mut [f32], dz: &[f32], y: &[f32], a: &[f32], b: &[f32], c: &[f32]) {
        let channels = a.len();
        let (b, c) = (&b[..channels], &c[..channels]);
        let rows = dz.chunks_exact(channels).zip(y.chunks_exact(channels));
        for (dy, (dz, y)) in dy.chunks_exact_mut(channels).zip(rows) {
            for i in 0..channels {
                dy[i] = fma::<FMA>(dz[i], a[i], fma::<FMA>(y[i], b[i], c[i]));
            }
        }
    }
}
