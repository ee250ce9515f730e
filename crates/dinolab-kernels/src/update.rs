//! What happens to parameters at the end of a step, each in one pass over memory.

use rayon::prelude::*;

use crate::parallel::{by_rows, light_step};
use crate::simd::{LANES, fma, multiversioned, sum_lanes};

/// Values per task.
const STEP: usize = 32_768;

multiversioned! {
    fn sum_of_squares(x: &[f32]) -> f32 {
        let mut lanes = [0.0; LANES];
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                lanes[i] = fma::<FMA>(block[i], block[i], lanes[i]);
            }
        }
        sum_lanes(lanes) + rest.iter().map(|x| x * x).sum::<f32>()
    }

    fn scale_values(x: &mut [f32], factor: f32) {
        for x in x {
            *x *= factor;
        }
    }

    fn ema_values(teacher: &[f32], student: &[f32], keep: f32, take: f32, new: &mut [f32]) {
        for ((new, t), s) in new.iter_mut().zip(teacher).zip(student) {
            *new = t * keep + s * take;
        }
    }

    fn adamw_values(
        value: &[f32], grad: &[f32], m: &mut [f32], v: &mut [f32], new: &mut [f32], step: &AdamWStep,
    ) {
        let AdamWStep { beta1, beta2, eps, decay, rate, root_correction2 } = *step;
        let (take1, take2) = (step.take1(), step.take2());
        let state = m.iter_mut().zip(v.iter_mut());
        for (((new, value), g), (m, v)) in new.iter_mut().zip(value).zip(grad).zip(state) {
            *m = *m * beta1 as f32 + g * take1;
            *v = *v * beta2 as f32 + g * g * take2;
            let denominator = v.sqrt() / root_correction2 as f32 + eps as f32;
            *new = value * decay as f32 - *m / denominator * rate as f32;
        }
    }
}

/// The Euclidean norm of `x`.
pub fn norm(x: &[f32]) -> f32 {
    // Short runs in single precision, their sums in double.
    let (_, sums) = by_rows(x.len(), STEP, [], |range, []| {
        x[range]
            .chunks(2048)
            .map(|part| f64::from(sum_of_squares(part)))
            .sum::<f64>()
    });
    sums.into_iter().sum::<f64>().sqrt() as f32
}

/// Multiplies `x` by `factor` in place.
pub fn scale(x: &mut [f32], factor: f32) {
    x.par_chunks_mut(STEP).for_each(|x| scale_values(x, factor));
}

/// `momentum · teacher + (1 − momentum) · student`.
pub fn ema(teacher: &[f32], student: &[f32], momentum: f64) -> Vec<f32> {
    assert_eq!(teacher.len(), student.len());
    let (keep, take) = (momentum as f32, (1.0 - momentum) as f32);
    let ([new], _) = by_rows(teacher.len(), light_step(1), [1], |range, [new]| {
        ema_values(&teacher[range.clone()], &student[range], keep, take, new);
    });
    new
}

/// The numbers of one step of AdamW (Loshchilov & Hutter).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// What remains of the value: 1 − learning rate · weight decay.
    pub decay: f64,
    /// Learning rate over the first moment's bias correction.
    pub rate: f64,
    /// Root of the second moment's bias correction.
    pub root_correction2: f64,
}

impl AdamWStep {
    fn take1(&self) -> f32 {
        (1.0 - self.beta1) as f32
    }

    fn take2(&self) -> f32 {
        (1.0 - self.beta2) as f32
    }
}

/// The new values; the moments `m` and `v` change in place. All have the same length.
pub fn adamw(
    value: &[f32],
    grad: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    step: &AdamWStep,
) -> Vec<f32> {
    let n = value.len();
    assert!(grad.len() == n && m.len() == n && v.len() == n);
    let (m, v) = (crate::parallel::Parts::of(m), crate::parallel::Parts::of(v));
    let ([new], _) = by_rows(n, STEP, [1], |range, [new]| {
        // SAFETY: borrowed for this call, and each task has its own range.
        let (m, v) = unsafe { (m.written(range.clone()), v.written(range.clone())) };
        adamw_values(&value[range.clone()], &grad[range], m, v, new, step);
    });
    new
}
