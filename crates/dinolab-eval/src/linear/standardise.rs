//! Standardisation of features: zero mean, unit variance.

use dinolab_data::slice::check_finite;

use super::LinearClassifier;
use crate::feature_rows::{FeatureRows, RowsInMemory, for_blocks};
use crate::{Error, Result};

/// The mean and standard deviation of each feature dimension over a training set.
#[derive(Clone, Debug, PartialEq)]
pub struct Standardiser {
    /// `[D]`.
    pub mean: Vec<f32>,
    /// `[D]`; 1 for a dimension that is constant.
    pub deviation: Vec<f32>,
}

impl Standardiser {
    /// Computes the statistics of features `[N, dim]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] without rows, [`Error::Slice`] for a length that is not a multiple of
    /// `dim` or values that are not finite.
    pub fn of(features: &[f32], dim: usize) -> Result<Self> {
        match features {
            [] => Err(empty()),
            features => Self::of_rows(&RowsInMemory::new(features, dim)?),
        }
    }

    /// Computes the statistics of features that are read twice, some rows at a time.
    ///
    /// # Errors
    /// [`Error::Invalid`] without rows; values that are not finite; rows that cannot be read.
    pub fn of_rows(rows: &dyn FeatureRows) -> Result<Self> {
        let (count, dim) = (rows.len() as f64, rows.dim());
        if rows.is_empty() || dim == 0 {
            return Err(empty());
        }
        let (mut sum, mut squares) = (vec![0f64; dim], vec![0f64; dim]);
        for_blocks(rows, |_, block| {
            check_finite("features", block)?;
            for row in block.chunks_exact(dim) {
                sum.iter_mut()
                    .zip(row)
                    .for_each(|(s, v)| *s += f64::from(*v));
            }
            Ok(())
        })?;
        let mean: Vec<f64> = sum.iter().map(|s| s / count).collect();
        for_blocks(rows, |_, block| {
            for row in block.chunks_exact(dim) {
                for ((s, v), m) in squares.iter_mut().zip(row).zip(&mean) {
                    *s += (f64::from(*v) - m).powi(2);
                }
            }
            Ok(())
        })?;
        let deviation = squares.iter().map(|s| (s / count).sqrt());
        Ok(Self {
            deviation: deviation
                .map(|d| if d > 1e-12 { d as f32 } else { 1.0 })
                .collect(),
            mean: mean.into_iter().map(|m| m as f32).collect(),
        })
    }

    /// Standardises features `[N, D]` in place.
    pub fn apply(&self, features: &mut [f32]) {
        for row in features.chunks_exact_mut(self.mean.len()) {
            for ((v, mean), deviation) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *v = (*v - mean) / deviation;
            }
        }
    }

    /// Returns the layer that maps plain features as `layer` maps standardised ones.
    pub fn fold_into(&self, layer: &LinearClassifier) -> LinearClassifier {
        let mut folded = layer.clone();
        let rows = folded.weight.chunks_exact_mut(layer.dim);
        for (row, bias) in rows.zip(&mut folded.bias) {
            let mut shift = 0f64;
            for ((w, mean), deviation) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *w /= deviation;
                shift += f64::from(*w) * f64::from(*mean);
            }
            *bias = (f64::from(*bias) - shift) as f32;
        }
        folded
    }
}

fn empty() -> Error {
    Error::invalid("features", "the set is empty")
}

/// Rows that are standardised as they are read.
#[derive(Clone, Debug)]
pub struct StandardisedRows<R> {
    /// The rows as they are.
    pub rows: R,
    /// Their statistics.
    pub standardiser: Standardiser,
}

impl<R: FeatureRows> FeatureRows for StandardisedRows<R> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn dim(&self) -> usize {
        self.rows.dim()
    }

    fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        self.rows.read(first, out)?;
        self.standardiser.apply(out);
        Ok(())
    }

    fn gather(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.rows.gather(rows, out)?;
        self.standardiser.apply(out);
        Ok(())
    }
}
