//! Standardisation of features: zero mean, unit variance.

use dinolab_data::slice::check_length;

use super::LinearClassifier;
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
    /// `dim`.
    pub fn of(features: &[f32], dim: usize) -> Result<Self> {
        let rows = features.len() / dim.max(1);
        if rows == 0 {
            return Err(Error::invalid("features", "the set is empty"));
        }
        check_length("features", rows * dim, features.len())?;
        let (mut sum, mut squares) = (vec![0f64; dim], vec![0f64; dim]);
        for row in features.chunks_exact(dim) {
            sum.iter_mut()
                .zip(row)
                .for_each(|(s, v)| *s += f64::from(*v));
        }
        let mean: Vec<f64> = sum.iter().map(|s| s / rows as f64).collect();
        for row in features.chunks_exact(dim) {
            for ((s, v), m) in squares.iter_mut().zip(row).zip(&mean) {
                *s += (f64::from(*v) - m).powi(2);
            }
        }
        let deviation = squares.iter().map(|s| (s / rows as f64).sqrt());
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
