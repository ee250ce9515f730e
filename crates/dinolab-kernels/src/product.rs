//! Matrix products. The right operand is packed once, for all tasks that multiply by it; the
//! left one is read in place.
//!
//! `pack` lays a matrix out for `tile`, which computes one small block of the result in
//! registers. Rows of the result do not influence each other, and every element is summed over
//! the common dimension in one order, so results do not depend on how the work is divided.

mod pack;
mod tile;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

pub use tile::instructions;
pub(crate) use tile::level;
use tile::{Level, Sweep};

use crate::parallel::{Parts, under_miri};
use crate::profile;
use crate::scratch::{Buffer, room};

/// Rows of the right operand that are packed together: enough that the result is visited rarely,
/// few enough that a sliver of them stays in cache.
const DEPTH: usize = under_miri(8, 512);

/// A matrix inside of a slice, by strides.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `[rows, columns]`, rows `row_stride` values apart.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(rows > 0 && columns > 0, "no empty matrices");
        assert!(
            (rows - 1) * row_stride + columns <= values.len(),
            "the matrix is in the slice"
        );
        Self {
            values,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// `[rows, columns]` without gaps.
    pub(crate) fn dense(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::new(values, rows, columns, columns)
    }

    /// The same values with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// Some of the rows.
    pub(crate) fn rows(self, range: Range<usize>) -> Self {
        assert!(range.start < range.end && range.end <= self.rows);
        let values = &self.values[range.start * self.row_stride..];
        Self {
            values,
            rows: range.len(),
            ..self
        }
    }

    /// Some of the columns.
    pub(crate) fn columns(self, range: Range<usize>) -> Self {
        self.transposed().rows(range).transposed()
    }

    /// A row, of columns side by side.
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        assert_eq!(self.column_stride, 1);
        &self.values[row * self.row_stride..][..self.columns]
    }

    /// The value of a row and a column.
    #[inline(always)]
    fn get(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.row_stride + column * self.column_stride]
    }
}

/// Whether a product replaces the destination's values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Write the product; earlier values are not read.
    Replace,
    /// Add the product to the values.
    Add,
}

/// Where a product is written: rows and columns of a buffer that tasks share.
#[derive(Clone, Copy)]
pub(crate) struct Destination<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    /// Distance of rows.
    stride: usize,
    /// Whether the product replaces the values.
    pub store: Store,
    /// The product is multiplied by this.
    pub scale: f32,
    buffer: PhantomData<Parts<'a>>,
}

impl<'a> Destination<'a> {
    /// `[rows, columns]` from `offset` on, rows `stride` values apart, which the product replaces.
    /// Panics unless they are inside of `parts`.
    pub(crate) fn new(
        parts: Parts<'a>,
        offset: usize,
        [rows, columns]: [usize; 2],
        stride: usize,
    ) -> Self {
        assert!(rows > 0 && columns <= stride, "rows do not overlap");
        Self {
            start: parts.at(offset, (rows - 1) * stride + columns),
            rows,
            columns,
            stride,
            store: Store::Replace,
            scale: 1.0,
            buffer: PhantomData,
        }
    }
}

/// A right operand, laid out for products.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    depth: usize,
    level: Level,
}

/// `n` in equal parts of at most `most`: the size of a part, a multiple of `unit`.
pub(crate) fn equal_parts(n: usize, most: usize, unit: usize) -> usize {
    n.div_ceil(n.div_ceil(most).max(1)).next_multiple_of(unit)
}

impl<'a> Packed<'a> {
    /// The depth of a packed operand, and the number of values that it needs.
    fn plan(b: &Matrix, level: Level) -> (usize, usize) {
        let depth = equal_parts(b.rows, DEPTH, 1);
        (depth, b.rows * b.columns.next_multiple_of(level.columns()))
    }

    /// Packs `b` into `scratch`, in the calling thread.
    pub(crate) fn new(b: Matrix, scratch: &'a mut Vec<f32>) -> Self {
        let level = level();
        let (depth, len) = Self::plan(&b, level);
        let parts = Parts::of(room(scratch, len));
        for first in (0..b.rows).step_by(depth) {
            let some = first..b.rows.min(first + depth);
            // SAFETY: there is room for all of it, and nobody else has the scratch.
            unsafe { pack::right(level, b, some, 0..b.columns, parts) };
        }
        Self::over(b, &scratch[..len], depth, level)
    }

    /// [`Packed::new`] by all threads, into a new buffer.
    pub(crate) fn in_parallel(b: Matrix, buffer: &'a mut Buffer) -> Self {
        let level = level();
        let (depth, len) = Self::plan(&b, level);
        *buffer = Buffer::new(len);
        let parts = Parts::of(buffer);
        let step = under_miri(1, 1 << 16) / depth / level.columns() * level.columns();
        let step = step.max(level.columns());
        let across = b.columns.div_ceil(step);
        (0..across * b.rows.div_ceil(depth))
            .into_par_iter()
            .for_each(|i| {
                let (first, left) = (i / across * depth, i % across * step);
                let rows = first..b.rows.min(first + depth);
                let columns = left..b.columns.min(left + step);
                // SAFETY: tasks pack different slivers, for which there is room.
                unsafe { pack::right(level, b, rows, columns, parts) };
            });
        Self::over(b, buffer, depth, level)
    }

    fn over(b: Matrix, values: &'a [f32], depth: usize, level: Level) -> Self {
        Self {
            values,
            rows: b.rows,
            columns: b.columns,
            depth,
            level,
        }
    }

    /// `scale · a · self`, of the columns `columns`, which start at a multiple of [`UNIT`], in
    /// the calling thread.
    ///
    /// # Safety
    /// Nothing else reaches the values of the destination in the meantime, and they are
    /// initialised unless they are replaced.
    pub(crate) unsafe fn multiply(&self, a: Matrix, columns: Range<usize>, into: Destination) {
        assert_eq!(a.columns, self.rows);
        assert!(a.rows == into.rows && columns.len() == into.columns);
        assert!(columns.start.is_multiple_of(self.level.columns()));
        assert!(columns.start < columns.end && columns.end <= self.columns);
        let padded = self.columns.next_multiple_of(self.level.columns());
        // A transposed operand has its rows side by side, and is copied into slivers of them.
        let direct = a.column_stride == 1;
        let operations = 2 * (a.rows * columns.len() * self.rows) as u64;
        let sweeps = |left: &mut Vec<f32>| {
            for first in (0..self.rows).step_by(self.depth) {
                let depth = self.depth.min(self.rows - first);
                let some = a.columns(first..first + depth);
                let (values, row, step) = if direct {
                    (some.values.as_ptr(), some.row_stride, 1)
                } else {
                    pack::left(self.level, some, left);
                    (left.as_ptr(), 0, self.level.rows())
                };
                let sweep = Sweep {
                    depth,
                    rows: a.rows,
                    columns: columns.len(),
                    a: values,
                    row,
                    step,
                    b: self.values[first * padded + columns.start * depth..].as_ptr(),
                    into: into.start,
                    stride: into.stride,
                    scale: into.scale,
                    add: first > 0 || into.store == Store::Add,
                };
                // SAFETY: the operands and the destination are of these sizes by construction;
                // that nothing else reaches the latter is the caller's promise; the level is the
                // processor's own.
                unsafe { self.level.run(&sweep) };
            }
        };
        profile::product(operations, || LEFT.with_borrow_mut(sweeps));
    }

    /// [`Packed::multiply`] of all columns into a slice.
    pub(crate) fn product(
        &self,
        a: Matrix,
        into: &mut [f32],
        stride: usize,
        scale: f32,
        store: Store,
    ) {
        let into = Destination {
            store,
            scale,
            ..Destination::new(Parts::of(into), 0, [a.rows, self.columns], stride)
        };
        // SAFETY: the slice is initialised, and borrowed here alone.
        unsafe { self.multiply(a, 0..self.columns, into) }
    }
}

/// Columns of tasks start at multiples of this, on every processor.
pub(crate) const UNIT: usize = 32;

thread_local! {
    /// Slivers of a transposed left operand. Borrowed only while a product runs, which starts
    /// no other task.
    static LEFT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every path: operands by rows and by columns, all remainders, several depths.
    #[test]
    fn products_of_all_shapes() {
        let number = |i: usize| ((i * 7919 + 13) % 1013) as f32 / 506.0 - 1.0;
        let sizes: &[usize] = match cfg!(miri) {
            true => &[1, 11],
            false => &[1, 2, 3, 5, 8, 9, 13, 17, 31, 33, 50],
        };
        let mut scratch = Vec::new();
        for (at, &rows) in sizes.iter().enumerate() {
            for &columns in sizes {
                let depth = if (at + columns).is_multiple_of(4) {
                    DEPTH + 3
                } else {
                    sizes[at] + 2
                };
                let a: Vec<f32> = (0..rows * depth).map(number).collect();
                let b: Vec<f32> = (0..depth * columns).map(|i| number(i + 5)).collect();
                let exact = |r: usize,
                             c: usize,
                             a_at: &dyn Fn(usize, usize) -> usize,
                             b_at: &dyn Fn(usize, usize) -> usize| {
                    (0..depth)
                        .map(|p| f64::from(a[a_at(r, p)]) * f64::from(b[b_at(p, c)]))
                        .sum::<f64>()
                };
                for transposed in 0..4 {
                    let (ta, tb) = (transposed & 1 == 1, transposed & 2 == 2);
                    let left = if ta {
                        Matrix::dense(&a, depth, rows).transposed()
                    } else {
                        Matrix::dense(&a, rows, depth)
                    };
                    let right = if tb {
                        Matrix::dense(&b, columns, depth).transposed()
                    } else {
                        Matrix::dense(&b, depth, columns)
                    };
                    let a_at = |r: usize, p: usize| if ta { p * rows + r } else { r * depth + p };
                    let b_at =
                        |p: usize, c: usize| if tb { c * depth + p } else { p * columns + c };
                    let stride = columns + 3;
                    let mut y = vec![0.5; rows * stride];
                    let packed = Packed::new(right, &mut scratch);
                    packed.product(left, &mut y, stride, 2.0, Store::Add);
                    for r in 0..rows {
                        for c in 0..stride {
                            let want = 0.5
                                + if c < columns {
                                    2.0 * exact(r, c, &a_at, &b_at)
                                } else {
                                    0.0
                                };
                            let got = f64::from(y[r * stride + c]);
                            assert!(
                                (got - want).abs() < 1e-4 + 1e-6 * want.abs(),
                                "{rows} {columns} {depth} {transposed}: {got} {want}"
                            );
                        }
                    }
                    let mut other = Buffer::default();
                    let parallel = Packed::in_parallel(right, &mut other);
                    let mut again = vec![0.5; rows * stride];
                    parallel.product(left, &mut again, stride, 2.0, Store::Add);
                    assert_eq!(again, y);
                }
            }
        }
    }

    /// All levels that the processor has compute the same, up to rounding.
    #[test]
    fn levels_agree() {
        let (rows, depth, columns) = (23, DEPTH.min(71), 45);
        let number = |i: usize| ((i * 31 + 7) % 97) as f32 / 48.0 - 1.0;
        let a: Vec<f32> = (0..rows * depth).map(number).collect();
        let b: Vec<f32> = (0..depth * columns).map(|i| number(i + 3)).collect();
        let run = |level: Level, transposed: bool| {
            let mut scratch = Vec::new();
            let b = Matrix::dense(&b, depth, columns);
            let (depth_of, len) = Packed::plan(&b, level);
            let parts = Parts::of(room(&mut scratch, len));
            // SAFETY: as in `new`.
            unsafe { pack::right(level, b, 0..depth, 0..columns, parts) };
            let packed = Packed::over(b, &scratch[..len], depth_of, level);
            let mut y = vec![0.0; rows * columns];
            let a = if transposed {
                Matrix::dense(&a, depth, rows).transposed()
            } else {
                Matrix::dense(&a, rows, depth)
            };
            packed.product(a, &mut y, columns, 1.0, Store::Replace);
            y
        };
        for transposed in [false, true] {
            let expected = run(Level::Portable, transposed);
            for level in tile::available() {
                for (y, e) in run(level, transposed).iter().zip(&expected) {
                    assert!((y - e).abs() < 1e-4, "{level:?}");
                }
            }
        }
    }
}
