//! Linear maps over rows, with their bias and GELU, and their gradients.
//!
//! Weights are `[O, I]`, output first. All are matrix products, cut into tiles by the
//! sizes alone; what follows a product is done on the tile while it is in cache.

use std::ops::Range;

use rayon::prelude::*;

use crate::gelu::{gelu_and_derivative_in_place, gelu_in_place, multiply_into};
use crate::matrix::{Matrix, Store, product_raw};
use crate::parallel::{Output, Parts, by_rows, light_step, ordered_sum};
use crate::simd::{add_columns, add_to};

/// `n` in equal parts of at most `most`: the size of a part, a multiple of `unit`.
fn equal_parts(n: usize, most: usize, unit: usize) -> usize {
    n.div_ceil(n.div_ceil(most).max(1)).next_multiple_of(unit)
}

/// Tiles of a matrix.
struct Tiles {
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl Tiles {
    /// Large enough that packing the operands again for each tile costs little, small
    /// enough that a tile stays in cache and that some threads find work.
    fn of(rows: usize, columns: usize) -> Self {
        let (most_rows, most_columns, wanted) = (256, 512, 8);
        let mut row_step = equal_parts(rows, most_rows, 8);
        let mut column_step = equal_parts(columns, most_columns, 16);
        let count = |r: usize, c: usize| rows.div_ceil(r) * columns.div_ceil(c);
        while count(row_step, column_step) < wanted {
            if column_step >= 256 {
                column_step = equal_parts(column_step, column_step.div_ceil(2), 16);
            } else if row_step >= 128 {
                row_step = equal_parts(row_step, row_step.div_ceil(2), 8);
            } else {
                break;
            }
        }
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

    /// Rows and columns of a tile.
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

/// `a · b`; `after` gets each row of a tile with the row's number and its first column.
fn tiled_product(
    a: Matrix,
    b: Matrix,
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
            tile_product(
                parts,
                columns,
                a.rows(r.clone()),
                b.columns(c.clone()),
                [r.clone(), c.clone()],
            );
            for row in r {
                let start = row * columns;
                // SAFETY: the tile is this task's, and the product has just written it.
                after(row, c.start, unsafe {
                    parts.written(start + c.start..start + c.end)
                });
            }
        });
    // SAFETY: the tiles cover the matrix, and each has been written.
    unsafe { output.finish() }
}

/// One tile of a product into its place in a matrix with `columns` columns.
fn tile_product(parts: Parts, columns: usize, a: Matrix, b: Matrix, [r, c]: [Range<usize>; 2]) {
    let into = parts.at(
        r.start * columns + c.start,
        (r.len() - 1) * columns + c.len(),
    );
    // SAFETY: `at` has checked the extent, and each tile is one task's.
    unsafe { product_raw(into, columns, a, b, 1.0, Store::Replace) }
}

/// From this many rows on, weights are transposed once: cheaper than the strided packing that
/// each tile would do.
const ROWS_FOR_A_COPY: usize = 64;

/// The transpose of `m` `[rows, columns]`.
fn transposed(m: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    // Squares go through a small array, so that both sides see whole runs.
    const SIDE: usize = 8;
    let step = light_step(rows).next_multiple_of(SIDE);
    let ([out], _) = by_rows(columns, step, [rows], |range, [out]| {
        let mut square = [[0.0; SIDE]; SIDE];
        for r in (0..rows).step_by(SIDE) {
            let height = SIDE.min(rows - r);
            for c in range.clone().step_by(SIDE) {
                let width = SIDE.min(range.end - c);
                for (i, line) in square[..height].iter_mut().enumerate() {
                    let from = &m[(r + i) * columns + c..];
                    match from.first_chunk() {
                        Some(whole) if width == SIDE => *line = *whole,
                        _ => line[..width].copy_from_slice(&from[..width]),
                    }
                }
                for j in 0..width {
                    let into = &mut out[(c - range.start + j) * rows + r..];
                    let column = square.map(|line| line[j]);
                    match into.first_chunk_mut() {
                        Some(whole) if height == SIDE => *whole = column,
                        _ => into[..height].copy_from_slice(&column[..height]),
                    }
                }
            }
        }
    });
    out
}

/// Rows and outputs of a map from `inputs` with weights `weight`.
fn sizes(x: &[f32], weight: &[f32], bias: Option<&[f32]>, inputs: usize) -> [usize; 2] {
    assert!(inputs > 0 && x.len().is_multiple_of(inputs) && weight.len().is_multiple_of(inputs));
    let outputs = weight.len() / inputs;
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    [x.len() / inputs, outputs]
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
    let x = Matrix::new(x, rows, inputs, inputs);
    let copy;
    let weight = if rows < ROWS_FOR_A_COPY {
        Matrix::new(weight, outputs, inputs, inputs).transposed()
    } else {
        copy = transposed(weight, outputs, inputs);
        Matrix::new(&copy, inputs, outputs, outputs)
    };
    tiled_product(x, weight, [rows, outputs], |row, column, y| {
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

/// [`linear_gelu`] and GELU's derivative at the map's result, both `[R, O]`.
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
        // SAFETY: the place of this task's own tile in the other matrix.
        let y = unsafe { parts.zeroed(start..start + h.len()) };
        gelu_and_derivative_in_place(h, y);
    });
    // SAFETY: every row of every tile has been written.
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
    let dy = Matrix::new(dy, rows, outputs, outputs);
    let weight = Matrix::new(weight, outputs, inputs, inputs);
    tiled_product(dy, weight, [rows, inputs], |_, _, _| ())
}

/// The gradient of the weights, `dyᵀ · x`: `[R, O]` and `[R, I]` → `[O, I]`.
///
/// Small weights leave too few tiles, so the rows are cut as well and the parts added in order.
pub fn weight_gradient(dy: &[f32], x: &[f32], outputs: usize, inputs: usize) -> Vec<f32> {
    const ROWS_PER_PART: usize = 1024;
    const MOST_PARTIAL_VALUES: usize = 1 << 22;
    assert!(inputs > 0 && outputs > 0);
    let rows = x.len() / inputs;
    assert!(x.len() == rows * inputs && dy.len() == rows * outputs);
    let size = outputs * inputs;
    if rows == 0 {
        return vec![0.0; size];
    }
    let x = Matrix::new(x, rows, inputs, inputs);
    let dy = Matrix::new(dy, rows, outputs, outputs);
    let parts = rows
        .div_ceil(ROWS_PER_PART)
        .min((MOST_PARTIAL_VALUES / size).max(1));
    if parts == 1 {
        return tiled_product(dy.transposed(), x, [outputs, inputs], |_, _, _| ());
    }
    let step = rows.div_ceil(parts);
    let parts = rows.div_ceil(step);
    let tiles = Tiles {
        rows: outputs,
        columns: inputs,
        row_step: 256,
        column_step: 512,
    };
    let mut partial = Output::new(parts * size);
    let all = partial.parts();
    (0..parts * tiles.count())
        .into_par_iter()
        .with_max_len(1)
        .for_each(|i| {
            let (part, tile) = (i / tiles.count(), i % tiles.count());
            let some = part * step..rows.min((part + 1) * step);
            let (r, c) = tiles.get(tile);
            let a = dy.rows(some.clone()).transposed().rows(r.clone());
            let b = x.rows(some).columns(c.clone());
            let shifted = part * outputs + r.start..part * outputs + r.end;
            tile_product(all, inputs, a, b, [shifted, c]);
        });
    // SAFETY: parts and tiles cover the allocation.
    let partial = unsafe { partial.finish() };
    let ([sum], _) = by_rows(size, light_step(parts), [1], |range, [sum]| {
        for part in 0..parts {
            add_to(
                sum,
                &partial[part * size + range.start..part * size + range.end],
            );
        }
    });
    sum
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

/// Through the GELU of [`linear_gelu_with_derivative`]: the gradient of the map's result,
/// `dy · derivative` `[R, O]`, and of the bias `[O]`.
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
