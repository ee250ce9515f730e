//! PCA whitening: features turned to their principal components and brought to equal spread.

use nalgebra::{DMatrix, SymmetricEigen};

use crate::moments::Moments;
use crate::similarity::rows_of;
use crate::{Error, Result};

/// Rows handled at a time.
const BLOCK: usize = 256;
/// Components whose spread is below this share of the greatest are taken to have it.
const FLOOR: f64 = 1e-5;

/// What is left out of the features before their spread is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// Nothing: the second moment about the origin, as the reference measures it. The mean is
    /// still taken off what is whitened.
    #[default]
    AboutOrigin,
    /// The mean: the covariance.
    AboutMean,
}

/// A learned whitening of features of width `dim`.
#[derive(Clone, Debug)]
pub struct Whitening {
    mean: Vec<f64>,
    /// `[D, D]`: row `i` is component `i` divided by its spread.
    components: DMatrix<f64>,
}

impl Whitening {
    /// Learns from sums. A component of spread *d* (its mean square) is divided by `d^power`;
    /// the reference takes 0.5. Spreads below 1e-5 of the greatest count as that, so that
    /// fewer features than dimensions will do.
    ///
    /// # Errors
    /// No features, or features that are all zero.
    pub fn learn(moments: &Moments, power: f64, spread: Spread) -> Result<Self> {
        if moments.count() == 0 {
            return Err(Error::invalid("whitening", "no image to learn from"));
        }
        let mean = moments.mean();
        let mut about = moments.covariance();
        if spread == Spread::AboutOrigin {
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
    /// A length that is no multiple of `dim`.
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

/// Rows `[N, dim]` as a matrix with a column for each.
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
        let mut moments = Moments::new(dim);
        // In parts: sums do not care.
        moments.add(&data[..dim * 10]).unwrap();
        moments.add(&data[dim * 10..]).unwrap();
        assert_eq!(moments.count(), n);
        let whitening = Whitening::learn(&moments, 0.5, Spread::AboutMean).unwrap();
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
        let mut moments = Moments::new(2);
        moments.add(&data).unwrap();
        let whitening = Whitening::learn(&moments, 0.5, Spread::AboutOrigin).unwrap();
        let mut white = [4.5f32.sqrt(), 0.0, 0.0, 0.5f32.sqrt()];
        whitening.apply(&mut white).unwrap();
        for row in white.chunks(2) {
            assert!((row[0].hypot(row[1]) - 1.0).abs() < 1e-6);
        }
        assert!((white[0] * white[2] + white[1] * white[3]).abs() < 1e-6);
        // The mean counts as spread here, and is taken off afterwards.
        let shifted: Vec<f32> = data.iter().map(|v| v + 10.0).collect();
        let mut moments = Moments::new(2);
        moments.add(&shifted).unwrap();
        let whitening = Whitening::learn(&moments, 0.5, Spread::AboutOrigin).unwrap();
        let mut mean = [10.0f32, 10.0];
        whitening.apply(&mut mean).unwrap();
        assert!(mean[0].hypot(mean[1]) < 1e-5);
    }

    #[test]
    fn fewer_rows_than_dimensions() {
        let mut moments = Moments::new(3);
        moments.add(&[1.0, 2.0, 2.0]).unwrap();
        let whitening = Whitening::learn(&moments, 0.5, Spread::AboutOrigin).unwrap();
        let mut row = [5.0, -1.0, 2.0];
        whitening.apply(&mut row).unwrap();
        assert!(row.iter().all(|v| v.is_finite()));
        assert!(Whitening::learn(&Moments::new(3), 0.5, Spread::AboutOrigin).is_err());
        let mut zeros = Moments::new(2);
        zeros.add(&[0.0, 0.0]).unwrap();
        assert!(Whitening::learn(&zeros, 0.5, Spread::AboutOrigin).is_err());
        assert!(zeros.add(&[1.0]).is_err());
    }
}
