//! What happens to parameters at the end of a step: clipping, AdamW and the teacher in one pass.

use rayon::prelude::*;

use crate::parallel::by_rows;
use crate::simd::{dot, multiversioned};

/// Values per task.
const STEP: usize = 32_768;

multiversioned! {
    fn sum_of_squares(x: &[f32]) -> f32 {
        dot::<FMA>(x, x)
    }

    fn scale_values(x: &mut [f32], factor: f32) {
        for x in x {
            *x *= factor;
        }
    }

    fn ema_values(teacher: &mut [f32], student: &[f32], step: EmaStep) {
        let (keep, take) = step.shares();
        for (t, s) in teacher.iter_mut().zip(student) {
            *t = *t * keep + s * take;
        }
    }

    fn adamw_values(
        value: &mut [f32], teacher: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32],
        step: &AdamWStep, ema: EmaStep,
    ) {
        let AdamWStep { clip, beta1, beta2, eps, decay, rate, root_correction2 } = *step;
        let (take1, take2) = (step.take1(), step.take2());
        let (keep, take) = ema.shares();
        let state = m.iter_mut().zip(v.iter_mut());
        let values = value.iter_mut().zip(teacher.iter_mut());
        for (((value, teacher), g), (m, v)) in values.zip(grad).zip(state) {
            let g = g * clip;
            *m = *m * beta1 as f32 + g * take1;
            *v = *v * beta2 as f32 + g * g * take2;
            let denominator = v.sqrt() / root_correction2 as f32 + eps as f32;
            *value = *value * decay as f32 - *m / denominator * rate as f32;
            *teacher = *teacher * keep + *value * take;
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

/// How far the teacher follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmaStep {
    /// What the teacher keeps of itself, in 0–1.
    pub momentum: f64,
}

impl EmaStep {
    fn shares(self) -> (f32, f32) {
        (self.momentum as f32, (1.0 - self.momentum) as f32)
    }
}

/// `teacher ← momentum · teacher + (1 − momentum) · student`.
pub fn ema(teacher: &mut [f32], student: &[f32], step: EmaStep) {
    assert_eq!(teacher.len(), student.len());
    teacher
        .par_chunks_mut(STEP)
        .zip(student.par_chunks(STEP))
        .for_each(|(teacher, student)| ema_values(teacher, student, step));
}

/// The numbers of one step of AdamW (Loshchilov & Hutter).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// The gradient is multiplied by this.
    pub clip: f32,
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

/// Clips the gradient, moves the moments `m` and `v`, the student's value, and the teacher's
/// after it: one pass over memory for all of it. All have the same length.
pub fn adamw(
    [value, teacher, m, v]: [&mut [f32]; 4],
    grad: &[f32],
    step: &AdamWStep,
    ema: EmaStep,
) {
    let n = value.len();
    assert!(grad.len() == n && teacher.len() == n && m.len() == n && v.len() == n);
    let state = m.par_chunks_mut(STEP).zip(v.par_chunks_mut(STEP));
    let values = value.par_chunks_mut(STEP).zip(teacher.par_chunks_mut(STEP));
    values
        .zip(grad.par_chunks(STEP))
        .zip(state)
        .for_each(|(((value, teacher), grad), (m, v))| {
            adamw_values(value, teacher, grad, m, v, step, ema);
        });
}
