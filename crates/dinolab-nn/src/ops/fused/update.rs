//! Clipping, AdamW and the moving average in one pass over memory, in place, on `[n]` tensors
//! outside of any gradient graph.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use dinolab_kernels::{self as kernels, AdamWStep, EmaStep};

use super::{dense, primitive, tensor, values, wrap};

/// The Euclidean norm as a number.
pub fn norm(x: &Tensor<1>) -> f32 {
    kernels::norm(values(&dense(primitive(x.clone()))))
}

/// A number as a tensor `[1]`.
pub fn scalar(x: f32) -> Tensor<1> {
    wrap(tensor(vec![x], [1]))
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
