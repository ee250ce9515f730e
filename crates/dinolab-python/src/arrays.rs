//! NumPy arrays in and out.

use dinolab_data::{Depth, Image, Pixels};
use numpy::ndarray::{ArrayViewD, Axis};
use numpy::{PyArray, PyArray1, PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::exceptions::Exception;

/// An array of images, or of one.
pub enum Samples {
    /// 0–255.
    Eight(Py<PyArrayDyn<u8>>),
    /// 0–65535.
    Sixteen(Py<PyArrayDyn<u16>>),
    /// Single precision in 0–1.
    Float(Py<PyArrayDyn<f32>>),
}

impl Samples {
    /// Those of a NumPy array, with its shape; `None` for any other object.
    ///
    /// # Errors
    /// `ImageError` for an array of numbers that the network does not take.
    pub fn of(value: &Bound<'_, PyAny>, pixels: Pixels) -> PyResult<Option<(Self, Vec<usize>)>> {
        let stored = pixels != Pixels::Rgb;
        if let Ok(array) = value.cast::<numpy::PyUntypedArray>()
            && !array.is_aligned()
        {
            let message = "images: an array whose values are not aligned; give a copy";
            return Err(Exception::Image.raised(value.py(), message));
        }
        if let Ok(array) = value.cast::<PyArrayDyn<u8>>() {
            let shape = array.shape().to_vec();
            return Ok(Some((Self::Eight(array.clone().unbind()), shape)));
        }
        if let Ok(array) = value.cast::<PyArrayDyn<u16>>()
            && stored
        {
            let shape = array.shape().to_vec();
            return Ok(Some((Self::Sixteen(array.clone().unbind()), shape)));
        }
        if let Ok(array) = value.cast::<PyArrayDyn<f32>>()
            && stored
        {
            let shape = array.shape().to_vec();
            return Ok(Some((Self::Float(array.clone().unbind()), shape)));
        }
        if let Ok(array) = value.cast::<numpy::PyUntypedArray>() {
            let wanted = match stored {
                true => "uint8, uint16 or float32 in 0–1",
                false => "uint8, values 0–255",
            };
            let message = format!("images: an array of {}; give {wanted}", array.dtype());
            return Err(Exception::Image.raised(value.py(), &message));
        }
        Ok(None)
    }

    /// The image in place `index` of the first axis, or the array itself.
    ///
    /// # Errors
    /// An array that is written to by native code.
    pub fn image(&self, py: Python<'_>, index: Option<usize>) -> PyResult<Image> {
        match self {
            Self::Eight(array) => copy(
                array.bind(py),
                index,
                Depth::Eight,
                |part, data| match part.as_slice() {
                    Some(values) => data.extend_from_slice(values),
                    None => data.extend(part.iter()),
                },
            ),
            Self::Sixteen(array) => copy(array.bind(py), index, Depth::Sixteen, |part, data| {
                data.extend(part.iter().flat_map(|value| value.to_ne_bytes()));
            }),
            Self::Float(array) => copy(array.bind(py), index, Depth::Float, |part, data| {
                data.extend(part.iter().flat_map(|value| value.to_ne_bytes()));
            }),
        }
    }
}

fn copy<T: numpy::Element>(
    array: &Bound<'_, PyArrayDyn<T>>,
    index: Option<usize>,
    depth: Depth,
    append: impl Fn(ArrayViewD<'_, T>, &mut Vec<u8>),
) -> PyResult<Image> {
    let py = array.py();
    let array = array.try_readonly()?;
    let all = array.as_array();
    // Another thread may have given it another shape since it was looked at.
    let part = match index {
        Some(index) if index >= all.shape().first().copied().unwrap_or(0) => {
            return Err(changed(py));
        }
        Some(index) => all.index_axis_move(Axis(0), index),
        None => all,
    };
    let &[height, width, channels] = part.shape() else {
        return Err(changed(py));
    };
    let mut data = Vec::with_capacity(height * width * channels * depth.bytes());
    append(part, &mut data);
    Ok(Image {
        width,
        height,
        channels,
        depth,
        data,
    })
}

fn changed(py: Python<'_>) -> PyErr {
    Exception::Image.raised(py, "images: the array got another shape while it was read")
}

/// Values as an array of a shape that has as many.
///
/// # Errors
/// Another number of values.
pub fn shaped<'py>(
    py: Python<'py>,
    values: Vec<f32>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyAny>> {
    let flat = PyArray1::from_vec(py, values);
    let shaped: Bound<'py, PyArray<f32, _>> = flat.reshape(shape.to_vec())?;
    Ok(shaped.into_any())
}
