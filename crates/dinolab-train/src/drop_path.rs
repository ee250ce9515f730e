//! Stochastic depth whose draws do not depend on how a batch is split.

use dinolab_data::random::{Purpose, Random};
use dinolab_nn::vit::DropPath;

/// Keep factors of every view of every image, view-major, drawn from (seed, step, view, image).
pub struct DropPathFactors {
    /// `[block][branch][sample]`.
    factors: Vec<[Vec<f32>; 2]>,
}

/// The rate of each block: from 0 for the first to `rate` for the last, in equal steps.
pub fn rates(rate: f64, depth: usize) -> Vec<f64> {
    (0..depth)
        .map(|i| rate * i as f64 / (depth - 1).max(1) as f64)
        .collect()
}

impl DropPathFactors {
    /// Draws for `views` views of images number `images` of the batch. The same
    /// image of the same view gets the same draws however the batch is split into micro-batches.
    pub fn draw(
        rates: &[f64],
        seed: u64,
        step: u64,
        views: usize,
        images: std::ops::Range<usize>,
    ) -> Self {
        let samples = views * images.len();
        let mut factors: Vec<[Vec<f32>; 2]> = rates
            .iter()
            .map(|_| [Vec::with_capacity(samples), Vec::with_capacity(samples)])
            .collect();
        for view in 0..views {
            for image in images.clone() {
                let sample = (view as u64) << 32 | image as u64;
                let mut random = Random::new(seed, step, sample, Purpose::DropPath);
                for (block, rate) in factors.iter_mut().zip(rates) {
                    for branch in block {
                        let keep = 1.0 - rate;
                        let kept = random.uniform(0.0, 1.0) < keep;
                        branch.push(if kept { (1.0 / keep) as f32 } else { 0.0 });
                    }
                }
            }
        }
        Self { factors }
    }
}

impl DropPath for DropPathFactors {
    fn factors(&self, block: usize, branch: usize) -> Option<Vec<f32>> {
        let factors = &self.factors[block][branch];
        // A block of rate 0 keeps everything: no multiplication by ones.
        factors.iter().any(|&f| f != 1.0).then(|| factors.clone())
    }
}
