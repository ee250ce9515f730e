//! The optimiser Muon: momentum, its singular values brought near to 1, and the moving average.

use rayon::prelude::*;

use crate::newton_schulz::newton_schulz;
use crate::simd::multiversioned;
use crate::update::{EmaStep, STEP, ema};

multiversioned! {
    fn direction_values(direction: &mut [f32], buffer: &mut [f32], grad: &[f32], step: MuonStep) {
        let (keep, take) = (step.momentum as f32, (1.0 - step.momentum) as f32);
        for ((direction, buffer), g) in direction.iter_mut().zip(buffer.iter_mut()).zip(grad) {
            let g = g * step.clip;
            *buffer = *buffer * keep + g * take;
            // Nesterov's look ahead.
            *direction = g * take + *buffer * keep;
        }
    }

    fn step_values(value: &mut [f32], direction: &[f32], step: MuonStep) {
        let (decay, rate) = (step.decay as f32, step.rate as f32);
        for (value, direction) in value.iter_mut().zip(direction) {
            *value = *value * decay - direction * rate;
        }
    }
}

/// Matrices below each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrices {
    /// How many.
    pub count: usize,
    /// Rows of each one, the outputs of a layer.
    pub rows: usize,
    /// Columns, its inputs.
    pub columns: usize,
}

/// The numbers of one step of Muon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MuonStep {
    /// The gradient is multiplied by this.
    pub clip: f32,
    /// Weight of the momentum before the step, in 0–1.
    pub momentum: f64,
    /// What remains of the value: 1 − learning rate · weight decay.
    pub decay: f64,
    /// What the direction is multiplied by.
    pub rate: f64,
}

/// Clips the gradient, updates the momentum `buffer` and moves the value along its direction, each matrix by
/// [`newton_schulz`]; then updates a moving average of the value, if there is one. All are `[count · rows, columns]`.
pub fn muon(
    [value, buffer]: [&mut [f32]; 2],
    average: Option<(&mut [f32], EmaStep)>,
    grad: &[f32],
    step: &MuonStep,
    matrices: Matrices,
) {
    let Matrices {
        count,
        rows,
        columns,
    } = matrices;
    let n = count * rows * columns;
    assert!(value.len() == n && buffer.len() == n && grad.len() == n);
    let mut direction = vec![0.0; n];
    direction
        .par_chunks_mut(STEP)
        .zip(buffer.par_chunks_mut(STEP))
        .zip(grad.par_chunks(STEP))
        .for_each(|((direction, buffer), grad)| direction_values(direction, buffer, grad, *step));
    let each = direction.chunks_exact(rows * columns);
    for (value, direction) in value.chunks_exact_mut(rows * columns).zip(each) {
        let direction = newton_schulz(direction, rows, columns);
        value
            .par_chunks_mut(STEP)
            .zip(direction.par_chunks(STEP))
            .for_each(|(value, direction)| step_values(value, direction, *step));
    }
    if let Some((average, step)) = average {
        ema(average, value, step);
    }
}
