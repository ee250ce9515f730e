//! Matrix views and their product.

use std::ops::Range;

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
}

/// What becomes of the destination's values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// They are not read.
    Replace,
    /// The product is added to them.
    Add,
}

/// `scale · a · b` into rows `stride` values apart from `into` on, in the calling thread.
///
/// # Safety
/// The rows of the destination lie in one allocation that no other task writes, and are
/// initialised unless they are replaced.
pub(crate) unsafe fn product_raw(
    into: *mut f32,
    stride: usize,
    a: Matrix,
    b: Matrix,
    scale: f32,
    store: Store,
) {
    assert_eq!(a.columns, b.rows);
    let add = store == Store::Add;
    // SAFETY: views lie inside of their slices by construction; the destination is the
    // caller's promise.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            into,
            1,
            stride as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            if add { 1.0 } else { 0.0 },
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// [`product_raw`] into a slice.
pub(crate) fn product(
    into: &mut [f32],
    stride: usize,
    a: Matrix,
    b: Matrix,
    scale: f32,
    store: Store,
) {
    assert!(b.columns <= stride && (a.rows - 1) * stride + b.columns <= into.len());
    // SAFETY: the slice is initialised, borrowed here alone, and large enough.
    unsafe { product_raw(into.as_mut_ptr(), stride, a, b, scale, store) }
}
