//! Matrices whose singular values are brought near to 1, for the optimiser Muon.

use crate::channels_last::channels_last;
use crate::linear::{input_gradient, linear};
use crate::update::{norm, scale};

/// The coefficients of `x ← a·x + b·(x·xᵀ)·x + c·(x·xᵀ)²·x`, and how often it is applied (Keller Jordan, "Muon: An
/// optimizer for hidden layers in neural networks", 2024).
const COEFFICIENTS: [f32; 3] = [3.4445, -4.775, 2.0315];
const STEPS: usize = 5;

/// The norm by which a matrix is divided is at least this.
const LEAST_NORM: f32 = 1e-7;

/// `x` `[rows, columns]` with singular values of about 1 (0.7 to 1.2, where they are at least a few thousandths of
/// its norm) and the same singular vectors, by five steps of a Newton–Schulz iteration. A matrix of zeros stays one.
pub fn newton_schulz(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert!(rows > 0 && columns > 0 && x.len() == rows * columns);
    if rows > columns {
        // Rows in the place of channels: a transposition.
        let wide = iterate(channels_last(x, rows, columns), columns, rows);
        return channels_last(&wide, columns, rows);
    }
    iterate(x.to_vec(), rows, columns)
}

/// [`newton_schulz`] of a matrix that is at least as wide as it is high.
fn iterate(mut x: Vec<f32>, rows: usize, columns: usize) -> Vec<f32> {
    let length = norm(&x).max(LEAST_NORM);
    scale(&mut x, 1.0 / length);
    let mut gram = linear(&x, &x, None, columns);
    // With many columns it is cheaper to gather the factors of all steps and to multiply `x` once. They are polynomials
    // of one matrix, so their order does not matter.
    let gathers = columns >= 2 * rows;
    let mut gathered: Option<Vec<f32>> = None;
    for step in 1..=STEPS {
        let factor = factor(&gram, rows);
        let last = step == STEPS;
        if !gathers {
            x = product(&factor, &x, columns);
            if !last {
                gram = linear(&x, &x, None, columns);
            }
            continue;
        }
        if !last {
            gram = product(&product(&gram, &factor, rows), &factor, rows);
        }
        gathered = Some(match gathered {
            Some(before) => product(&before, &factor, rows),
            None => factor,
        });
    }
    match gathered {
        Some(factor) => product(&factor, &x, columns),
        None => x,
    }
}

/// `a · b`, `b` with `columns` columns.
fn product(a: &[f32], b: &[f32], columns: usize) -> Vec<f32> {
    input_gradient(a, b, columns)
}

/// `a·1 + b·g + c·g²`, `g` `[n, n]`.
///
/// Rounding makes `g` a little asymmetric. `g·gᵀ` in place of `g·g` would not be a polynomial of it, and the difference
/// would grow more than tenfold in each step where singular values are small.
fn factor(g: &[f32], n: usize) -> Vec<f32> {
    let [a, b, c] = COEFFICIENTS;
    let mut factor = product(g, g, n);
    for (value, g) in factor.iter_mut().zip(g) {
        *value = b * g + c * *value;
    }
    factor
        .iter_mut()
        .step_by(n + 1)
        .for_each(|value| *value += a);
    factor
}
