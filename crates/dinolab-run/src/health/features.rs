//! What features show: their spread and effective rank.

use dinolab_data::slice::check_length;
use nalgebra::{DMatrix, DMatrixView};
use serde::{Deserialize, Serialize};

use super::rows::entropy;
use crate::Result;

/// Feature rows kept per epoch at most.
pub(super) const MAX_FEATURES: usize = 512;

/// An even sample of all feature rows offered, of fixed size.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Reservoir {
    pub(super) dim: usize,
    pub(super) rows: Vec<f32>,
    pub(super) seen: u64,
    /// Rows are kept as they are, instead of L2-normalised.
    #[serde(default)]
    pub(super) raw: bool,
}

impl Reservoir {
    pub(super) fn offer(&mut self, features: &[f32], dim: usize) -> Result<()> {
        if features.is_empty() {
            return Ok(());
        }
        if dim == 0 {
            bail!("features: rows have no values");
        }
        check_length("features", features.len() / dim * dim, features.len())?;
        if self.dim == 0 {
            self.dim = dim;
        }
        check_length("feature width", self.dim, dim)?;
        for row in features.chunks_exact(dim) {
            let length = row
                .iter()
                .map(|&v| f64::from(v).powi(2))
                .sum::<f64>()
                .sqrt();
            if !length.is_finite() {
                continue;
            }
            let divisor = if self.raw { 1.0 } else { length.max(1e-12) };
            let normalised = row.iter().map(|&v| (f64::from(v) / divisor) as f32);
            if self.rows.len() < MAX_FEATURES * dim {
                self.rows.extend(normalised);
            } else {
                // Keep each row seen so far with the same chance; the place comes from the
                // row's number, so that a run repeats itself.
                let place = (scatter(self.seen) % (self.seen + 1)) as usize;
                if place < MAX_FEATURES {
                    let kept = &mut self.rows[place * dim..][..dim];
                    kept.iter_mut().zip(normalised).for_each(|(k, v)| *k = v);
                }
            }
            self.seen += 1;
        }
        Ok(())
    }

    /// A sample of rows as they are.
    pub(super) fn raw() -> Self {
        Self {
            raw: true,
            ..Self::default()
        }
    }

    /// Mean over dimensions of the standard deviation; `None` for fewer than two rows.
    pub(super) fn deviation(&self) -> Option<f64> {
        let n = self.rows.len().checked_div(self.dim).filter(|n| *n >= 2)?;
        let column = |d: usize| {
            self.rows[d..]
                .iter()
                .step_by(self.dim)
                .map(|&v| f64::from(v))
        };
        let deviation = |d: usize| {
            let mean = column(d).sum::<f64>() / n as f64;
            (column(d).map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64).sqrt()
        };
        Some((0..self.dim).map(deviation).sum::<f64>() / self.dim as f64)
    }

    pub(super) fn figures(&self) -> (Option<f64>, Option<f64>) {
        match feature_figures(&self.rows, self.dim) {
            Some((spread, rank)) => (Some(spread), Some(rank)),
            None => (None, None),
        }
    }
}

pub(super) fn scatter(counter: u64) -> u64 {
    let mut z = counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    z ^ (z >> 32)
}

/// Spread (0–1) and effective rank (0 – min(D, N − 1)) of normalised features `[N, dim]`;
/// `None` for fewer than two rows or
/// values that are not finite. Takes time in min(N, dim)³: meant for N up to 512.
pub fn feature_figures(features: &[f32], dim: usize) -> Option<(f64, f64)> {
    let n = features.len().checked_div(dim)?;
    let finite = features.iter().all(|v| v.is_finite());
    if n < 2 || n * dim != features.len() || !finite {
        return None;
    }
    // [dim, N] in column-major eyes.
    let mut x: DMatrix<f64> = DMatrixView::from_slice(features, dim, n).map(f64::from);
    let mean = x.column_mean();
    for mut column in x.column_iter_mut() {
        column -= &mean;
    }
    let spread = x
        .row_iter()
        .map(|row| (row.norm_squared() / n as f64).sqrt())
        .sum::<f64>()
        / dim as f64
        * (dim as f64).sqrt();
    // The covariance and the Gram matrix have the same eigenvalues but for zeros.
    let transposed = x.transpose();
    let square = if dim <= n {
        &x * &transposed
    } else {
        &transposed * &x
    } / n as f64;
    // Below the rounding of the f32 features there is nothing but noise.
    if square.trace() <= 1e-12 {
        return Some((spread.min(1.0), 0.0));
    }
    let eigenvalues = square.symmetric_eigenvalues();
    let positive: Vec<f64> = eigenvalues.iter().map(|v| v.max(0.0)).collect();
    Some((spread.min(1.0), entropy(&positive).exp()))
}
