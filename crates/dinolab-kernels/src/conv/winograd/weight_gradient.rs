//! The gradient of the kernels: that of `U` is a sum over tiles of `(A dy Aᵀ) ∘ V`, a product of matrices at
//! each place.

use std::ops::Range;

use rayon::prelude::*;

use super::transform::{PLACES, input_tile, kernel_gradient_tile, output_gradient_tile};
use super::{Tiles, apart, lines, lines_of};
use crate::conv::ConvShape;
use crate::parallel::{Parts, under_miri};
use crate::product::{Destination, Matrix, Packed, Store, UNIT, equal_parts};
use crate::scratch::{Buffer, Scratch};
use crate::simd::add_to;

/// Tiles that are transformed at a time.
const TILES: usize = under_miri(4, 96);
/// Tiles of a partial sum, at least.
const TILES_PER_PART: usize = under_miri(8, 384);
/// Fewest tasks, if there are columns for them.
const TASKS: usize = 16;
/// Most values of all partial sums.
const MOST_PARTIAL_VALUES: usize = 1 << 23;

/// The gradient of the weights, `[O, I, 3, 3]`.
///
/// Tiles are divided into parts by the sizes alone, whose sums are added in order.
pub(in super::super) fn weight_gradient(dy: &[f32], x: &[f32], shape: &ConvShape) -> Vec<f32> {
    let tiles = Tiles::forward(shape);
    let (inputs, outputs) = (shape.inputs, shape.outputs);
    let [down, across] = tiles.grid();
    let count = shape.images * down * across;
    let values = PLACES * outputs * inputs;
    let most = (MOST_PARTIAL_VALUES / values).max(1);
    let step = count.div_ceil(count.div_ceil(TILES_PER_PART).min(most));
    let parts = count.div_ceil(step);
    // Enough tasks, of enough columns that the left operand is worth its packing.
    let widest = inputs.div_ceil(TASKS.div_ceil(parts)).max(4 * UNIT);
    let column_step = equal_parts(inputs, widest.min(under_miri(2, 256)), UNIT);
    let columns = inputs.div_ceil(column_step);
    let mut sums = Buffer::new(parts * values);
    let into = Parts::of(&mut sums);
    let task = |task: usize| {
        let (part, column) = (task / columns, task % columns);
        let left = column * column_step;
        let channels = left..inputs.min(left + column_step);
        let some = part * step..count.min((part + 1) * step);
        sum_of_tiles([dy, x], &tiles, outputs, (channels, some), (part, into));
    };
    (0..parts * columns)
        .into_par_iter()
        .with_max_len(1)
        .for_each(task);
    let (sum, others) = sums.split_at_mut(values);
    let width = under_miri(64, 1 << 14);
    let chunks = sum.par_chunks_mut(width).enumerate();
    chunks.for_each(|(i, sum)| {
        for part in others.chunks_exact(values) {
            add_to(sum, &part[i * width..][..sum.len()]);
        }
    });
    let mut gradient = vec![0.0; outputs * inputs * 9];
    let rows = gradient.par_chunks_exact_mut(9 * inputs).enumerate();
    rows.for_each(|(output, into)| {
        let lines = lines(sum, output * inputs, outputs * inputs, inputs);
        kernel_gradient_tile(into, lines);
    });
    gradient
}

/// The sums `[16, O, I]` over some tiles, of some channels of the images, into their part.
fn sum_of_tiles(
    [dy, x]: [&[f32]; 2],
    tiles: &Tiles,
    outputs: usize,
    (channels, some): (Range<usize>, Range<usize>),
    (part, into): (usize, Parts),
) {
    let (inputs, width) = (tiles.channels, channels.len());
    let zeros = vec![0.0; inputs.max(outputs)];
    let [mut seen, mut gradients, mut packed] = [Scratch::take(), Scratch::take(), Scratch::take()];
    for first in some.clone().step_by(TILES) {
        let end = some.end.min(first + TILES);
        let count = end - first;
        let strides = [width, outputs].map(|width| apart(count * width));
        let seen = seen.room(PLACES * strides[0]);
        let gradients = gradients.room(PLACES * strides[1]);
        let parts = [Parts::of(seen), Parts::of(gradients)];
        for (number, tile) in (first..end).enumerate() {
            let patch = tiles.patch(x, tile, &channels, &zeros);
            // SAFETY: initialised, and this task's alone.
            let lines = unsafe { lines_of(parts[0], number * width, strides[0], width) };
            input_tile(lines, patch);
            let mut pixels = [&zeros[..outputs]; 4];
            for (values, pixel) in pixels.iter_mut().zip(tiles.pixels(tile)) {
                if let Some(pixel) = pixel {
                    *values = &dy[pixel * outputs..][..outputs];
                }
            }
            // SAFETY: initialised, and this task's alone.
            let lines = unsafe { lines_of(parts[1], number * outputs, strides[1], outputs) };
            output_gradient_tile(lines, pixels);
        }
        for k in 0..PLACES {
            let right = Matrix::dense(&seen[k * strides[0]..], count, width);
            let right = Packed::new(right, packed.vec());
            let left = Matrix::dense(&gradients[k * strides[1]..], count, outputs);
            let place = ((part * PLACES + k) * outputs) * inputs + channels.start;
            let mut into = Destination::new(into, place, [outputs, width], inputs);
            if first > some.start {
                into.store = Store::Add;
            }
            // SAFETY: these columns of the part are this task's alone, replaced by the first product and
            // written when others are added.
            unsafe { right.multiply(left.transposed(), 0..width, into) };
        }
    }
}
