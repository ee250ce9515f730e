//! Principal component analysis of features.

use dinolab_data::slice::check_length;
use nalgebra::{DMatrix, SymmetricEigen};

use crate::covariance::CovarianceAccumulator;
use crate::{Error, Result};

/// The principal components of features.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    /// `[D]`.
    pub mean: Vec<f64>,
    /// `[K, D]`, orthonormal, in descending order of variance.
    pub components: Vec<f64>,
    /// Variance along each component, `[K]`.
    pub variances: Vec<f64>,
}

impl Pca {
    /// Computes the first `k` principal components, or all if rows are narrower.
    ///
    /// # Errors
    /// [`Error::Invalid`] without rows.
    pub fn of(sums: &CovarianceAccumulator, k: usize) -> Result<Self> {
        if sums.count() == 0 {
            return Err(Error::invalid("features", "must not be empty"));
        }
        let (components, variances) = principal(sums.covariance(), k);
        Ok(Self {
            mean: sums.mean(),
            components,
            variances,
        })
    }

    /// Projects rows `[N, D]` onto the components: `[N, K]`.
    ///
    /// # Errors
    /// [`Error::Slice`] for a length that is not a multiple of `D`.
    pub fn project(&self, rows: &[f32]) -> Result<Vec<f32>> {
        let dim = self.mean.len();
        check_length("features", rows.len() / dim * dim, rows.len())?;
        let mut out = Vec::with_capacity(rows.len() / dim * self.variances.len());
        for row in rows.chunks_exact(dim) {
            out.extend(self.components.chunks_exact(dim).map(|component| {
                let along = row.iter().zip(&self.mean).zip(component);
                along
                    .map(|((&v, m), c)| (f64::from(v) - m) * c)
                    .sum::<f64>() as f32
            }));
        }
        Ok(out)
    }
}

/// The first `k` eigenvectors `[K, D]` of a matrix of second moments, and the eigenvalues `[K]`, in
/// descending order. One thread computes them, in a fixed order.
pub(crate) fn principal(moments: DMatrix<f64>, k: usize) -> (Vec<f64>, Vec<f64>) {
    let eigen = SymmetricEigen::new(moments);
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let mut components = Vec::new();
    let mut variances = Vec::new();
    for &index in order.iter().take(k) {
        let column = eigen.eigenvectors.column(index);
        // The sign of an eigenvector is arbitrary: make its greatest entry positive.
        let greatest = column
            .iter()
            .copied()
            .fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
        components.extend(column.iter().map(|v| v * greatest.signum()));
        variances.push(eigen.eigenvalues[index].max(0.0));
    }
    (components, variances)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values without a pattern, −0.5 to 0.5.
    fn noise(count: usize, mut state: u64) -> Vec<f32> {
        (0..count)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 40) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect()
    }

    #[test]
    fn components_by_hand() {
        // Points on the line through (1000, 2) along (3, 4) / 5.
        let rows: Vec<f32> = [-2.0f32, -1.0, 0.0, 1.0, 2.0]
            .iter()
            .flat_map(|t| [1000.0 + 3.0 * t, 2.0 + 4.0 * t])
            .collect();
        let mut sums = CovarianceAccumulator::new(2);
        sums.add(&rows[..4]).unwrap();
        sums.add(&rows[4..]).unwrap();
        let pca = Pca::of(&sums, 3).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        near(pca.mean[0], 1000.0);
        near(pca.mean[1], 2.0);
        near(pca.components[0], 0.6);
        near(pca.components[1], 0.8);
        near(pca.variances[0], 50.0);
        near(pca.variances[1], 0.0);
        let along = pca.project(&rows).unwrap();
        near(f64::from(along[0]), -10.0);
        near(f64::from(along[8]), 10.0);
        assert!(Pca::of(&CovarianceAccumulator::new(2), 1).is_err());
        assert!(sums.add(&rows[..3]).is_err());
        assert!(sums.add(&[f32::NAN, 0.0]).is_err());
    }

    #[test]
    fn components_are_orthonormal_and_decorrelate() {
        let (n, d) = (700, 9);
        let mut rows = noise(n * d, 7);
        for row in rows.chunks_exact_mut(d) {
            row[0] = 3.0 * row[0] + row[1];
            row[2] = 2.0 * row[2] + 5.0;
        }
        let mut sums = CovarianceAccumulator::new(d);
        sums.add(&rows).unwrap();
        let pca = Pca::of(&sums, 3).unwrap();
        for (i, a) in pca.components.chunks(d).enumerate() {
            for (j, b) in pca.components.chunks(d).enumerate() {
                let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-9);
            }
        }
        let along = pca.project(&rows).unwrap();
        for i in 0..3 {
            for j in 0..3 {
                let pairs = along.chunks(3).map(|r| f64::from(r[i]) * f64::from(r[j]));
                let expected = if i == j { pca.variances[i] } else { 0.0 };
                assert!((pairs.sum::<f64>() / n as f64 - expected).abs() < 1e-4);
            }
        }
        assert!(pca.variances.windows(2).all(|w| w[0] >= w[1]));
    }
}
