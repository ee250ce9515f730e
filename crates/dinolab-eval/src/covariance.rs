//! Mean and covariance of features that are added in parts.

use dinolab_data::slice::check_finite;
use nalgebra::{DMatrix, DMatrixView};

use crate::Result;
use crate::rows::rows_of;

/// Rows handled at a time.
const BLOCK: usize = 512;

/// Accumulates the mean and covariance of rows `[N, D]`.
#[derive(Clone, Debug)]
pub struct CovarianceAccumulator {
    count: usize,
    sum: Vec<f64>,
    products: DMatrix<f64>,
    /// Subtracted from each row, so that large means cost no precision.
    origin: Option<Vec<f64>>,
}

impl CovarianceAccumulator {
    /// Starts without rows, of width `dim`.
    pub fn new(dim: usize) -> Self {
        Self {
            count: 0,
            sum: vec![0.0; dim],
            products: DMatrix::zeros(dim, dim),
            origin: None,
        }
    }

    /// Adds rows `[N, D]`.
    ///
    /// # Errors
    /// [`Error::Slice`](crate::Error::Slice) for a length that is not a multiple of `D` or values that
    /// are not finite.
    pub fn add(&mut self, rows: &[f32]) -> Result<()> {
        let dim = self.sum.len();
        self.count += rows_of("features", rows, dim)?;
        check_finite("features", rows)?;
        for block in rows.chunks(BLOCK * dim) {
            let origin = self
                .origin
                .get_or_insert_with(|| block[..dim].iter().map(|&v| f64::from(v)).collect());
            let centred: Vec<f64> = block
                .chunks_exact(dim)
                .flat_map(|row| {
                    row.iter()
                        .zip(origin.iter())
                        .map(|(&v, o)| f64::from(v) - o)
                })
                .collect();
            for row in centred.chunks_exact(dim) {
                for (sum, value) in self.sum.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            // The rows are the columns of a column-major matrix.
            let columns = DMatrixView::from_slice(&centred, dim, block.len() / dim);
            self.products.gemm(1.0, &columns, &columns.transpose(), 1.0);
        }
        Ok(())
    }

    /// Returns the number of rows.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the mean of the rows, `[D]`; zeros if there are none.
    pub fn mean(&self) -> Vec<f64> {
        match &self.origin {
            Some(origin) => self
                .about_origin()
                .zip(origin)
                .map(|(m, o)| m + o)
                .collect(),
            None => self.sum.clone(),
        }
    }

    fn about_origin(&self) -> impl Iterator<Item = f64> {
        let n = self.count.max(1) as f64;
        self.sum.iter().map(move |sum| sum / n)
    }

    /// Returns the covariance of the rows, `[D, D]`.
    pub(crate) fn covariance(&self) -> DMatrix<f64> {
        let mean: Vec<f64> = self.about_origin().collect();
        let n = self.count.max(1) as f64;
        DMatrix::from_fn(mean.len(), mean.len(), |i, j| {
            self.products[(i, j)] / n - mean[i] * mean[j]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand_and_in_parts() {
        // Mean (1000, 2), variances 2/3 and 8/3, covariance 4/3, far from the origin.
        let rows = [999.0, 0.0, 1000.0, 2.0, 1001.0, 4.0];
        let mut sums = CovarianceAccumulator::new(2);
        assert_eq!((sums.count(), sums.mean()), (0, vec![0.0; 2]));
        sums.add(&rows[..2]).unwrap();
        sums.add(&rows[2..]).unwrap();
        assert_eq!(sums.count(), 3);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        close(sums.mean()[0], 1000.0);
        close(sums.mean()[1], 2.0);
        let covariance = sums.covariance();
        for (found, expected) in covariance.iter().zip([2.0, 4.0, 4.0, 8.0]) {
            close(*found, expected / 3.0);
        }
        assert!(sums.add(&[1.0]).is_err());
        assert!(sums.add(&[1.0, f32::NAN]).is_err());
    }
}
