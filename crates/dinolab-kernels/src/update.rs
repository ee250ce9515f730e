//! What happens to parameters at the end of a step: clipping, AdamW and their moving average in one
//! pass.

use rayon::prelude::*;

use crate::parallel::by_rows;
use crate::simd::{dot, multiversioned};

/// Values per task.
pub(crate) const STEP: usize = 32_768;

multiversioned! {
    fn sum_of_squares(x: &[f32]) -> f32 {
        dot::<FMA>(x, x)
    }

    fn scale_values(x: &mut [f32], factor: f32) {
        for x in x {
            *x *= factor;
        }
    }

    fn ema_values(average: &mut [f32], value: &[f32], step: EmaStep) {
        let (keep, take) = step.shares();
        for (average, value) in average.iter_mut().zip(value) {
            *average = *average * keep + value * take;
        }
    }

    fn adamw_values(value: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], step: AdamWStep) {
        let state = m.iter_mut().zip(v.iter_mut());
        for ((value, g), (m, v)) in value.iter_mut().zip(grad).zip(state) {
            step.apply(value, *g, m, v);
        }
    }

    fn adamw_and_ema_values(
        value: &mut [f32], average: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32],
        step: AdamWStep, ema: EmaStep,
    ) {
        let (keep, take) = ema.shares();
        let state = m.iter_mut().zip(v.iter_mut());
        let values = value.iter_mut().zip(average.iter_mut());
        for (((value, average), g), (m, v)) in values.zip(grad).zip(state) {
            step.apply(value, *g, m, v);
            *average = *average * keep + *value * take;
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

/// One step of an exponential moving average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmaStep {
    /// The weight of the average before the step, in 0–1.
    pub momentum: f64,
}

impl EmaStep {
    fn shares(self) -> (f32, f32) {
        (self.momentum as f32, (1.0 - self.momentum) as f32)
    }
}

/// `average ← momentum · average + (1 − momentum) · value`.
pub fn ema(average: &mut [f32], value: &[f32], step: EmaStep) {
    assert_eq!(average.len(), value.len());
    average
        .par_chunks_mut(STEP)
        .zip(value.par_chunks(STEP))
        .for_each(|(average, value)| ema_values(average, value, step));
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
    #[inline(always)]
    fn apply(self, value: &mut f32, grad: f32, m: &mut f32, v: &mut f32) {
        let g = grad * self.clip;
        *m = *m * self.beta1 as f32 + g * (1.0 - self.beta1) as f32;
        *v = *v * self.beta2 as f32 + g * g * (1.0 - self.beta2) as f32;
        let denominator = v.sqrt() / self.root_correction2 as f32 + self.eps as f32;
        *value = *value * self.decay as f32 - *m / denominator * self.rate as f32;
    }
}

/// Clips the gradient and updates the moments `m` and `v` and the value in one pass over memory.
/// All have the same length.
pub fn adamw([value, m, v]: [&mut [f32]; 3], grad: &[f32], step: &AdamWStep) {
    let n = value.len();
    assert!(grad.len() == n && m.len() == n && v.len() == n);
    let state = m.par_chunks_mut(STEP).zip(v.par_chunks_mut(STEP));
    value
        .par_chunks_mut(STEP)
        .zip(grad.par_chunks(STEP))
        .zip(state)
        .for_each(|((value, grad), (m, v))| adamw_values(value, grad, m, v, *step));
}

/// As [`adamw`], and updates a moving average of the value in the same pass.
pub fn adamw_and_ema(
    [value, average, m, v]: [&mut [f32]; 4],
    grad: &[f32],
    step: &AdamWStep,
    ema: EmaStep,
) {
    let n = value.len();
    assert!(grad.len() == n && average.len() == n && m.len() == n && v.len() == n);
    let state = m.par_chunks_mut(STEP).zip(v.par_chunks_mut(STEP));
    let values = value.par_chunks_mut(STEP).zip(average.par_chunks_mut(STEP));
    values
        .zip(grad.par_chunks(STEP))
        .zip(state)
        .for_each(|(((value, average), grad), (m, v))| {
            adamw_and_ema_values(value, average, grad, m, v, *step, ema);
        });
}
