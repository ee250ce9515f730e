//! The gated linear unit with SiLU (Shazeer, arXiv 2002.05202): `silu(a) · b` of two halves.

use crate::simd::{exp, multiversioned};

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    let e = exp::<FMA>(-x.abs());
    let tail = e / (1.0 + e);
    if x < 0.0 { tail } else { 1.0 - tail }
}

multiversioned! {
    /// `y ← silu(a) · b` for `x` = `a`, `b`, each as long as `y`.
    pub(crate) fn swiglu_into(x: &[f32], y: &mut [f32]) {
        let (gates, values) = x.split_at(y.len());
        for ((gate, value), y) in gates.iter().zip(values).zip(y) {
            *y = gate * sigmoid::<FMA>(*gate) * value;
        }
    }

    /// The gradient `dx` of `x` from that of the result, `dy`, and again the result `y`.
    pub(crate) fn swiglu_gradient(x: &[f32], dy: &[f32], dx: &mut [f32], y: &mut [f32]) {
        let (gates, values) = x.split_at(y.len());
        let (dgates, dvalues) = dx.split_at_mut(y.len());
        let inputs = gates.iter().zip(values).zip(dy).zip(y);
        for ((((gate, value), dy), y), (dgate, dvalue)) in inputs.zip(dgates.iter_mut().zip(dvalues)) {
            let s = sigmoid::<FMA>(*gate);
            let silu = gate * s;
            *y = silu * value;
            *dvalue = dy * silu;
            *dgate = dy * value * (s + silu * (1.0 - s));
        }
    }
}
