//! The two passes of a resize, in Pillow's arithmetic: first along rows, then along columns, with
//! values rounded to 8 bits in between.
//!
//! Vectors hold neighbours that are weighed alike. Along columns these are a row's pixels. Along
//! rows they are pixels one below the other: rows are taken sixteen at a time and shuffled, so that
//! the sixteen values of a column lie side by side, and shuffled back afterwards.

use multiversion::multiversion;

use super::weights::{BITS, Weights};

/// Rows that are resized together.
const ROWS: usize = 16;
/// Values of one column in all its channels.
const COLUMN: usize = 3 * ROWS;
/// Values that are summed at a time along columns.
const SPAN: usize = 64;

/// Buffers kept between calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Passes {
    /// Sixteen rows, and what they are shuffled into.
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
        (across, down): (&Weights, &Weights),
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
            let row = |i: usize| row((group * ROWS + i).min(rows - 1));
            let length = row(0).len();
            strip.resize(ROWS * length.max(3 * width), 0);
            other.resize(strip.len(), 0);
            let columns = &mut strip[..ROWS * length];
            gather(row, length, columns, other);
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

/// Lays sixteen rows of `length` values side by side: value `i` of row `r` comes to `16 · i + r`.
fn gather<'a>(
    row: impl Fn(usize) -> &'a [u8],
    length: usize,
    columns: &mut [u8],
    other: &mut [u8],
) {
    // Each step lays pairs of strips side by side, and there are half as many afterwards.
    let other = &mut other[..columns.len()];
    for (i, pair) in other.chunks_exact_mut(2 * length).enumerate() {
        interleave(row(i), row(i + ROWS / 2), pair);
    }
    interleave_halves(other, 2 * length, columns);
    interleave_halves(columns, 4 * length, other);
    interleave_halves(other, 8 * length, columns);
}

/// Undoes [`gather`] for the results, each row to a row of `stride`.
fn scatter(results: &mut [u8], other: &mut [u8], rows: &mut [u8], stride: usize) {
    let other = &mut other[..results.len()];
    separate_all(results, results.len(), other);
    separate_all(other, other.len() / 2, results);
    separate_all(results, results.len() / 4, other);
    let length = results.len() / ROWS;
    for (i, pair) in other.chunks_exact(2 * length).enumerate() {
        // The strips are in the order of their bits, read backwards.
        let first = (i & 1) << 2 | i & 2 | i >> 2;
        let (even, odd) = rows.split_at_mut((first + ROWS / 2) * stride);
        separate(
            pair,
            &mut even[first * stride..][..length],
            &mut odd[..length],
        );
    }
}

fn interleave_halves(from: &[u8], length: usize, to: &mut [u8]) {
    let (first, second) = from.split_at(from.len() / 2);
    let pairs = first
        .chunks_exact(length)
        .zip(second.chunks_exact(length))
        .zip(to.chunks_exact_mut(2 * length));
    for ((a, b), to) in pairs {
        interleave(a, b, to);
    }
}

fn separate_all(from: &[u8], length: usize, to: &mut [u8]) {
    for (from, to) in from.chunks_exact(length).zip(to.chunks_exact_mut(length)) {
        let (even, odd) = to.split_at_mut(length / 2);
        separate(from, even, odd);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn interleave(a: &[u8], b: &[u8], to: &mut [u8]) {
    let (to, _) = to.as_chunks_mut::<2>();
    for ((a, b), to) in a.iter().zip(b).zip(to) {
        *to = [*a, *b];
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn separate(from: &[u8], even: &mut [u8], odd: &mut [u8]) {
    let (from, _) = from.as_chunks::<2>();
    for ((from, even), odd) in from.iter().zip(even).zip(odd) {
        [*even, *odd] = *from;
    }
}

/// Sums columns `[width, 3, 16]` to results `[3, new width, 16]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn weigh_columns(columns: &[u8], across: &Weights, flip: bool, results: &mut [u8]) {
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
