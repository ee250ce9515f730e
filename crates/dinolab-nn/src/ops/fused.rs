//! Fused bodies as Burn backend extensions: one small trait per operation, implemented for
//! the CPU backend and, with a hand-written gradient, for its gradient-recording decorator.
//!
//! A tensor of another backend never gets here: the public functions ask [`applies`] first.
//! A backend gains its own fused body by joining a trait's list and that question.

pub(super) mod attention;
pub(super) mod batch_mean;
pub(super) mod branch;
pub(super) mod branch_onto;
pub(super) mod conv;
pub(super) mod depthwise;
pub(super) mod gelu;
pub(super) mod layer_norm;
pub(super) mod linear;
pub(super) mod prototypes;
pub(super) mod scalar;
pub(super) mod targets;
pub(super) mod update;
pub(super) mod visreg;

use std::sync::LazyLock;

use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::{DType, DispatchDevice, Flex};
use burn::tensor::{Bytes, Shape, Tensor};

/// What dispatched operations are called on.
pub(super) type Dispatch = burn::backend::Dispatch;

static ENABLED: LazyLock<bool> =
    LazyLock::new(|| std::env::var("DINOLAB_OPS").as_deref() != Ok("composite"));

/// Whether fused bodies are to be used at all.
pub(super) fn enabled() -> bool {
    *ENABLED
}

/// Whether the fused bodies serve this tensor: on the CPU, in single precision.
pub(super) fn applies<const D: usize>(x: &Tensor<D>) -> bool {
    let on_cpu = |device: &DispatchDevice| match device {
        DispatchDevice::Flex(_) => true,
        DispatchDevice::Autodiff(inner) => matches!(**inner, DispatchDevice::Flex(_)),
        #[allow(unreachable_patterns)]
        _ => false,
    };
    enabled() && x.dtype() == DType::F32 && on_cpu(x.device().as_dispatch())
}

/// The same values without gaps: views and broadcast gradients arrive strided.
fn dense(x: FlexTensor) -> FlexTensor {
    if x.is_contiguous() {
        x
    } else {
        x.to_contiguous()
    }
}

/// The values of a dense tensor.
pub(super) fn values(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("dense and in single precision")
}

/// A tensor of `values`, which are not copied.
fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(shape.into()),
        DType::F32,
    )
}

/// The backend's own tensor of one that [`applies`] and is outside of any gradient graph.
fn primitive<const D: usize>(x: Tensor<D>) -> FlexTensor {
    x.try_into_primitive::<Flex>()
        .expect("a plain tensor of the CPU backend")
}

/// A tensor that [`applies`], dense and outside of any gradient graph: an operand without a gradient.
pub(super) fn plain<const D: usize>(x: Tensor<D>) -> FlexTensor {
    dense(primitive(x.without_autodiff()))
}

/// The inverse of [`primitive`].
fn wrap<const D: usize>(x: FlexTensor) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(x)
}

/// A tensor of `values`, outside of any gradient graph.
pub(super) fn of_values<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    wrap(tensor(values, shape))
}

/// An array of pairs as a pair of arrays.
fn unzip<const N: usize, A, B>(pairs: [(A, B); N]) -> ([A; N], [B; N]) {
    let (a, b): (Vec<A>, Vec<B>) = pairs.into_iter().unzip();
    let whole = "as many as there were";
    (
        a.try_into().ok().expect(whole),
        b.try_into().ok().expect(whole),
    )
}
