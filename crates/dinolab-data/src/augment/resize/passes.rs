//! The two passes of a resize, in Pillow's arithmetic: first along rows, then along columns, with
//! values rounded to 8 bits in between.
//!
//! Vectors hold neighbours that are weighed alike. Along columns these are a row's pixels. Along
//! rows they are pixels one below the other: rows are taken sixteen at a time and transposed, so that
//! the sixteen values of a column lie side by side, and transposed back afterwards.

use multiversion::multiversion;

use super::transpose::{ROWS, gather, scatter};
use super::weights::{BITS, FilterWeights};

/// Values of one column in all its channels.
const COLUMN: usize = 3 * ROWS;
/// Values that are summed at a time along columns.
const SPAN: usize = 64;

/// Buffers kept between calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Passes {
    /// Sixteen rows, and what they are transposed into.
    strips: [Vec<u8>; 2],
    /// Rows of the new width, channels one after the other.
    narrowed: Vec<u8>,
    row: Vec<u8>,
}

impl Passes {
    /// Resizes the rows `[width, 3]` that `row` gives, to planes `[3, H, W]`, mirrored where `flip`.
    pub(super) fn run<'a>(
        &mut self,
        rows: usize,
        row: impl Fn(usize) -> &'a [u8],
        (across, down): (&FilterWeights, &FilterWeights),
        (width, height): (usize, usize),
        flip: bool,
        planes: &mut [u8],
    ) {
        let stride = (3 * width).next_multiple_of(SPAN);
        self.narrowed
            .resize(rows.next_multiple_of(ROWS) * stride, 0);
        self.row.resize(stride, 0);
        let [strip, other] = &mut self.strips;
        for (group, narrowed) in self.narrowed.chunks_exact_mut(ROWS * stride).enumerate() {
            // The last group is filled up with the last row.
            let rows: [&[u8]; ROWS] =
                std::array::from_fn(|i| row((group * ROWS + i).min(rows - 1)));
            let length = rows[0].len();
            strip.resize(ROWS * length.max(3 * width), 0);
            other.resize(strip.len(), 0);
            let columns = &mut strip[..ROWS * length];
            gather(rows, columns, other);
            let results = &mut other[..COLUMN * width];
            weigh_columns(columns, across, flip, results);
            scatter(results, strip, narrowed, stride);
        }
        let plane = width * height;
        for (y, (start, weights)) in down.iter().enumerate() {
            weigh_rows(
                &self.narrowed[start * stride..],
                stride,
                weights,
                &mut self.row,
            );
            for (c, row) in self.row.chunks_exact(width).take(3).enumerate() {
                planes[c * plane + y * width..][..width].copy_from_slice(row);
            }
        }
    }
}

/// The nearest level of a sum in fixed point that began with a half.
#[inline(always)]
fn level(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Sums columns `[width, 3, 16]` to results `[3, new width, 16]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn weigh_columns(columns: &[u8], across: &FilterWeights, flip: bool, results: &mut [u8]) {
    let (columns, _) = columns.as_chunks::<COLUMN>();
    let (results, _) = results.as_chunks_mut::<ROWS>();
    let width = results.len() / 3;
    for (x, (start, weights)) in across.iter().enumerate() {
        let mut sums = [1 << (BITS - 1); COLUMN];
        for (column, weight) in columns[start..].iter().zip(weights) {
            for i in 0..COLUMN {
                sums[i] += i32::from(column[i]) * weight;
            }
        }
        let x = if flip { width - 1 - x } else { x };
        for c in 0..3 {
            let result = &mut results[c * width + x];
            for i in 0..ROWS {
                result[i] = level(sums[c * ROWS + i]);
            }
        }
    }
}

/// Sums rows that are `stride` apart.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn weigh_rows(rows: &[u8], stride: usize, weights: &[i32], out: &mut [u8]) {
    let (out, _) = out.as_chunks_mut::<SPAN>();
    for (span, out) in out.iter_mut().enumerate() {
        let mut sums = [1 << (BITS - 1); SPAN];
        for (row, weight) in rows.chunks_exact(stride).zip(weights) {
            let (row, _) = row.as_chunks::<SPAN>();
            let values = &row[span];
            for i in 0..SPAN {
                sums[i] += i32::from(values[i]) * weight;
            }
        }
        for i in 0..SPAN {
            out[i] = level(sums[i]);
        }
    }
}
