//! Linear layers over rows, with their bias and GELU, and their gradients.
//!
//! Weights are `[O, I]`, output first. All are matrix multiplications, divided into tasks by the
//! sizes alone; bias and GELU are applied to a task's part while it is in cache.

use std::ops::Range;

use rayon::prelude::*;

use crate::gelu::{gelu_and_derivative_in_place, gelu_in_place, multiply_into};
use crate::parallel::{Output, Parts, by_rows, light_step, ordered_sum, under_miri};
use crate::product::{Destination, Matrix, Packed, UNIT, equal_parts};
use crate::scratch::Buffer;
use crate::simd::{add_columns, add_to};

/// Maximum rows per task: its part of a block's hidden layer then stays in cache.
const MOST_ROWS: usize = under_miri(16, 96);
/// Minimum number of tasks that a product is divided into, if it is large enough.
const TASKS: usize = 64;

/// Rows per task, for `rows` that go through large weights.
pub(crate) fn row_step(rows: usize) -> usize {
    equal_parts(rows, rows.div_ceil(TASKS).clamp(16, MOST_ROWS), 8)
}

/// The parts that a result is divided into.
struct Tiles {
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl Tiles {
    /// Whole rows if there are many, else columns are divided as well.
    fn of(rows: usize, columns: usize) -> Self {
        let row_step = row_step(rows);
        let parts = TASKS.div_ceil(rows.div_ceil(row_step));
        let column_step = columns.div_ceil(parts).max(4 * UNIT).next_multiple_of(UNIT);
        Self {
            rows,
            columns,
            row_step,
            column_step,
        }
    }

    fn count(&self) -> usize {
        self.rows.div_ceil(self.row_step) * self.columns.div_ceil(self.column_step)
    }

    /// Rows and columns of a part.
    fn get(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let across = self.columns.div_ceil(self.column_step);
        let (r, c) = (
            index / across * self.row_step,
            index % across * self.column_step,
        );
        (
            r..self.rows.min(r + self.row_step),
            c..self.columns.min(c + self.column_step),
        )
    }
}

/// `a · b`; calls `after` for each row of a part, with the row's number and its first column.
fn tiled_product(
    a: Matrix,
    b: &Packed,
    [rows, columns]: [usize; 2],
    after: impl Fn(usize, usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut output = Output::new(rows * columns);
    let parts = output.parts();
    let tiles = Tiles::of(rows, columns);
    (0..tiles.count())
        .into_par_iter()
        .with_max_len(1)
        .for_each(|i| {
            let (r, c) = tiles.get(i);
            let offset = r.start * columns + c.start;
            let into = Destination::new(parts, offset, [r.len(), c.len()], columns);
            // SAFETY: each part is one task's, and is replaced.
            unsafe { b.multiply(a.rows(r.clone()), c.clone(), into) };
            for row in r {
                let start = row * columns;
                // SAFETY: the part is this task's, and the product has just written it.
                after(row, c.start, unsafe {
                    parts.written(start + c.start..start + c.end)
                });
            }
        });
    // SAFETY: the parts cover the matrix, and each has been written.
    unsafe { output.finish() }
}

/// Rows and outputs of a layer of `inputs` inputs with weights `weight`.
fn sizes(x: &[f32], weight: &[f32], bias: Option<&[f32]>, inputs: usize) -> [usize; 2] {
    assert!(inputs > 0 && x.len().is_multiple_of(inputs) && weight.len().is_multiple_of(inputs));
    let outputs = weight.len() / inputs;
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    [x.len() / inputs, outputs]
}

/// Weights `[O, I]` as the right operand of the forward pass.
pub(crate) fn forward_operand(weight: &[f32], inputs: usize) -> Matrix<'_> {
    Matrix::dense(weight, weight.len() / inputs, inputs).transposed()
}

/// Weights `[O, I]` as the right operand of the backward pass.
pub(crate) fn backward_operand(weight: &[f32], inputs: usize) -> Matrix<'_> {
    Matrix::dense(weight, weight.len() / inputs, inputs)
}

fn forward(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    inputs: usize,
    after: impl Fn(usize, usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let [rows, outputs] = sizes(x, weight, bias, inputs);
    if rows == 0 || outputs == 0 {
        return Vec::new();
    }
    let mut buffer = Buffer::default();
    let weight = Packed::in_parallel(forward_operand(weight, inputs), &mut buffer);
    let x = Matrix::dense(x, rows, inputs);
    tiled_product(x, &weight, [rows, outputs], |row, column, y| {
        if let Some(bias) = bias {
            add_to(y, &bias[column..column + y.len()]);
        }
        after(row, column, y);
    })
}

/// `x · weightᵀ + bias`: `x` `[R, I]`, `weight` `[O, I]`, `bias` `[O]` → `[R, O]`.
pub fn linear(x: &[f32], weight: &[f32], bias: Option<&[f32]>, inputs: usize) -> Vec<f32> {
    forward(x, weight, bias, inputs, |_, _, _| ())
}

/// [`linear`] followed by the exact GELU.
pub fn linear_gelu(x: &[f32], weight: &[f32], bias: Option<&[f32]>, inputs: usize) -> Vec<f32> {
    forward(x, weight, bias, inputs, |_, _, y| gelu_in_place(y))
}

/// [`linear_gelu`] and GELU's derivative at the linear layer's output, both `[R, O]`.
pub fn linear_gelu_with_derivative(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    inputs: usize,
) -> (Vec<f32>, Vec<f32>) {
    let [rows, outputs] = sizes(x, weight, bias, inputs);
    let mut output = Output::new(rows * outputs);
    let parts = output.parts();
    let derivative = forward(x, weight, bias, inputs, |row, column, h| {
        let start = row * outputs + column;
        // SAFETY: the place of this task's own part in the other matrix.
        let y = unsafe { parts.zeroed(start..start + h.len()) };
        gelu_and_derivative_in_place(h, y);
    });
    // SAFETY: every row of every part has been written.
    (unsafe { output.finish() }, derivative)
}

/// The gradient of the input, `dy · weight`: `[R, O]` and `[O, I]` → `[R, I]`.
pub fn input_gradient(dy: &[f32], weight: &[f32], inputs: usize) -> Vec<f32> {
    assert!(inputs > 0 && weight.len().is_multiple_of(inputs));
    let outputs = weight.len() / inputs;
    assert!(outputs > 0 && dy.len().is_multiple_of(outputs));
    let rows = dy.len() / outputs;
    if rows == 0 {
        return Vec::new();
    }
    let mut buffer = Buffer::default();
    let weight = Packed::in_parallel(backward_operand(weight, inputs), &mut buffer);
    let dy = Matrix::dense(dy, rows, outputs);
    tiled_product(dy, &weight, [rows, inputs], |_, _, _| ())
}

/// A weight gradient to be computed: `dyᵀ · x`.
pub(crate) struct WeightGradient<'a> {
    /// Gradients of the layer's outputs, `[R, O]`.
    pub dy: Matrix<'a>,
    /// The layer's inputs, `[R, I]`.
    pub x: Matrix<'a>,
    /// `R`, `O` and `I`.
    pub sizes: [usize; 3],
}

/// Weight gradients `[O, I]`, computed together, so that small ones leave no thread idle.
///
/// Small weights give too few parts, so rows are divided as well and the partial sums added in
/// order.
pub(crate) fn weight_gradients<const N: usize>(maps: [WeightGradient; N]) -> [Vec<f32>; N] {
    const ROWS_PER_PART: usize = under_miri(16, 768);
    const MOST_PARTIAL_VALUES: usize = 1 << 22;
    let plans = maps.each_ref().map(|map| {
        let [rows, outputs, inputs] = map.sizes;
        let most = (MOST_PARTIAL_VALUES / (outputs * inputs)).max(1);
        let parts = rows.div_ceil(ROWS_PER_PART).min(most);
        let step = rows.div_ceil(parts);
        let tiles = Tiles {
            rows: outputs,
            columns: inputs,
            row_step: equal_parts(outputs, 384, 8),
            column_step: equal_parts(inputs, 512, UNIT),
        };
        (rows.div_ceil(step), step, tiles)
    });
    let mut outputs = plans
        .each_ref()
        .map(|(_, _, tiles)| Output::new(tiles.rows * tiles.columns));
    let mut partial = plans
        .each_ref()
        .map(|(parts, _, tiles)| Buffer::new((parts - 1) * tiles.rows * tiles.columns));
    let results = outputs.each_mut().map(Output::parts);
    let others = partial.each_mut().map(|buffer| Parts::of(buffer));
    let tasks: Vec<_> = plans
        .iter()
        .enumerate()
        .flat_map(|(map, (parts, _, tiles))| {
            (0..parts * tiles.count()).map(move |i| (map, i / tiles.count(), i % tiles.count()))
        })
        .collect();
    tasks
        .into_par_iter()
        .with_max_len(1)
        .for_each(|(map, part, tile)| {
            let (_, step, tiles) = &plans[map];
            let WeightGradient {
                dy,
                x,
                sizes: [rows, outputs, inputs],
            } = &maps[map];
            let some = part * step..(*rows).min((part + 1) * step);
            let (r, c) = tiles.get(tile);
            // The first part is written to the result, the others to buffers of their own.
            let (all, first) = match part {
                0 => (results[map], 0),
                _ => (others[map], (part - 1) * outputs * inputs),
            };
            let offset = first + r.start * inputs + c.start;
            let into = Destination::new(all, offset, [r.len(), c.len()], *inputs);
            let mut scratch = crate::scratch::Scratch::take();
            let x = Packed::new(x.rows(some.clone()).columns(c.clone()), scratch.vec());
            let dy = dy.rows(some).columns(r).transposed();
            // SAFETY: parts and tiles are disjoint, and replaced.
            unsafe { x.multiply(dy, 0..c.len(), into) };
        });
    for (map, (parts, _, tiles)) in plans.iter().enumerate() {
        let size = tiles.rows * tiles.columns;
        let step = light_step(*parts);
        (0..if *parts > 1 { size.div_ceil(step) } else { 0 })
            .into_par_iter()
            .for_each(|i| {
                let range = i * step..size.min((i + 1) * step);
                // SAFETY: written by the tasks above; each range is one task's.
                let sum = unsafe { results[map].written(range.clone()) };
                for part in 0..parts - 1 {
                    add_to(
                        sum,
                        &partial[map][part * size + range.start..part * size + range.end],
                    );
                }
            });
    }
    // SAFETY: parts and tiles cover each result.
    outputs.map(|output| unsafe { output.finish() })
}

/// The gradient of the weights, `dyᵀ · x`: `[R, O]` and `[R, I]` → `[O, I]`.
pub fn weight_gradient(dy: &[f32], x: &[f32], outputs: usize, inputs: usize) -> Vec<f32> {
    assert!(inputs > 0 && outputs > 0);
    let rows = x.len() / inputs;
    assert!(x.len() == rows * inputs && dy.len() == rows * outputs);
    if rows == 0 {
        return vec![0.0; outputs * inputs];
    }
    let map = WeightGradient {
        dy: Matrix::dense(dy, rows, outputs),
        x: Matrix::dense(x, rows, inputs),
        sizes: [rows, outputs, inputs],
    };
    let [gradient] = weight_gradients([map]);
    gradient
}

/// The gradient of the bias, the sum of the rows of `dy` `[R, O]` → `[O]`.
pub fn bias_gradient(dy: &[f32], outputs: usize) -> Vec<f32> {
    assert!(outputs > 0 && dy.len().is_multiple_of(outputs));
    let (_, sums) = by_rows(dy.len() / outputs, light_step(outputs), [], |rows, []| {
        let mut sums = vec![0.0; outputs];
        add_columns(&mut sums, &dy[rows.start * outputs..rows.end * outputs]);
        sums
    });
    ordered_sum(outputs, sums)
}

/// The backward pass through the GELU of [`linear_gelu_with_derivative`]: the gradients of the
/// linear layer's output, `dy · derivative` `[R, O]`, and of the bias `[O]`.
pub fn gelu_bias_gradient(dy: &[f32], derivative: &[f32], outputs: usize) -> (Vec<f32>, Vec<f32>) {
    assert!(outputs > 0 && dy.len().is_multiple_of(outputs) && dy.len() == derivative.len());
    let ([dh], sums) = by_rows(
        dy.len() / outputs,
        light_step(outputs),
        [outputs],
        |rows, [dh]| {
            let range = rows.start * outputs..rows.end * outputs;
            multiply_into(&dy[range.clone()], &derivative[range], dh);
            let mut sums = vec![0.0; outputs];
            add_columns(&mut sums, dh);
            sums
        },
    );
    (dh, ordered_sum(outputs, sums))
}
