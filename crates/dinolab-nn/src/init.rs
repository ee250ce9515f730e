//! The reference's initial weights.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// What layer scale starts from in a network of `depth` blocks (Touvron et al., arXiv 2103.17239, section 2):
/// small enough for deep ones to be trained, no smaller than that, since what starts from 1e-5 learns late.
pub(crate) const fn layer_scale(depth: usize) -> f32 {
    match depth {
        ..=18 => 0.1,
        19..=24 => 1e-5,
        25.. => 1e-6,
    }
}

/// A seeded source of initial weights. Values are drawn in the order of construction,
/// so that the same seed and the same configuration give the same network everywhere.
pub struct Init(ChaCha8Rng);

impl Init {
    /// A source for `seed`.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal with deviation `std`, cut at the absolute values ±2 (as the reference has
    /// it, which at 0.02 cuts nothing).
    pub fn truncated_normal(&mut self, len: usize, std: f64) -> Vec<f32> {
        (0..len)
            .map(|_| {
                loop {
                    // Box–Muller; 1 − u keeps the logarithm finite.
                    let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
                    let value = std * radius * (std::f64::consts::TAU * self.unit()).cos();
                    if value.abs() <= 2.0 {
                        break value as f32;
                    }
                }
            })
            .collect()
    }

    /// Uniform in ±1/√`fan_in`: PyTorch's default for linear layers and convolutions.
    pub fn uniform_fan_in(&mut self, len: usize, fan_in: usize) -> Vec<f32> {
        let bound = 1.0 / (fan_in as f64).sqrt();
        (0..len)
            .map(|_| ((2.0 * self.unit() - 1.0) * bound) as f32)
            .collect()
    }
}
