//! The DINO loss (Caron et al., equation 3) and the teacher's targets, row by row.

use crate::parallel::{by_rows, light_step};
use crate::simd::{LANES, exp, fma, multiversioned, sum_lanes};

multiversioned! {
    /// `y ← softmax((x − shift) · scale)` of one row.
    fn softmax_row(x: &[f32], shift: &[f32], scale: f32, y: &mut [f32]) {
        for ((y, x), c) in y.iter_mut().zip(x).zip(shift) {
            *y = (x - c) * scale;
        }
        let max = max_of(y);
        let mut lanes = [0.0; LANES];
        let (blocks, rest) = y.as_chunks_mut::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                block[i] = exp::<FMA>(block[i] - max);
                lanes[i] += block[i];
            }
        }
        let mut sum = sum_lanes(lanes);
        for y in rest {
            *y = exp::<FMA>(*y - max);
            sum += *y;
        }
        let inverse = 1.0 / sum;
        for y in y {
            *y *= inverse;
        }
    }

    /// `Σ q·(lse(z) − z)` for `z = x · scale`, and its gradient in `x`, times `weight`:
    /// `gradient ← (Σq · softmax(z) − q) · scale · weight`. `gradient` holds `q` before.
    fn cross_entropy_row(x: &[f32], scale: f32, weight: f32, gradient: &mut [f32]) -> f32 {
        let max = max_of(x);
        let (mut mass, mut dot, mut sum) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        let (blocks, rest) = x.as_chunks::<LANES>();
        let (q_blocks, q_rest) = gradient.as_chunks::<LANES>();
        for (x, q) in blocks.iter().zip(q_blocks) {
            for i in 0..LANES {
                let z = (x[i] - max) * scale;
                mass[i] += q[i];
                dot[i] = fma::<FMA>(q[i], z, dot[i]);
                sum[i] += exp::<FMA>(z);
            }
        }
        let (mut mass, mut dot, mut sum) = (sum_lanes(mass), sum_lanes(dot), sum_lanes(sum));
        for (x, q) in rest.iter().zip(q_rest) {
            let z = (x - max) * scale;
            mass += q;
            dot += q * z;
            sum += exp::<FMA>(z);
        }
        let (factor, share) = (scale * weight, mass / sum);
        for (g, x) in gradient.iter_mut().zip(x) {
            let e = exp::<FMA>((x - max) * scale);
            *g = (share * e - *g) * factor;
        }
        mass * sum.ln() - dot
    }
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
