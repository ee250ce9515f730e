//! PCA whitening: features are centred, and each principal component is divided by its standard
//! deviation.

use nalgebra::{DMatrix, SymmetricEigen};

pub use crate::covariance::CovarianceAccumulator;
use crate::rows::rows_of;
use crate::{Error, Result};

/// Rows handled at a time.
const BLOCK: usize = 256;
/// Variances below this fraction of the greatest are raised to it.
const FLOOR: f64 = 1e-5;

/// The point about which the variance of features is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhiteningCentre {
    /// The origin: the second moment, as in the reference implementation. Whitened features are
    /// centred all the same.
    #[default]
    Origin,
    /// The mean: the covariance.
    Mean,
}

/// A whitening transform of features of width `dim`.
#[derive(Clone, Debug)]
pub struct Whitening {
    mean: Vec<f64>,
    /// `[D, D]`: row `i` is component `i` divided by a power of its variance.
    components: DMatrix<f64>,
}

impl Whitening {
    /// Computes the transform. A component of variance *d* is divided by `d^power`; the reference
    /// implementation uses 0.5. Variances below 1e-5 of the greatest are raised to that, so that
    /// there may be fewer features than dimensions.
    ///
    /// # Errors
    /// [`Error::Invalid`] without features or if all are zero.
    pub fn learn(
        covariance: &CovarianceAccumulator,
        power: f64,
        centre: WhiteningCentre,
    ) -> Result<Self> {
        if covariance.count() == 0 {
            return Err(Error::invalid("whitening", "no image to learn from"));
        }
        let mean = covariance.mean();
        let mut about = covariance.covariance();
        if centre == WhiteningCentre::Origin {
            let mean = DMatrix::from_column_slice(mean.len(), 1, &mean);
            about += &mean * mean.transpose();
        }
        let SymmetricEigen {
            eigenvectors,
            eigenvalues,
        } = SymmetricEigen::new(about);
        let greatest = eigenvalues.iter().copied().fold(0.0, f64::max);
        if greatest <= 0.0 {
            return Err(Error::invalid("whitening", "the features do not differ"));
        }
        let mut components = eigenvectors.transpose();
        for (mut row, &spread) in components.row_iter_mut().zip(eigenvalues.iter()) {
            row /= spread.max(greatest * FLOOR).powf(power);
        }
        Ok(Self { mean, components })
    }

    /// Whitens rows `[N, dim]` in place.
    ///
    /// # Errors
    /// [`Error::Length`] for a length that is not a multiple of `dim`.
    pub fn apply(&self, rows: &mut [f32]) -> Result<()> {
        let dim = self.mean.len();
        rows_of("features", rows, dim)?;
        for block in rows.chunks_mut(BLOCK * dim) {
            let mut columns = matrix(block, dim);
            for mut column in columns.column_iter_mut() {
                for (value, mean) in column.iter_mut().zip(&self.mean) {
                    *value -= mean;
                }
            }
            let whitened = &self.components * columns;
            for (out, value) in block.iter_mut().zip(whitened.iter()) {
                *out = *value as f32;
            }
        }
        Ok(())
    }
}

/// Converts rows `[N, dim]` to the columns of a matrix.
fn matrix(rows: &[f32], dim: usize) -> DMatrix<f64> {
    DMatrix::from_iterator(dim, rows.len() / dim, rows.iter().map(|&v| f64::from(v)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: usize, dim: usize) -> Vec<f32> {
        (0..n * dim)
            .map(|i| {
                let noise = ((i * 7919 + 13) % 1009) as f32 / 1009.0;
                noise * (1 + i % dim) as f32 + 2.0
            })
            .collect()
    }

    /// Mean of the outer product of rows.
    fn second_moment(rows: &[f32], dim: usize) -> Vec<f64> {
        let mut sum = vec![0.0; dim * dim];
        for row in rows.chunks(dim) {
            for i in 0..dim {
                for j in 0..dim {
                    sum[i * dim + j] += f64::from(row[i]) * f64::from(row[j]);
                }
            }
        }
        let n = (rows.len() / dim) as f64;
        sum.iter().map(|v| v / n).collect()
    }

    #[test]
    fn the_covariance_becomes_the_unit_matrix() {
        let (n, dim) = (BLOCK + 100, 6);
        let mut data = rows(n, dim);
        let mut covariance = CovarianceAccumulator::new(dim);
        // In parts: sums do not care.
        covariance.add(&data[..dim * 10]).unwrap();
        covariance.add(&data[dim * 10..]).unwrap();
        assert_eq!(covariance.count(), n);
        let whitening = Whitening::learn(&covariance, 0.5, WhiteningCentre::Mean).unwrap();
        whitening.apply(&mut data).unwrap();
        for (i, value) in second_moment(&data, dim).into_iter().enumerate() {
            let expected = if i % (dim + 1) == 0 { 1.0 } else { 0.0 };
            assert!((value - expected).abs() < 1e-4, "{i}: {value}");
        }
    }

    #[test]
    fn about_the_origin_as_the_reference() {
        // Two dimensions by hand: rows (3, 0), (0, 1), (-3, 0), (0, -1): spreads 4.5 and 0.5.
        let data = [3.0, 0.0, 0.0, 1.0, -3.0, 0.0, 0.0, -1.0];
        let mut covariance = CovarianceAccumulator::new(2);
        covariance.add(&data).unwrap();
        let whitening = Whitening::learn(&covariance, 0.5, WhiteningCentre::Origin).unwrap();
        let mut white = [4.5f32.sqrt(), 0.0, 0.0, 0.5f32.sqrt()];
        whitening.apply(&mut white).unwrap();
        for row in white.chunks(2) {
            assert!((row[0].hypot(row[1]) - 1.0).abs() < 1e-6);
        }
        assert!((white[0] * white[2] + white[1] * white[3]).abs() < 1e-6);
        // The mean counts as spread here, and is taken off afterwards.
        let shifted: Vec<f32> = data.iter().map(|v| v + 10.0).collect();
        let mut covariance = CovarianceAccumulator::new(2);
        covariance.add(&shifted).unwrap();
        let whitening = Whitening::learn(&covariance, 0.5, WhiteningCentre::Origin).unwrap();
        let mut mean = [10.0f32, 10.0];
        whitening.apply(&mut mean).unwrap();
        assert!(mean[0].hypot(mean[1]) < 1e-5);
    }

    #[test]
    fn fewer_rows_than_dimensions() {
        let mut covariance = CovarianceAccumulator::new(3);
        covariance.add(&[1.0, 2.0, 2.0]).unwrap();
        let whitening = Whitening::learn(&covariance, 0.5, WhiteningCentre::Origin).unwrap();
        let mut row = [5.0, -1.0, 2.0];
        whitening.apply(&mut row).unwrap();
        assert!(row.iter().all(|v| v.is_finite()));
        assert!(
            Whitening::learn(&CovarianceAccumulator::new(3), 0.5, WhiteningCentre::Origin).is_err()
        );
        let mut zeros = CovarianceAccumulator::new(2);
        zeros.add(&[0.0, 0.0]).unwrap();
        assert!(Whitening::learn(&zeros, 0.5, WhiteningCentre::Origin).is_err());
        assert!(zeros.add(&[1.0]).is_err());
    }
}
