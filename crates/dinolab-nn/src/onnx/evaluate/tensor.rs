//! Values of a graph.

use super::Outcome;
use crate::onnx::proto::{TensorProto, data_type};

/// The elements of a tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    /// Single precision.
    F32(Vec<f32>),
    /// Integers.
    I64(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
}

/// A shape and its elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

/// Does the same for elements of every type.
macro_rules! each_type {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            Data::F32($values) => Data::F32($body),
            Data::I64($values) => Data::I64($body),
            Data::Bool($values) => Data::Bool($body),
        }
    };
}

impl Tensor {
    /// Of elements that fill the shape.
    pub(crate) fn new(shape: Vec<usize>, data: Data) -> Outcome<Self> {
        let len = match &data {
            Data::F32(values) => values.len(),
            Data::I64(values) => values.len(),
            Data::Bool(values) => values.len(),
        };
        if shape.iter().product::<usize>() == len {
            Ok(Self { shape, data })
        } else {
            Err(format!("{len} elements do not fill {shape:?}"))
        }
    }

    pub(crate) fn f32(shape: Vec<usize>, values: Vec<f32>) -> Outcome<Self> {
        Self::new(shape, Data::F32(values))
    }

    pub(crate) fn i64(shape: Vec<usize>, values: Vec<i64>) -> Outcome<Self> {
        Self::new(shape, Data::I64(values))
    }

    /// Of a constant in a file.
    pub(super) fn of(proto: TensorProto) -> Outcome<Self> {
        let shape = proto
            .dims
            .iter()
            .map(|&dim| usize::try_from(dim).map_err(|_| format!("a dimension of {dim}")))
            .collect::<Outcome<Vec<_>>>()?;
        let raw = proto.raw_data;
        let data = match proto.data_type {
            data_type::FLOAT if raw.len().is_multiple_of(4) => {
                let values = raw
                    .as_chunks()
                    .0
                    .iter()
                    .map(|bytes| f32::from_le_bytes(*bytes));
                Data::F32(values.collect())
            }
            data_type::INT64 if raw.len().is_multiple_of(8) => {
                let values = raw
                    .as_chunks()
                    .0
                    .iter()
                    .map(|bytes| i64::from_le_bytes(*bytes));
                Data::I64(values.collect())
            }
            data_type::FLOAT | data_type::INT64 => return Err("is cut short".into()),
            other => return Err(format!("data type {other} is not known")),
        };
        Self::new(shape, data)
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn data(&self) -> &Data {
        &self.data
    }

    pub(crate) fn floats(&self) -> Outcome<&[f32]> {
        match &self.data {
            Data::F32(values) => Ok(values),
            _ => Err("takes floating-point numbers".into()),
        }
    }

    pub(super) fn integers(&self) -> Outcome<&[i64]> {
        match &self.data {
            Data::I64(values) => Ok(values),
            _ => Err("takes integers".into()),
        }
    }

    /// The only element, an integer.
    pub(super) fn integer(&self) -> Outcome<i64> {
        match self.integers()? {
            [value] => Ok(*value),
            values => Err(format!("takes one integer, not {}", values.len())),
        }
    }

    /// The same elements in another shape.
    pub(super) fn reshaped(&self, shape: Vec<usize>) -> Outcome<Self> {
        Self::new(shape, self.data.clone())
    }

    /// The elements at the flat places `places`, in the shape `shape`.
    pub(super) fn gathered(&self, shape: Vec<usize>, places: &[usize]) -> Outcome<Self> {
        let data = each_type!(&self.data, values => places.iter().map(|&at| values[at]).collect());
        Self::new(shape, data)
    }

    /// The number of an axis that may be counted from the end.
    pub(super) fn axis(&self, axis: i64) -> Outcome<usize> {
        place(axis, self.shape.len()).ok_or_else(|| format!("no axis {axis} in {:?}", self.shape))
    }
}

/// A place among `count` that may be counted from the end.
pub(super) fn place(at: i64, count: usize) -> Option<usize> {
    let at = if at < 0 { at + count as i64 } else { at };
    usize::try_from(at).ok().filter(|&at| at < count)
}

/// How far apart neighbours along each axis lie.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The flat places that a walk over `shape` visits with the given `strides`.
pub(super) fn walk(shape: &[usize], strides: &[usize], start: usize) -> Vec<usize> {
    let mut places = vec![start];
    for (&size, &stride) in shape.iter().zip(strides) {
        places = places
            .into_iter()
            .flat_map(|place| (0..size).map(move |i| place + i * stride))
            .collect();
    }
    places
}

/// The shape that `a` and `b` are both repeated to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Outcome<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(axis) => shape[axis],
        None => 1,
    };
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (a, b) if a == b => Ok(a),
            (1, b) => Ok(b),
            (a, 1) => Ok(a),
            _ => Err(format!("shapes {a:?} and {b:?} do not go together")),
        })
        .collect()
}

/// The flat places in a tensor of shape `from` that fill `to` by repetition.
pub(super) fn repeated(from: &[usize], to: &[usize]) -> Vec<usize> {
    let missing = to.len() - from.len();
    let mut own = strides(from);
    for (stride, &size) in own.iter_mut().zip(from) {
        if size == 1 {
            *stride = 0;
        }
    }
    let strides: Vec<usize> = std::iter::repeat_n(0, missing).chain(own).collect();
    walk(to, &strides, 0)
}
