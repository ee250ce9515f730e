//! Convolutions of 3×3 windows side by side by Winograd's minimal filtering F(2×2, 3×3) (Lavin & Gray,
//! arXiv 1509.09308, section 4.1).
//!
//! Four values of the result are one tile. A tile takes 16 products of each channel with each output,
//! where the definition takes 36: with `V = Bᵀ d B` of the 4×4 pixels `d` that a tile sees and
//! `U = G g Gᵀ` of a kernel `g`, the tile is `Aᵀ (Σ U ∘ V) A`, the sum over channels. Each of the 16
//! places is a matrix product over the tiles of a block.
//!
//! The gradient of the images is such a convolution too. Turning a kernel by half a circle exchanges
//! the first and the last row and column of `U`, so that its matrices serve both.

mod transform;
mod weight_gradient;

use std::ops::Range;

use rayon::prelude::*;

use self::transform::{PLACES, input_tile, kernel_tile, output_tile};
pub(super) use self::weight_gradient::weight_gradient;
use super::window::Block;
use super::{ConvShape, len};
use crate::parallel::{Output, Parts, under_miri};
use crate::product::{Destination, Matrix, Packed, UNIT, equal_parts};
use crate::scratch::{Buffer, Scratch};
use crate::simd::LANES;

/// Values of a block of tiles that are in cache together.
const BLOCK: usize = under_miri(1 << 10, 1 << 18);
/// Values of all tiles that are computed together where kernels are larger than that.
const PANEL: usize = under_miri(1 << 11, 1 << 22);
/// Outputs of a task there.
const COLUMNS: usize = 4 * UNIT;
/// Most tiles of a block of the result there.
const MOST_TILES: usize = under_miri(8, 64);
/// Fewest tasks, if there are as many rows of tiles.
const TASKS: usize = 32;
/// Fewest channels, below which the transforms cost more than they save.
const LEAST_CHANNELS: usize = under_miri(3, 32);
/// Fewest tiles of an image, below which the larger matrices of the kernels cost more than they save.
const LEAST_TILES_OF_IMAGE: usize = under_miri(2, 9);

/// Whether a convolution is computed by tiles. The number of images does not matter, so that the result of
/// one does not depend on the others.
pub(super) fn applies(shape: &ConvShape) -> bool {
    let (height, width) = shape.output_size();
    let tiles = height.div_ceil(2) * width.div_ceil(2);
    shape.kernel == 3
        && shape.stride == 1
        && shape.padding <= 2
        && shape.inputs.min(shape.outputs) >= LEAST_CHANNELS
        && tiles >= LEAST_TILES_OF_IMAGE
        // A tile beyond the edge is computed, and is in vain.
        && 3 * tiles <= height * width
}

/// The convolution, and what `after` returned for each block of it, in a fixed order.
pub(super) fn forward<R: Send>(
    x: &[f32],
    weight: &[f32],
    scale: Option<&[f32]>,
    shape: &ConvShape,
    after: impl Fn(&mut Block) -> R + Sync,
) -> (Vec<f32>, Vec<R>) {
    let mut buffers = Default::default();
    // Packed kernels are a copy: the others are free again before there are results.
    let right = {
        let kernels = kernels(weight, scale, shape);
        operands(&mut buffers, |k| place(&kernels, k, shape).transposed())
    };
    let tiles = Tiles::forward(shape);
    tiles.product(x, shape.images, &right, shape.outputs, after)
}

/// The gradient of the images.
pub(super) fn input_gradient(dy: &[f32], weight: &[f32], shape: &ConvShape) -> Vec<f32> {
    let turned = |place: usize| [3, 1, 2, 0][place];
    let mut buffers = Default::default();
    let right = {
        let kernels = kernels(weight, None, shape);
        operands(&mut buffers, |k| {
            place(&kernels, turned(k / 4) * 4 + turned(k % 4), shape)
        })
    };
    let tiles = Tiles::backward(shape);
    let (gradient, _) = tiles.product(dy, shape.images, &right, shape.inputs, |_| ());
    gradient
}

/// The tiles of the results of a convolution.
#[derive(Clone, Copy, Debug)]
struct Tiles {
    /// Rows and columns of an image.
    source: [usize; 2],
    /// Channels of an image.
    channels: usize,
    /// Zeros around an image, on each side.
    padding: usize,
    /// Rows and columns of the result of an image.
    result: [usize; 2],
}

impl Tiles {
    /// Those of the result, over the images.
    pub fn forward(shape: &ConvShape) -> Self {
        let (height, width) = shape.output_size();
        Self {
            source: [shape.height, shape.width],
            channels: shape.inputs,
            padding: shape.padding,
            result: [height, width],
        }
    }

    /// Those of the gradient of the images, over that of the result.
    pub fn backward(shape: &ConvShape) -> Self {
        let (height, width) = shape.output_size();
        Self {
            source: [height, width],
            channels: shape.outputs,
            padding: 2 - shape.padding,
            result: [shape.height, shape.width],
        }
    }

    /// Rows and columns of tiles of an image.
    fn grid(&self) -> [usize; 2] {
        self.result.map(|side| side.div_ceil(2))
    }

    /// The image of a tile, counted over all images, and row and column of its first pixel in the result.
    fn place(&self, tile: usize) -> [usize; 3] {
        let [down, across] = self.grid();
        let (image, place) = (tile / (down * across), tile % (down * across));
        [image, place / across * 2, place % across * 2]
    }

    /// Some channels of the pixels that a tile sees, row by row; `zeros` for those outside of the image.
    #[inline]
    fn patch<'a>(
        &self,
        images: &'a [f32],
        tile: usize,
        some: &Range<usize>,
        zeros: &'a [f32],
    ) -> [&'a [f32]; PLACES] {
        let [image, top, left] = self.place(tile);
        let ([height, width], channels) = (self.source, self.channels);
        let mut patch = [&zeros[..len(some)]; PLACES];
        // Columns of the patch that are inside of the image.
        let first = self.padding.saturating_sub(left);
        let last = (width + self.padding).saturating_sub(left).min(4);
        for (y, line) in patch.chunks_exact_mut(4).enumerate() {
            let Some(row) = (top + y)
                .checked_sub(self.padding)
                .filter(|&row| row < height)
            else {
                continue;
            };
            if first >= last {
                continue;
            }
            let start = (image * height + row) * width + left + first - self.padding;
            let pixels = &images[start * channels..][..(last - first) * channels];
            let line = line[first..last].iter_mut();
            for (pixel, from) in line.zip(pixels.chunks_exact(channels)) {
                *pixel = &from[some.clone()];
            }
        }
        patch
    }

    /// The pixels of a tile in the result, row by row; `None` for those beyond its edge.
    #[inline]
    fn pixels(&self, tile: usize) -> [Option<usize>; 4] {
        let [image, top, left] = self.place(tile);
        let [height, width] = self.result;
        std::array::from_fn(|i| {
            let (row, column) = (top + i / 2, left + i % 2);
            (row < height && column < width).then(|| (image * height + row) * width + column)
        })
    }

    /// The first pixel of a row of tiles, counted over all images, in the result.
    fn first_pixel(&self, row: usize) -> usize {
        let [down, _] = self.grid();
        let [height, width] = self.result;
        (row / down * height + row % down * 2) * width
    }

    /// The convolution with kernels `[channels, outputs]` at each of the places: `[pixels, outputs]`,
    /// and what `after` returned for each block, in a fixed order.
    pub fn product<R: Send>(
        &self,
        images: &[f32],
        count: usize,
        kernels: &[Packed],
        outputs: usize,
        after: impl Fn(&mut Block) -> R + Sync,
    ) -> (Vec<f32>, Vec<R>) {
        let [height, width] = self.result;
        let mut output = Output::new(count * height * width * outputs);
        let shared = Shared {
            tiles: *self,
            outputs,
            parts: output.parts(),
            after,
        };
        let rows = count * self.grid()[0];
        let returned = match PLACES * self.channels * outputs <= BLOCK {
            true => shared.by_blocks(images, rows, kernels),
            false => shared.by_places(images, rows, kernels),
        };
        // SAFETY: the blocks of all rows of tiles cover the result, and each has been written.
        (unsafe { output.finish() }, returned)
    }

    /// `V` of a tile at its place of each matrix of `into`.
    ///
    /// # Safety
    /// Nothing else reaches the values in the meantime, and they are initialised.
    unsafe fn transform(
        &self,
        images: &[f32],
        tile: usize,
        zeros: &[f32],
        (into, first, stride): (Parts, usize, usize),
    ) {
        // SAFETY: the caller's promise.
        let lines = unsafe { lines_of(into, first, stride, self.channels) };
        input_tile(lines, self.patch(images, tile, &(0..self.channels), zeros));
    }
}

/// A result that tasks share.
struct Shared<'a, F> {
    tiles: Tiles,
    outputs: usize,
    parts: Parts<'a>,
    after: F,
}

impl<R: Send, F: Fn(&mut Block) -> R + Sync> Shared<'_, F> {
    /// A task for each block of tiles, of all places: for kernels that stay in cache.
    fn by_blocks(&self, images: &[f32], rows: usize, kernels: &[Packed]) -> Vec<R> {
        let (outputs, channels) = (self.outputs, self.tiles.channels);
        let across = self.tiles.grid()[1];
        let most = BLOCK / (PLACES * (channels + outputs) * across);
        let step = most.min(rows.div_ceil(TASKS)).max(1);
        let zeros = vec![0.0; channels];
        let task = |task: usize| {
            let rows = task * step..rows.min((task + 1) * step);
            let (first, count) = (rows.start * across, len(&rows) * across);
            let strides = [channels, outputs].map(|width| apart(count * width));
            let (mut seen, mut sums) = (Scratch::take(), Scratch::take());
            let seen = seen.room(PLACES * strides[0]);
            let parts = Parts::of(seen);
            for tile in 0..count {
                let place = (parts, tile * channels, strides[0]);
                // SAFETY: initialised, and this task's alone.
                unsafe { self.tiles.transform(images, first + tile, &zeros, place) };
            }
            let sums = sums.room(PLACES * strides[1]);
            let parts = Parts::of(sums);
            for (k, kernel) in kernels.iter().enumerate() {
                let left = Matrix::dense(&seen[k * strides[0]..], count, channels);
                let size = [count, outputs];
                let into = Destination::new(parts, k * strides[1], size, outputs);
                // SAFETY: the sums are this task's, and are replaced.
                unsafe { kernel.multiply(left, 0..outputs, into) };
            }
            self.finish(rows, sums, strides[1], first)
        };
        let tasks = (0..rows.div_ceil(step)).into_par_iter().with_max_len(1);
        tasks.map(task).collect()
    }

    /// Many tiles at a time, a task for each place and some outputs: for kernels that are larger than the
    /// cache, so that each is read once.
    fn by_places(&self, images: &[f32], rows: usize, kernels: &[Packed]) -> Vec<R> {
        let (outputs, channels) = (self.outputs, self.tiles.channels);
        let across = self.tiles.grid()[1];
        let most = PANEL / (PLACES * (channels + outputs) * across);
        let panel = equal_parts(rows, most.max(1), 1);
        let zeros = vec![0.0; channels];
        let mut returned = Vec::new();
        for top in (0..rows).step_by(panel) {
            let panel = top..rows.min(top + panel);
            let (first, count) = (panel.start * across, len(&panel) * across);
            let strides = [channels, outputs].map(|width| apart(count * width));
            let mut seen = Buffer::new(PLACES * strides[0]);
            let parts = Parts::of(&mut seen);
            (0..count).into_par_iter().for_each(|tile| {
                let place = (parts, tile * channels, strides[0]);
                // SAFETY: initialised, and each tile is one task's.
                unsafe { self.tiles.transform(images, first + tile, &zeros, place) };
            });
            let mut sums = Buffer::new(PLACES * strides[1]);
            let parts = Parts::of(&mut sums);
            let columns = outputs.div_ceil(COLUMNS);
            let products = (0..PLACES * columns).into_par_iter().with_max_len(1);
            products.for_each(|task| {
                let (k, left) = (task / columns, task % columns * COLUMNS);
                let columns = left..outputs.min(left + COLUMNS);
                let operand = Matrix::dense(&seen[k * strides[0]..], count, channels);
                let size = [count, len(&columns)];
                let into = Destination::new(parts, k * strides[1] + left, size, outputs);
                // SAFETY: these columns are this task's, and are replaced.
                unsafe { kernels[k].multiply(operand, columns, into) };
            });
            let step = (MOST_TILES / across)
                .min(len(&panel).div_ceil(TASKS))
                .max(1);
            let blocks = (0..len(&panel).div_ceil(step)).into_par_iter();
            let finished = blocks.with_max_len(1).map(|block| {
                let top = panel.start + block * step;
                let rows = top..panel.end.min(top + step);
                self.finish(rows, &sums, strides[1], first)
            });
            returned.par_extend(finished);
        }
        returned
    }

    /// Writes the rows of tiles `rows`, whose sums are `stride` apart at the places; those of tile `first` are
    /// the first.
    fn finish(&self, rows: Range<usize>, sums: &[f32], stride: usize, first: usize) -> R {
        let (outputs, tiles) = (self.outputs, &self.tiles);
        let across = tiles.grid()[1];
        let pixels = tiles.first_pixel(rows.start)..tiles.first_pixel(rows.end);
        let range = pixels.start * outputs..pixels.end * outputs;
        // SAFETY: the pixels of each row of tiles are one task's.
        let into = unsafe { self.parts.zeroed(range) };
        for tile in rows.start * across..rows.end * across {
            let sums = lines(sums, (tile - first) * outputs, stride, outputs);
            let places = tiles.pixels(tile);
            let places = places.map(|pixel| pixel.map(|pixel| (pixel - pixels.start) * outputs));
            output_tile(into, places, sums);
        }
        (self.after)(&mut Block::new(pixels, 0..outputs, outputs, self.parts))
    }
}

/// Distance of matrices of so many values at the places: a cache line more than they need, since lines of
/// all 16 matrices at multiples of a page would meet in one set of the cache.
fn apart(values: usize) -> usize {
    values.next_multiple_of(LANES) + LANES
}

/// The values from `first` on of the matrix of each place, which are `stride` apart.
#[inline]
fn lines(values: &[f32], first: usize, stride: usize, width: usize) -> [&[f32]; PLACES] {
    let values = &values[first..];
    let mut lines = [&values[..width]; PLACES];
    for (k, line) in lines.iter_mut().enumerate() {
        *line = &values[k * stride..][..width];
    }
    lines
}

/// [`lines`] to be written.
///
/// # Safety
/// They are initialised, do not overlap, and nothing else reaches them while the slices live.
#[inline]
unsafe fn lines_of(
    parts: Parts<'_>,
    first: usize,
    stride: usize,
    width: usize,
) -> [&mut [f32]; PLACES] {
    assert!(width <= stride);
    let start = parts.at(first, (PLACES - 1) * stride + width);
    // SAFETY: inside of the buffer by `at`; those of different places do not overlap by the assertion; the
    // rest is the caller's promise.
    std::array::from_fn(|k| unsafe { std::slice::from_raw_parts_mut(start.add(k * stride), width) })
}

/// `U` of all kernels, `[16, O, I]`, each output multiplied by its factor if there are any.
fn kernels(weight: &[f32], scale: Option<&[f32]>, shape: &ConvShape) -> Buffer {
    let (inputs, outputs) = (shape.inputs, shape.outputs);
    let mut buffer = Buffer::new(PLACES * outputs * inputs);
    let parts = Parts::of(&mut buffer);
    let rows = weight.par_chunks_exact(9 * inputs).enumerate();
    rows.for_each(|(output, from)| {
        // SAFETY: initialised, and each line is of one output, which is one task's.
        let lines = unsafe { lines_of(parts, output * inputs, outputs * inputs, inputs) };
        kernel_tile(lines, from, scale.map_or(1.0, |scale| scale[output]));
    });
    buffer
}

/// The matrix `[O, I]` of a place.
fn place<'a>(kernels: &'a [f32], place: usize, shape: &ConvShape) -> Matrix<'a> {
    let (inputs, outputs) = (shape.inputs, shape.outputs);
    Matrix::dense(&kernels[place * outputs * inputs..], outputs, inputs)
}

/// The right operands of all places.
fn operands<'a, 'k>(
    buffers: &'a mut [Buffer; PLACES],
    of: impl Fn(usize) -> Matrix<'k> + Sync,
) -> Vec<Packed<'a>> {
    let all = buffers.par_iter_mut().enumerate();
    all.map(|(k, buffer)| Packed::in_parallel(of(k), buffer))
        .collect()
}
