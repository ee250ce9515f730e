//! Sinkhorn–Knopp targets (SwAV, Caron et al., arXiv 2006.09882).

use burn::tensor::Tensor;

use super::fused;

/// Iterations, as SwAV and DINOv2 take.
const ITERATIONS: usize = 3;

/// Targets that use all prototypes alike, in place of [`super::teacher_probabilities`]: the
/// teacher's `logits` `[R, K]` of a whole batch → `[R, K]`, rows of sum 1. See
/// [`dinolab_kernels::sinkhorn`].
pub fn sinkhorn(logits: Tensor<2>, temperature: f64) -> Tensor<2> {
    if !fused::applies(&logits) || logits.is_autodiff() {
        return composite(logits, temperature);
    }
    fused::targets::sinkhorn(logits, temperature, ITERATIONS)
}

/// [`sinkhorn`] of primitives.
pub fn composite(logits: Tensor<2>, temperature: f64) -> Tensor<2> {
    let [rows, k] = logits.dims();
    let largest = logits.clone().max().reshape([1, 1]);
    let mut q = ((logits - largest) / temperature).exp();
    // A sum of 0 belongs to values that are all 0.
    let scaled = |q: Tensor<2>, dim: usize, to: f64| {
        let sum = q
            .clone()
            .sum_dim(dim)
            .clamp_min(f64::from(f32::MIN_POSITIVE));
        q / sum * to
    };
    for _ in 0..ITERATIONS {
        q = scaled(q, 0, 1.0 / k as f64);
        q = scaled(q, 1, 1.0 / rows as f64);
    }
    scaled(q, 1, 1.0)
}
