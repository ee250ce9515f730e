//! Convolutions over images with channels last, as products with packed weights.
//!
//! Images are `[B, H, W, C]`. What a window of the kernel covers is copied into a row for the
//! product, block by block, while the block stays in cache; a 1×1 kernel of stride 1 reads the
//! images in place. The gradient of the input is a convolution too: of the gradient of the output,
//! one for each remainder of the position by the stride, so that no product is with zeros that a
//! stride leaves out. 3×3 kernels of stride 1 over many channels are computed by tiles, with fewer
//! products (`winograd`).

mod kernel;
mod weight_gradient;
mod window;
mod winograd;

use std::ops::Range;

use rayon::prelude::*;

pub use self::weight_gradient::conv_weight_gradient;
pub(crate) use self::window::Block;
use self::window::Window;
use crate::batch_norm::{Moments, moments_of_block};
use crate::product::{Matrix, Packed};
use crate::scratch::Buffer;
use crate::simd::multiversioned;

/// The sizes of a convolution with a square kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Number of images, `B`.
    pub images: usize,
    /// Rows of an image, `H`.
    pub height: usize,
    /// Columns of an image, `W`.
    pub width: usize,
    /// Channels of an image, `I`.
    pub inputs: usize,
    /// Channels of the result, `O`.
    pub outputs: usize,
    /// Side of the kernel, `k`.
    pub kernel: usize,
    /// Distance of the windows.
    pub stride: usize,
    /// Zeros around an image, on each side.
    pub padding: usize,
}

impl ConvShape {
    /// Rows and columns of the result, `(⌊(H + 2·padding − k) / stride⌋ + 1, …)`; 0 if the kernel is
    /// larger than the padded image.
    pub fn output_size(&self) -> (usize, usize) {
        let side = |length: usize| {
            let room = (length + 2 * self.padding).checked_sub(self.kernel);
            room.map_or(0, |room| room / self.stride + 1)
        };
        (side(self.height), side(self.width))
    }

    /// Values of the images.
    fn input_len(&self) -> usize {
        self.images * self.height * self.width * self.inputs
    }

    /// Pixels of the result, of all images.
    fn output_rows(&self) -> usize {
        let (height, width) = self.output_size();
        self.images * height * width
    }

    fn check(&self, x: Option<&[f32]>, weight: Option<&[f32]>, dy: Option<&[f32]>) {
        assert!(self.kernel > 0 && self.stride > 0 && self.inputs > 0 && self.outputs > 0);
        assert!(x.is_none_or(|x| x.len() == self.input_len()));
        let weights = self.outputs * self.inputs * self.kernel * self.kernel;
        assert!(weight.is_none_or(|weight| weight.len() == weights));
        assert!(dy.is_none_or(|dy| dy.len() == self.output_rows() * self.outputs));
    }

    /// The windows of the forward pass.
    fn windows(&self) -> Window {
        let (rows, columns) = self.output_size();
        let start = -(self.padding as isize);
        Window {
            source: [self.height, self.width],
            channels: self.inputs,
            kernel: [self.kernel; 2],
            stride: self.stride,
            start: [start; 2],
            windows: [rows, columns],
        }
    }
}

/// What follows a convolution of a network that does not learn: batch normalisation with known
/// statistics as `scale · y + shift`, a sum, and ReLU.
#[derive(Clone, Copy, Debug)]
pub struct ConvEpilogue<'a> {
    /// Factor of each channel, `[O]`.
    pub scale: &'a [f32],
    /// Added to each channel, `[O]`.
    pub shift: &'a [f32],
    /// Added to the result, `[B, H', W', O]`.
    pub residual: Option<&'a [f32]>,
    /// Whether negative values become 0.
    pub relu: bool,
}

/// The convolution of images `x` `[B, H, W, I]` with `weight` `[O, I, k, k]` → `[B, H', W', O]`.
pub fn conv(x: &[f32], weight: &[f32], shape: &ConvShape) -> Vec<f32> {
    forward(x, weight, None, shape, |_| ()).0
}

/// [`conv`], and the moments of each channel over all pixels of all images.
pub fn conv_with_moments(x: &[f32], weight: &[f32], shape: &ConvShape) -> (Vec<f32>, Moments) {
    let (y, blocks) = forward(x, weight, None, shape, moments_of_block);
    (y, Moments::combined(shape.outputs, blocks))
}

/// [`conv`] followed by `epilogue`, block by block.
pub fn conv_with_epilogue(
    x: &[f32],
    weight: &[f32],
    epilogue: &ConvEpilogue,
    shape: &ConvShape,
) -> Vec<f32> {
    let ConvEpilogue {
        scale,
        shift,
        residual,
        relu,
    } = *epilogue;
    let outputs = shape.outputs;
    assert!(scale.len() == outputs && shift.len() == outputs);
    assert!(residual.is_none_or(|r| r.len() == shape.output_rows() * outputs));
    let finish = |block: &mut Block| {
        let columns = block.columns.clone();
        for row in block.rows.clone() {
            let start = row * outputs;
            let residual = residual.map(|r| &r[start + columns.start..start + columns.end]);
            add_and_clamp(block.row(row), &shift[columns.clone()], residual, relu);
        }
    };
    forward(x, weight, Some(scale), shape, finish).0
}

fn forward<R: Send>(
    x: &[f32],
    weight: &[f32],
    scale: Option<&[f32]>,
    shape: &ConvShape,
    after: impl Fn(&mut Block) -> R + Sync,
) -> (Vec<f32>, Vec<R>) {
    shape.check(Some(x), Some(weight), None);
    if shape.output_rows() == 0 {
        return (Vec::new(), Vec::new());
    }
    if winograd::applies(shape) {
        return winograd::forward(x, weight, scale, shape, after);
    }
    let depth = shape.inputs * shape.kernel * shape.kernel;
    let (mut ordered, mut packed) = (Buffer::default(), Buffer::default());
    let weight = kernel::forward(weight, scale, shape, &mut ordered);
    let weight = Matrix::dense(weight, shape.outputs, depth).transposed();
    let weight = Packed::in_parallel(weight, &mut packed);
    shape
        .windows()
        .product(x, shape.images, &weight, shape.outputs, after)
}

multiversioned! {
    /// `y += shift + residual`, negative values then 0 if `relu`.
    fn add_and_clamp(y: &mut [f32], shift: &[f32], residual: Option<&[f32]>, relu: bool) {
        match residual {
            Some(residual) => {
                for ((y, s), r) in y.iter_mut().zip(shift).zip(residual) {
                    *y += s + r;
                }
            }
            None => {
                for (y, s) in y.iter_mut().zip(shift) {
                    *y += s;
                }
            }
        }
        if relu {
            for y in y.iter_mut() {
                *y = if *y < 0.0 { 0.0 } else { *y };
            }
        }
    }
}

/// The positions of an axis that have the same remainder by the stride, and the places in the kernel
/// that reach them.
struct Phase {
    /// The first position.
    first: usize,
    /// How many positions.
    count: usize,
    /// Places in the kernel, the last one first.
    places: Vec<usize>,
    /// The position in the result that the last place reaches the first position from.
    start: isize,
}

/// The phases of an axis of `length` positions.
fn phases(length: usize, shape: &ConvShape) -> Vec<Phase> {
    let stride = shape.stride;
    (0..stride.min(length))
        .map(|first| {
            let reaches = |&place: &usize| {
                (first + shape.padding + stride * shape.kernel - place).is_multiple_of(stride)
            };
            let places: Vec<usize> = (0..shape.kernel).rev().filter(reaches).collect();
            let last = places.first().map_or(0, |&place| place as isize);
            Phase {
                first,
                count: (length - first).div_ceil(stride),
                start: ((first + shape.padding) as isize - last) / stride as isize,
                places,
            }
        })
        .collect()
}

/// The gradient of the images, `[B, H, W, I]`, from that of the result, `[B, H', W', O]`.
pub fn conv_input_gradient(dy: &[f32], weight: &[f32], shape: &ConvShape) -> Vec<f32> {
    shape.check(None, Some(weight), Some(dy));
    if shape.output_rows() == 0 {
        return vec![0.0; shape.input_len()];
    }
    if winograd::applies(shape) {
        return winograd::input_gradient(dy, weight, shape);
    }
    let (rows, columns) = (phases(shape.height, shape), phases(shape.width, shape));
    let mut whole = Vec::new();
    for row in &rows {
        for column in &columns {
            let gradient = phase_gradient(dy, weight, shape, row, column);
            if shape.stride == 1 {
                return gradient.expect("a kernel has a place");
            }
            if whole.is_empty() {
                whole = vec![0.0; shape.input_len()];
            }
            if let Some(gradient) = gradient {
                scatter(&gradient, shape, row, column, &mut whole);
            }
        }
    }
    whole
}

/// The gradient at the positions of two phases, `[B, rows, columns, I]`; `None` if the kernel does
/// not reach them.
fn phase_gradient(
    dy: &[f32],
    weight: &[f32],
    shape: &ConvShape,
    row: &Phase,
    column: &Phase,
) -> Option<Vec<f32>> {
    if row.places.is_empty() || column.places.is_empty() {
        return None;
    }
    let (height, width) = shape.output_size();
    let window = Window {
        source: [height, width],
        channels: shape.outputs,
        kernel: [row.places.len(), column.places.len()],
        stride: 1,
        start: [row.start, column.start],
        windows: [row.count, column.count],
    };
    let (mut ordered, mut packed) = (Buffer::default(), Buffer::default());
    let places = [row.places.as_slice(), &column.places];
    let weight = kernel::backward(weight, shape, places, &mut ordered);
    let depth = window.depth();
    let weight = Packed::in_parallel(Matrix::dense(weight, depth, shape.inputs), &mut packed);
    let (gradient, _) = window.product(dy, shape.images, &weight, shape.inputs, |_| ());
    Some(gradient)
}

/// Copies the gradient of two phases to its positions.
fn scatter(from: &[f32], shape: &ConvShape, row: &Phase, column: &Phase, into: &mut [f32]) {
    let ConvShape {
        height,
        width,
        inputs,
        stride,
        ..
    } = *shape;
    let image = height * width * inputs;
    let part = row.count * column.count * inputs;
    into.par_chunks_exact_mut(image)
        .zip(from.par_chunks_exact(part))
        .for_each(|(into, from)| {
            let places = (0..row.count).flat_map(|i| (0..column.count).map(move |j| (i, j)));
            for (pixel, (i, j)) in from.chunks_exact(inputs).zip(places) {
                let at = (row.first + i * stride) * width + column.first + j * stride;
                into[at * inputs..][..inputs].copy_from_slice(pixel);
            }
        });
}

/// Rows of a range of some length.
fn len(range: &Range<usize>) -> usize {
    range.end - range.start
}
