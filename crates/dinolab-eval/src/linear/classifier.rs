//! The linear layer.

use dinolab_data::slice::check_length;
use dinolab_nn::init::Init;
use rayon::prelude::*;

use crate::cross_entropy::softmax;
use crate::{Error, Result};

/// Rows per matrix multiplication.
const ROWS: usize = 512;

/// A linear layer, `weight · feature + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearClassifier {
    /// Width of a feature, `D`.
    pub dim: usize,
    /// `[K, D]`.
    pub weight: Vec<f32>,
    /// `[K]`.
    pub bias: Vec<f32>,
}

impl LinearClassifier {
    /// Initialises weights from a normal distribution of standard deviation 0.01 and bias with 0.
    pub fn new(dim: usize, classes: usize, seed: u64) -> Self {
        Self {
            dim,
            weight: Init::new(seed).truncated_normal(classes * dim, 0.01),
            bias: vec![0.0; classes],
        }
    }

    /// Returns the number of classes, `K`.
    pub fn classes(&self) -> usize {
        self.bias.len()
    }

    /// Computes logits `[N, K]` of features `[N, D]`.
    ///
    /// # Errors
    /// [`Error::Slice`] for a length that is not a multiple of the width, [`Error::Invalid`] for an
    /// empty layer.
    pub fn logits(&self, features: &[f32]) -> Result<Vec<f32>> {
        if self.dim == 0 || self.classes() == 0 {
            return Err(Error::invalid("classifier", "has no weights"));
        }
        let rows = features.len() / self.dim;
        check_length("features", rows * self.dim, features.len())?;
        let parts: Vec<Vec<f32>> = features
            .par_chunks(ROWS * self.dim)
            .map(|part| dinolab_kernels::linear(part, &self.weight, Some(&self.bias), self.dim))
            .collect();
        Ok(parts.concat())
    }

    /// Computes probabilities `[N, K]` of features `[N, D]`.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn probabilities(&self, features: &[f32]) -> Result<Vec<f32>> {
        let mut logits = self.logits(features)?;
        softmax(&mut logits, self.classes());
        Ok(logits)
    }
}
