//! Cross entropies of outputs over prototypes and the teacher's targets, row by row: the DINO loss (Caron et
//! al., equation 3) and that of single patches.

use crate::parallel::{by_rows, light_step};
use crate::simd::{LANES, exp, multiversioned, sum_lanes};

multiversioned! {
    /// `y ← softmax((x − shift) · scale)` of one row.
    fn softmax_row(x: &[f32], shift: &[f32], scale: f32, y: &mut [f32]) {
        for ((y, x), c) in y.iter_mut().zip(x).zip(shift) {
            *y = (x - c) * scale;
        }
        let max = max_of(y);
        // By itself, since a sum in the same loop keeps the exponential from vectors.
        for y in y.iter_mut() {
            *y = exp::<FMA>(*y - max);
        }
        let sum = sum_of(y);
        let inverse = 1.0 / sum;
        for y in y {
            *y *= inverse;
        }
    }

    /// `Σ q·(lse(z) − z)` for `z = x · scale`, and its gradient in `x`, times `weight`:
    /// `gradient ← (Σq · softmax(z) − q) · scale · weight`. `gradient` holds `q` before.
    fn cross_entropy_row(x: &[f32], scale: f32, weight: f32, gradient: &mut [f32]) -> f32 {
        let max = max_of(x);
        let (mut mass, mut dot, mut sum) = (0.0, 0.0, 0.0);
        let mut scaled = [0.0; RUN];
        let mut powers = [0.0; RUN];
        for (x, q) in x.chunks(RUN).zip(gradient.chunks(RUN)) {
            let (scaled, powers) = (&mut scaled[..x.len()], &mut powers[..x.len()]);
            for ((z, e), x) in scaled.iter_mut().zip(powers.iter_mut()).zip(x) {
                *z = (x - max) * scale;
                *e = exp::<FMA>(*z);
            }
            mass += sum_of(q);
            sum += sum_of(powers);
            for (z, q) in scaled.iter_mut().zip(q) {
                *z *= q;
            }
            dot += sum_of(scaled);
        }
        let (factor, share) = (scale * weight, mass / sum);
        for (g, x) in gradient.iter_mut().zip(x) {
            let e = exp::<FMA>((x - max) * scale);
            *g = (share * e - *g) * factor;
        }
        mass * sum.ln() - dot
    }
}

/// Values whose exponentials are kept beside them while a row is summed.
const RUN: usize = 256;

/// The sum in a fixed order.
#[inline(always)]
fn sum_of(x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            lanes[i] += block[i];
        }
    }
    sum_lanes(lanes) + rest.iter().sum::<f32>()
}

#[inline(always)]
fn max_of(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            lanes[i] = if block[i] > lanes[i] {
                block[i]
            } else {
                lanes[i]
            };
        }
    }
    rest.iter()
        .copied()
        .chain(lanes)
        .fold(f32::NEG_INFINITY, f32::max)
}

/// `softmax((x − shift) · scale)` over the rows of `x` `[R, K]`, `shift` `[K]` → `[R, K]`.
pub fn softmax_rows(x: &[f32], shift: &[f32], scale: f32) -> Vec<f32> {
    let k = shift.len();
    assert!(k > 0 && x.len().is_multiple_of(k));
    let ([y], _) = by_rows(x.len() / k, light_step(2 * k), [k], |rows, [y]| {
        let x = &x[rows.start * k..rows.end * k];
        for (x, y) in x.chunks_exact(k).zip(y.chunks_exact_mut(k)) {
            softmax_row(x, shift, scale, y);
        }
    });
    y
}

/// Sizes of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossShape {
    /// Images, `B`.
    pub batch: usize,
    /// Views of each image, `V`, the two global ones first.
    pub views: usize,
    /// Prototypes, `K`.
    pub prototypes: usize,
}

/// Mean cross entropy over pairs of a teacher view and another student view and over the
/// batch, and its gradient in the student's logits.
///
/// `student` `[V·B, K]` are raw logits, view-major, the two global views first; `targets`
/// `[2·B, K]` the teacher's probabilities of the global views. Cross entropy is linear in
/// the targets, so each student row meets the sum of the targets it is paired with.
///
/// Returns the loss and the gradient `[V·B, K]`.
pub fn dino_loss(
    student: &[f32],
    targets: &[f32],
    shape: LossShape,
    temperature: f32,
) -> (f32, Vec<f32>) {
    let LossShape {
        batch,
        views,
        prototypes: k,
    } = shape;
    assert!(views >= 2 && k > 0);
    assert!(student.len() == views * batch * k && targets.len() == 2 * batch * k);
    let weight = 1.0 / ((2 * views - 2) * batch) as f32;
    let ([gradient], losses) =
        by_rows(views * batch, light_step(2 * k), [k], |rows, [gradient]| {
            let mut loss = 0.0;
            for (row, gradient) in rows.zip(gradient.chunks_exact_mut(k)) {
                let (view, image) = (row / batch, row % batch);
                let target = |global: usize| &targets[(global * batch + image) * k..][..k];
                match view {
                    0 => gradient.copy_from_slice(target(1)),
                    1 => gradient.copy_from_slice(target(0)),
                    _ => {
                        gradient.copy_from_slice(target(0));
                        crate::simd::add_to(gradient, target(1));
                    }
                }
                let x = &student[row * k..][..k];
                loss += f64::from(cross_entropy_row(x, 1.0 / temperature, weight, gradient));
            }
            loss
        });
    let loss = losses.into_iter().sum::<f64>() * f64::from(weight);
    (loss as f32, gradient)
}

/// Sum over rows of a weight times the cross entropy, and its gradient in the student's logits.
///
/// `student` `[R, K]` are raw logits, `targets` `[R, K]` the teacher's probabilities, `weights` `[R]`. iBOT
/// (Zhou et al., arXiv 2111.07832, equation 2) is this sum over masked patches.
///
/// Returns the loss and the gradient `[R, K]`; 0 without rows.
pub fn weighted_cross_entropy(
    student: &[f32],
    targets: &[f32],
    weights: &[f32],
    temperature: f32,
) -> (f32, Vec<f32>) {
    let rows = weights.len();
    if rows == 0 {
        return (0.0, Vec::new());
    }
    let k = student.len() / rows;
    assert!(k > 0 && student.len() == rows * k && targets.len() == rows * k);
    let ([gradient], losses) = by_rows(rows, light_step(2 * k), [k], |rows, [gradient]| {
        let mut loss = 0.0;
        for (row, gradient) in rows.zip(gradient.chunks_exact_mut(k)) {
            gradient.copy_from_slice(&targets[row * k..][..k]);
            let (x, weight) = (&student[row * k..][..k], weights[row]);
            let own = cross_entropy_row(x, 1.0 / temperature, weight, gradient);
            loss += f64::from(weight) * f64::from(own);
        }
        loss
    });
    (losses.into_iter().sum::<f64>() as f32, gradient)
}
