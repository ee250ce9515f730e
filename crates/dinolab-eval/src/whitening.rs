//! PCA whitening: features are centred, turned to their principal components, and each component is
//! divided by its standard deviation.

mod file;

use nalgebra::DMatrix;

pub use crate::covariance::CovarianceAccumulator;
use crate::pca::principal;
use crate::rows::rows_of;
use crate::{Error, Result};

/// Rows handled at a time.
const BLOCK: usize = 256;
/// Least columns of a product: those of fewer are summed in another order, and a row must not depend on how many
/// there are.
const COLUMNS: usize = 8;
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

/// A whitening transform of features of width `D`.
///
/// Its numbers are in single precision, so that it is the same read from a file as fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Whitening {
    images: usize,
    mean: Vec<f64>,
    /// `[D, D]`, a row each, in descending order of variance.
    components: Vec<f64>,
    /// `[D]`, none of them 0.
    deviations: Vec<f64>,
    /// `[D, D]`: components divided by their deviations.
    matrix: DMatrix<f64>,
}

impl Whitening {
    /// Fits the transform to the features that `sums` are of.
    ///
    /// Variances below 1e-5 of the greatest are raised to that, which is a deviation of 0.3% of the
    /// greatest: directions in which the features hardly differ are noise, and there may be fewer
    /// features than dimensions.
    ///
    /// # Errors
    /// [`Error::Invalid`] without features or if they do not differ.
    pub fn fit(sums: &CovarianceAccumulator, centre: WhiteningCentre) -> Result<Self> {
        if sums.count() == 0 {
            return Err(Error::invalid("whitening", "no image to learn from"));
        }
        let mean = sums.mean();
        let mut about = sums.covariance();
        if centre == WhiteningCentre::Origin {
            let mean = DMatrix::from_column_slice(mean.len(), 1, &mean);
            about += &mean * mean.transpose();
        }
        let (components, variances) = principal(about, mean.len());
        let greatest = variances.first().copied().unwrap_or_default();
        if greatest <= 0.0 {
            return Err(Error::invalid("whitening", "the features do not differ"));
        }
        let deviation = |variance: &f64| variance.max(greatest * FLOOR).sqrt();
        let deviations = variances.iter().map(deviation).collect();
        Ok(Self::new(sums.count(), mean, components, deviations))
    }

    /// Fits the transform to rows `[N, dim]`, about their mean.
    ///
    /// # Errors
    /// [`Error::Invalid`] without rows or if they do not differ; [`Error::Slice`]
    /// for rows of another width or values that are not finite.
    pub fn fit_rows(rows: &[f32], dim: usize) -> Result<Self> {
        let mut sums = CovarianceAccumulator::new(dim);
        sums.add(rows)?;
        Self::fit(&sums, WhiteningCentre::Mean)
    }

    fn new(images: usize, mean: Vec<f64>, components: Vec<f64>, deviations: Vec<f64>) -> Self {
        let single = |values: Vec<f64>| -> Vec<f64> {
            values.into_iter().map(|v| f64::from(v as f32)).collect()
        };
        let [mean, components, deviations] = [mean, components, deviations].map(single);
        let dim = mean.len();
        let matrix = DMatrix::from_fn(dim, dim, |i, j| components[i * dim + j] / deviations[i]);
        Self {
            images,
            mean,
            components,
            deviations,
            matrix,
        }
    }

    /// Returns the width of features, `D`.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Returns the number of features it was fitted to.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Whitens rows `[N, dim]` in place.
    ///
    /// # Errors
    /// [`Error::Slice`] for a length that is not a multiple of `dim`.
    pub fn apply(&self, rows: &mut [f32]) -> Result<()> {
        let dim = self.mean.len();
        rows_of("features", rows, dim)?;
        for block in rows.chunks_mut(BLOCK * dim) {
            // The columns of a matrix; those beyond the rows stay 0.
            let mut columns = DMatrix::zeros(dim, (block.len() / dim).max(COLUMNS));
            for (mut column, row) in columns.column_iter_mut().zip(block.chunks_exact(dim)) {
                for ((out, &value), mean) in column.iter_mut().zip(row).zip(&self.mean) {
                    *out = f64::from(value) - mean;
                }
            }
            let whitened = &self.matrix * columns;
            for (out, value) in block.iter_mut().zip(whitened.iter()) {
                *out = *value as f32;
            }
        }
        Ok(())
    }
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
        let whitening = Whitening::fit(&covariance, WhiteningCentre::Mean).unwrap();
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
        let whitening = Whitening::fit(&covariance, WhiteningCentre::Origin).unwrap();
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
        let whitening = Whitening::fit(&covariance, WhiteningCentre::Origin).unwrap();
        let mut mean = [10.0f32, 10.0];
        whitening.apply(&mut mean).unwrap();
        assert!(mean[0].hypot(mean[1]) < 1e-5);
    }

    #[test]
    fn fewer_rows_than_dimensions() {
        let mut covariance = CovarianceAccumulator::new(3);
        covariance.add(&[1.0, 2.0, 2.0]).unwrap();
        let whitening = Whitening::fit(&covariance, WhiteningCentre::Origin).unwrap();
        let mut row = [5.0, -1.0, 2.0];
        whitening.apply(&mut row).unwrap();
        assert!(row.iter().all(|v| v.is_finite()));
        assert!(Whitening::fit(&CovarianceAccumulator::new(3), WhiteningCentre::Origin).is_err());
        let mut zeros = CovarianceAccumulator::new(2);
        zeros.add(&[0.0, 0.0]).unwrap();
        assert!(Whitening::fit(&zeros, WhiteningCentre::Origin).is_err());
        assert!(zeros.add(&[1.0]).is_err());
    }

    /// Numbers of NumPy (`benches/peers/whitening.py`), by singular values.
    #[test]
    fn rows_are_whitened_as_by_numpy() {
        let golden: serde_json::Value =
            serde_json::from_slice(include_bytes!("../tests/fixtures/whitening/golden.json"))
                .unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let numbers = |key: &str| -> Vec<f64> {
                let list = case[key].as_array().unwrap().iter();
                list.map(|v| v.as_f64().unwrap()).collect()
            };
            let rows = |key: &str| numbers(key).iter().map(|&v| v as f32).collect::<Vec<_>>();
            let dim = case["dim"].as_u64().unwrap() as usize;
            let whitening = Whitening::fit_rows(&rows("train"), dim).unwrap();
            let near = |what: &str, found: f64, expected: f64, scale: f64| {
                let error = (found - expected).abs() / scale;
                assert!(error < 2e-5, "{name} {what}: {found} {expected}");
            };
            for (found, expected) in whitening.mean.iter().zip(numbers("mean")) {
                near("mean", *found, expected, 1.0);
            }
            let greatest = numbers("deviations")[0];
            for (found, expected) in whitening.deviations.iter().zip(numbers("deviations")) {
                near("deviation", *found, expected, greatest);
            }
            // Among equal deviations components are free; distances are not.
            let mut both = [rows("train"), rows("test")].concat();
            whitening.apply(&mut both).unwrap();
            let all: Vec<&[f32]> = both.chunks(dim).collect();
            let expected = numbers("distances");
            let greatest = expected.iter().copied().fold(0.0, f64::max);
            let mut expected = expected.into_iter();
            for (i, a) in all.iter().enumerate() {
                for b in &all[..i] {
                    let pairs = a.iter().zip(*b);
                    let squares = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
                    let found = squares.sum::<f64>().sqrt();
                    near("distance", found, expected.next().unwrap(), greatest);
                }
            }
            assert_eq!(expected.next(), None);
        }
    }

    #[test]
    fn a_row_is_the_same_among_any_number() {
        for dim in [3, 40] {
            // Fewer rows than dimensions: what is left of dead directions is rounding.
            let train = rows(19, dim);
            let whitening = Whitening::fit_rows(&train, dim).unwrap();
            let mut all = train.clone();
            whitening.apply(&mut all).unwrap();
            for count in [1, 2, 5, 6, 7] {
                let mut some = train.clone();
                for part in some.chunks_mut(count * dim) {
                    whitening.apply(part).unwrap();
                }
                assert!(some == all, "{count} of width {dim}");
            }
        }
    }

    #[test]
    fn dead_directions_do_not_explode() {
        // Spread over the first of three directions only, and noise of rounding over the second.
        let train: Vec<f32> = (0..200)
            .flat_map(|i| {
                [
                    (i as f32 * 0.7).sin() + 2.0,
                    1.0 + 1e-7 * (i % 2) as f32,
                    5.0,
                ]
            })
            .collect();
        let whitening = Whitening::fit_rows(&train, 3).unwrap();
        let floor = whitening.deviations[0] * FLOOR.sqrt();
        for deviation in &whitening.deviations[1..] {
            assert!((deviation / floor - 1.0).abs() < 1e-6);
        }
        let mut other = [2.0, 1.0 + 1e-6, 5.0];
        whitening.apply(&mut other).unwrap();
        assert!(other.iter().all(|v| v.abs() < 0.1), "{other:?}");
        // Without any difference there is nothing to fit.
        assert!(Whitening::fit_rows(&[1.0; 6], 3).is_err());
        assert!(Whitening::fit_rows(&[1.0, 2.0, 3.0], 3).is_err());
        assert!(Whitening::fit_rows(&[], 3).is_err());
        assert!(Whitening::fit_rows(&[f32::NAN, 0.0, 1.0], 3).is_err());
        assert!(whitening.apply(&mut [0.0; 4]).is_err());
    }
}
