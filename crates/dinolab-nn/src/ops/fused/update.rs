//! Clipping, AdamW and the moving average in one pass over memory each, on `[n]` tensors
//! outside of any gradient graph.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use dinolab_kernels::{self as kernels, AdamWStep};

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

/// The tensor of a place, which holds a placeholder meanwhile: nothing else then shares the
/// values, and they can change without a copy.
fn take(place: &mut Tensor<1>) -> FlexTensor {
    whole(std::mem::replace(place, scalar(0.0)))
}

/// `x · factor`, in place where nothing else holds it.
pub fn scale(x: Tensor<1>, factor: f32) -> Tensor<1> {
    let mut x = whole(x);
    kernels::scale(x.storage_mut(), factor);
    wrap(x)
}

/// `momentum · teacher + (1 − momentum) · student`.
pub fn ema(teacher: Tensor<1>, student: Tensor<1>, momentum: f64) -> Tensor<1> {
    let [teacher, student] = [teacher, student].map(|x| dense(primitive(x)));
    let new = kernels::ema(values(&teacher), values(&student), momentum);
    let n = new.len();
    wrap(tensor(new, [n]))
}

/// One step of AdamW; the moments change in place.
pub fn adamw(
    value: Tensor<1>,
    grad: Tensor<1>,
    moments: [&mut Tensor<1>; 2],
    step: &AdamWStep,
) -> Tensor<1> {
    let [value, grad] = [value, grad].map(|x| dense(primitive(x)));
    let [m_place, v_place] = moments;
    let [mut m, mut v] = [&mut *m_place, &mut *v_place].map(take);
    let new = kernels::adamw(
        values(&value),
        values(&grad),
        m.storage_mut(),
        v.storage_mut(),
        step,
    );
    (*m_place, *v_place) = (wrap(m), wrap(v));
    let n = new.len();
    wrap(tensor(new, [n]))
}
