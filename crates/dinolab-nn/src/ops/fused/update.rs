//! Clipping, AdamW and the moving average in one pass over memory, in place, on `[n]` tensors
//! outside of any gradient graph.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use dinolab_kernels::{self as kernels, AdamWStep, EmaStep, Matrices, MuonStep};

use super::{dense, primitive, tensor, values, wrap};

/// The Euclidean norm as a number.
pub fn norm(x: &Tensor<1>) -> f32 {
    kernels::norm(values(&dense(primitive(x.clone()))))
}

/// A number as a tensor `[1]`.
pub fn scalar(x: f32) -> Tensor<1> {
    wrap(tensor(vec![x], [1]))
}

/// What a gradient of norm `norm` is multiplied by; 1 for no limit (`clip` 0).
pub fn clip(norm: f32, clip: f64) -> f32 {
    let factor = clip as f32 / (norm + 1e-6);
    // NaN goes through.
    let unclipped = clip <= 0.0 || factor >= 1.0;
    if unclipped { 1.0 } else { factor }
}

/// For change in place: dense and the whole of its storage.
fn whole(x: Tensor<1>) -> FlexTensor {
    let x = dense(primitive(x));
    if x.storage::<f32>().len() == values(&x).len() {
        return x;
    }
    tensor(values(&x).to_vec(), x.shape())
}

/// Calls `f` with the values of tensors, which change in place. Their places hold placeholders
/// meanwhile: nothing else then shares the values, and they can change without a copy.
fn in_place<const N: usize>(places: [&mut Tensor<1>; N], f: impl FnOnce([&mut [f32]; N])) {
    let mut places = places;
    let mut all = places
        .each_mut()
        .map(|place| whole(std::mem::replace(*place, scalar(0.0))));
    f(all.each_mut().map(|x| x.storage_mut()));
    for (place, x) in places.into_iter().zip(all) {
        *place = wrap(x);
    }
}

/// `average ← momentum · average + (1 − momentum) · value`.
pub fn ema(average: &mut Tensor<1>, value: &Tensor<1>, momentum: f64) {
    let value = dense(primitive(value.clone()));
    in_place([average], |[average]| {
        kernels::ema(average, values(&value), EmaStep { momentum });
    });
}

/// One step of AdamW of value and both moments, in place.
pub fn adamw(places: [&mut Tensor<1>; 3], grad: Tensor<1>, step: &AdamWStep) {
    let grad = dense(primitive(grad));
    in_place(places, |state| kernels::adamw(state, values(&grad), step));
}

/// One step of AdamW of value, average and both moments, in place.
pub fn adamw_and_ema(
    places: [&mut Tensor<1>; 4],
    grad: Tensor<1>,
    step: &AdamWStep,
    momentum: f64,
) {
    let grad = dense(primitive(grad));
    in_place(places, |state| {
        kernels::adamw_and_ema(state, values(&grad), step, EmaStep { momentum });
    });
}

/// One step of Muon of value, momentum and, with its momentum, the average, in place.
pub fn muon(
    [value, buffer]: [&mut Tensor<1>; 2],
    average: Option<(&mut Tensor<1>, f64)>,
    grad: Tensor<1>,
    step: &MuonStep,
    matrices: Matrices,
) {
    let grad = dense(primitive(grad));
    let grad = values(&grad);
    match average {
        Some((average, momentum)) => in_place([value, buffer, average], |[value, buffer, own]| {
            let average = Some((own, EmaStep { momentum }));
            kernels::muon([value, buffer], average, grad, step, matrices);
        }),
        None => in_place([value, buffer], |state| {
            kernels::muon(state, None, grad, step, matrices);
        }),
    }
}
