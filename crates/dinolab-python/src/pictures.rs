//! Images without files, and files of images: the built-in shapes, and PNG.

use std::path::PathBuf;

use dinolab_data::Source;
use dinolab_data::shapes::{Shapes, ShapesOptions};
use dinolab_data::{Image, Pixels};
use dinolab_view::{Rgb, write_png as write};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;

use crate::exceptions::plain;
use crate::images::one_image;

/// The first `count` images of the built-in shapes, uint8 `[count, size, size, 3]`, and their classes.
#[pyfunction]
pub fn shapes(
    py: Python<'_>,
    count: usize,
    size: usize,
    seed: u64,
) -> PyResult<(Bound<'_, PyAny>, Vec<String>)> {
    let options = ShapesOptions {
        size,
        ..Default::default()
    };
    let drawn = py.detach(|| -> dinolab_data::Result<_> {
        let shapes = Shapes::with_options(seed, count, options)?;
        let mut data = Vec::with_capacity(count * size * size * 3);
        for index in 0..count {
            data.extend(shapes.image(index)?.data);
        }
        let class = |index| {
            let label = shapes.label(index);
            label.map_or_else(String::new, |label| shapes.classes()[label].clone())
        };
        Ok((data, (0..count).map(class).collect()))
    });
    let (data, labels) = drawn.map_err(|error| plain(py, error))?;
    let images = PyArray1::from_vec(py, data).reshape([count, size, size, 3])?;
    Ok((images.into_any(), labels))
}

/// Writes an image, an array `[H, W, 3]` or a picture of PIL, as a PNG file.
#[pyfunction]
pub fn write_png(py: Python<'_>, path: PathBuf, image: &Bound<'_, PyAny>) -> PyResult<()> {
    let image: Image = one_image(image, Pixels::Rgb)?;
    let written = py.detach(|| write(&path, &Rgb::from_image(&image)?));
    written.map_err(|error| plain(py, error))
}
