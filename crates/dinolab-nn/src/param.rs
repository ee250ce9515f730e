//! Named parameters.
//!
//! A parameter is stored flat, with its shape beside it. Everything that treats all
//! parameters alike (clipping, optimiser, teacher, checkpoints) then works on
//! `Tensor<1>` without caring for ranks, and the model takes a view of the rank it needs.

use burn::tensor::{Device, Gradients, Tensor, TensorData};

use crate::Precision;
use crate::device::to_host_f32;

/// A tensor that is learned, or kept beside what is learned.
#[derive(Clone, Debug)]
pub struct Param {
    value: Tensor<1>,
    shape: Vec<usize>,
    trainable: bool,
    frozen: bool,
    composed: bool,
    precision: Precision,
}

impl Param {
    /// From values in row-major order. `trainable` says whether it receives gradients.
    pub fn new(data: Vec<f32>, shape: &[usize], trainable: bool, device: &Device) -> Self {
        assert_eq!(
            data.len(),
            shape.iter().product::<usize>(),
            "values fill the shape"
        );
        let len = data.len();
        let value = Tensor::from_data(TensorData::new(data, [len]), device);
        let mut param = Self {
            value,
            shape: shape.to_vec(),
            trainable,
            frozen: false,
            composed: false,
            precision: Precision::default(),
        };
        param.track();
        param
    }

    /// The values as a tensor of rank `D`, which must be the shape's.
    pub fn get<const D: usize>(&self) -> Tensor<D> {
        let shape: [usize; D] = self
            .shape
            .as_slice()
            .try_into()
            .expect("the parameter's own rank");
        self.value.clone().reshape(shape)
    }

    /// The values viewed as `[rows, columns]`: the first dimension against all others, as an
    /// operand of products in this parameter's [`Precision`].
    pub fn matrix(&self) -> Tensor<2> {
        let rows = self.shape[0];
        let matrix = self.value.clone().reshape([rows, self.len() / rows.max(1)]);
        matrix.cast(self.precision.dtype())
    }

    /// As [`Param::matrix`], with each row multiplied by its factor.
    pub fn scaled_matrix(&self, factors: Tensor<1>) -> Tensor<2> {
        let rows = self.shape[0];
        let matrix = self.value.clone().reshape([rows, self.len() / rows.max(1)]);
        (matrix * factors.reshape([rows, 1])).cast(self.precision.dtype())
    }

    /// What products with [`Param::matrix`] are computed in. The values stay in `f32`.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// What products with [`Param::matrix`] are computed in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The flat values, outside of any gradient graph.
    pub fn flat(&self) -> Tensor<1> {
        self.value.clone().without_autodiff()
    }

    /// Replaces the flat values; shape, device and tracking stay.
    pub fn set_flat(&mut self, value: Tensor<1>) {
        assert_eq!(value.dims()[0], self.len(), "values fill the shape");
        self.value = if self.value.is_autodiff() {
            Tensor::from_inner(value.without_autodiff())
        } else {
            value
        };
        self.track();
    }

    /// The flat values, taken out for change in place; [`Param::set_flat`] puts them back. Where
    /// no graph holds them, nothing else shares them.
    pub fn take_flat(&mut self) -> Tensor<1> {
        let placeholder = Tensor::zeros([1], &self.value.device());
        std::mem::replace(&mut self.value, placeholder).without_autodiff()
    }

    /// The gradient, flat, taken out of `grads`; `None` where there is none.
    pub fn take_grad(&self, grads: &mut Gradients) -> Option<Tensor<1>> {
        self.value.grad_remove(grads)
    }

    /// The shape in the reference's layout (linear weights are `[out, in]`).
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it receives gradients and updates. A buffer, a frozen and a composed tensor do not.
    pub fn trainable(&self) -> bool {
        self.trainable && !self.frozen && !self.composed
    }

    /// Whether its values follow from other parameters ([`crate::lora`]). They change as those learn, and
    /// so do averages of them.
    pub fn is_composed(&self) -> bool {
        self.composed
    }

    pub(crate) fn set_composed(&mut self) {
        self.composed = true;
        self.set_flat(self.flat());
    }

    /// Replaces the flat values by some that carry a graph.
    pub(crate) fn set_recorded(&mut self, value: Tensor<1>) {
        self.value = value;
    }

    /// Whether it is frozen: neither it nor an average of it changes.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Freezes it or ends that. No operation records a gradient for a frozen tensor.
    pub fn set_frozen(&mut self, frozen: bool) {
        if self.frozen != frozen {
            self.frozen = frozen;
            self.set_flat(self.flat());
        }
    }

    /// The values, row-major.
    pub fn to_vec(&self) -> Vec<f32> {
        to_host_f32(self.flat())
    }

    /// Moves the values to `device`, with gradients where the device records them.
    pub fn to_device(&mut self, device: &Device) {
        let data = self.flat().into_data();
        self.value = Tensor::from_data(data, device);
        self.track();
    }

    fn track(&mut self) {
        if self.trainable() && self.value.is_autodiff() {
            self.value = self.value.clone().require_grad();
        }
    }
}

/// Anything made of named parameters.
pub trait Parameters {
    /// Calls `f` with each parameter's full name, in the reference's order.
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param));

    /// As [`Parameters::visit`], for change.
    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param));

    /// Brings values that follow from others up to date. Most networks have none.
    fn compose(&mut self) {}

    /// Number of learned values.
    fn parameter_count(&self) -> usize {
        let mut count = 0;
        self.visit("", &mut |_, p| {
            count += if p.trainable() { p.len() } else { 0 }
        });
        count
    }

    /// Moves every parameter.
    fn to_device(&mut self, device: &Device) {
        self.visit_mut("", &mut |_, p| p.to_device(device));
    }

    /// Decides what activations and matrix multiplications are computed in; parameters and their
    /// gradients stay in `f32`. [`Precision::check`] tells whether a device can.
    fn set_precision(&mut self, precision: Precision) {
        self.visit_mut("", &mut |_, p| p.set_precision(precision));
    }
}

/// `prefix.name`, or `name` where there is no prefix.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
    }
}

/// Implements [`Parameters`] for a struct from the list of its parts and their names,
/// which keeps the two visits from ever disagreeing.
macro_rules! parameters {
    ($type:ty { $($field:ident $(as $name:literal)?),* $(,)? }) => {
        impl $crate::param::Parameters for $type {
            fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &$crate::param::Param)) {
                $( self.$field.visit(&$crate::param::join(prefix, $crate::param::parameters!(@name $field $($name)?)), f); )*
            }
            fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut $crate::param::Param)) {
                $( self.$field.visit_mut(&$crate::param::join(prefix, $crate::param::parameters!(@name $field $($name)?)), f); )*
            }
        }
    };
    (@name $field:ident $name:literal) => { $name };
    (@name $field:ident) => { stringify!($field) };
}
pub(crate) use parameters;

impl Parameters for Param {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        f(prefix, self);
    }
    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        f(prefix, self);
    }
}

impl<P: Parameters> Parameters for Vec<P> {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        for (i, part) in self.iter().enumerate() {
            part.visit(&join(prefix, &i.to_string()), f);
        }
    }
    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        for (i, part) in self.iter_mut().enumerate() {
            part.visit_mut(&join(prefix, &i.to_string()), f);
        }
    }
}

impl<P: Parameters> Parameters for Option<P> {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        if let Some(part) = self {
            part.visit(prefix, f);
        }
    }
    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        if let Some(part) = self {
            part.visit_mut(prefix, f);
        }
    }
}
