//! The exact Gaussian error linear unit (Hendrycks & Gimpel), `x · Φ(x)`.

use crate::parallel::{by_rows, light_step};
use crate::simd::{fma, multiversioned, normal};

multiversioned! {
    /// `x ← gelu(x)`.
    pub(crate) fn gelu_in_place(x: &mut [f32]) {
        for x in x {
            *x *= normal::<FMA>(*x).0;
        }
    }

    /// `y ← gelu(x)`.
    pub(crate) fn gelu_into(x: &[f32], y: &mut [f32]) {
        for (x, y) in x.iter().zip(y) {
            *y = x * normal::<FMA>(*x).0;
        }
    }

    /// `y ← gelu(x)`, `derivative ← gelu′(x) = Φ(x) + x·φ(x)`.
    fn both_into(x: &[f32], y: &mut [f32], derivative: &mut [f32]) {
        for ((&x, y), d) in x.iter().zip(y).zip(derivative) {
            let (cdf, pdf) = normal::<FMA>(x);
            *y = x * cdf;
            *d = fma::<FMA>(x, pdf, cdf);
        }
    }

    /// `y ← gelu(x)`, `x ← gelu′(x)`.
    pub(crate) fn gelu_and_derivative_in_place(x: &mut [f32], y: &mut [f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            let (cdf, pdf) = normal::<FMA>(*x);
            *y = *x * cdf;
            *x = fma::<FMA>(*x, pdf, cdf);
        }
    }

    /// `dx ← dx · gelu′(x)`, `y ← gelu(x)`.
    pub(crate) fn gelu_gradient_in_place(x: &[f32], dx: &mut [f32], y: &mut [f32]) {
        for ((&x, dx), y) in x.iter().zip(dx).zip(y) {
            let (cdf, pdf) = normal::<FMA>(x);
            *y = x * cdf;
            *dx *= fma::<FMA>(x, pdf, cdf);
        }
    }

    /// `z ← x · y`.
    pub(crate) fn multiply_into(x: &[f32], y: &[f32], z: &mut [f32]) {
        for ((x, y), z) in x.iter().zip(y).zip(z) {
            *z = x * y;
        }
    }
}

/// `gelu(x)`, element by element.
pub fn gelu(x: &[f32]) -> Vec<f32> {
    let ([y], _) = by_rows(x.len(), light_step(1), [1], |range, [y]| {
        gelu_into(&x[range], y)
    });
    y
}

/// `gelu(x)` and `gelu′(x)`, which is what the backward pass needs.
pub fn gelu_with_derivative(x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let ([y, derivative], _) = by_rows(x.len(), light_step(1), [1, 1], |range, [y, d]| {
        both_into(&x[range], y, d)
    });
    (y, derivative)
}

/// The gradient of `x` from that of `gelu(x)` and the saved derivative.
pub fn gelu_backward(dy: &[f32], derivative: &[f32]) -> Vec<f32> {
    assert_eq!(dy.len(), derivative.len());
    let ([dx], _) = by_rows(dy.len(), light_step(1), [1], |range, [dx]| {
        multiply_into(&dy[range.clone()], &derivative[range], dx);
    });
    dx
}
