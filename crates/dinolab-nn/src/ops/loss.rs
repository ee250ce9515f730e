//! The DINO loss from raw logits (paper, equation 3 and algorithm 1).

use burn::tensor::{
    Tensor, TensorData,
    activation::{log_softmax, softmax},
};
use dinolab_kernels::{self as kernels, LossShape};

use super::fused;

/// The teacher's targets `softmax((t − c) / T_t)`: `logits` `[R, K]`, `centre` `[K]` → `[R, K]`.
pub fn teacher_probabilities(logits: Tensor<2>, centre: Tensor<1>, temperature: f64) -> Tensor<2> {
    if !fused::applies(&logits) || logits.is_autodiff() {
        return composite_probabilities(logits, centre, temperature);
    }
    fused::targets::probabilities(logits, centre, temperature)
}

/// [`teacher_probabilities`] of primitives.
pub fn composite_probabilities(
    logits: Tensor<2>,
    centre: Tensor<1>,
    temperature: f64,
) -> Tensor<2> {
    let k = centre.dims()[0];
    softmax((logits - centre.reshape([1, k])) / temperature, 1)
}

/// Mean cross entropy over all pairs of a teacher view and another student view, and over
/// the batch.
///
/// `student` `[V·B, K]` are raw logits of all views, view-major, the two global ones first;
/// `targets` `[2·B, K]` the teacher's probabilities of the global views, in the same order.
/// Returns a scalar `[1]`. Gradients reach the student alone.
///
/// The cross entropy is linear in the targets, so each student view needs only the *sum* of
/// the targets it is paired with: no temporaries per pair.
pub fn dino_loss(
    student: Tensor<2>,
    targets: Tensor<2>,
    batch: usize,
    student_temperature: f64,
) -> Tensor<1> {
    if !fused::applies(&student) {
        return composite(student, targets, batch, student_temperature);
    }
    let [rows, prototypes] = student.dims();
    let shape = LossShape {
        batch,
        views: rows / batch,
        prototypes,
    };
    let targets = fused::plain(targets);
    fused::scalar::scalar(student, move |student| {
        let temperature = student_temperature as f32;
        kernels::dino_loss(student, fused::values(&targets), shape, temperature)
    })
}

/// Sum over rows of a weight times the cross entropy: the loss of masked patches (iBOT, equation 2).
///
/// `student` `[R, K]` are raw logits, `targets` `[R, K]` the teacher's probabilities, `weights` `[R]`; there
/// is a row. Returns a scalar `[1]`. Gradients reach the student alone.
pub fn weighted_cross_entropy(
    student: Tensor<2>,
    targets: Tensor<2>,
    weights: Vec<f32>,
    student_temperature: f64,
) -> Tensor<1> {
    if !fused::applies(&student) {
        return composite_weighted(student, targets, weights, student_temperature);
    }
    let targets = fused::plain(targets);
    fused::scalar::scalar(student, move |student| {
        let temperature = student_temperature as f32;
        kernels::weighted_cross_entropy(student, fused::values(&targets), &weights, temperature)
    })
}

/// [`weighted_cross_entropy`] of primitives.
pub fn composite_weighted(
    student: Tensor<2>,
    targets: Tensor<2>,
    weights: Vec<f32>,
    student_temperature: f64,
) -> Tensor<1> {
    let rows = weights.len();
    let weights = Tensor::<1>::from_data(TensorData::new(weights, [rows]), &student.device());
    let log_p = log_softmax(student / student_temperature, 1);
    // Row sums first: a fixed order of additions, whatever the number of threads.
    let per_row = (targets.detach() * log_p).sum_dim(1).reshape([rows]);
    (per_row * weights).sum() * -1.0
}

/// [`dino_loss`] of primitives.
pub fn composite(
    student: Tensor<2>,
    targets: Tensor<2>,
    batch: usize,
    student_temperature: f64,
) -> Tensor<1> {
    let targets = targets.detach();
    let [rows, k] = student.dims();
    let views = rows / batch;
    let pairs = 2 * views - 2;
    let log_p = log_softmax(student / student_temperature, 1).reshape([views, batch, k]);
    let first = targets.clone().narrow(0, 0, batch).reshape([1, batch, k]);
    let second = targets.narrow(0, batch, batch).reshape([1, batch, k]);
    let mut target_sums = vec![second.clone(), first.clone()];
    if views > 2 {
        target_sums.push((first + second).expand([views - 2, batch, k]));
    }
    let weighted = Tensor::cat(target_sums, 0) * log_p;
    // Row sums first: a fixed order of additions, whatever the number of threads.
    let per_row = weighted.reshape([rows, k]).sum_dim(1).reshape([rows]);
    per_row.sum() * (-1.0 / (pairs * batch) as f64)
}
