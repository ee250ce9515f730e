//! Row-major matrices: their shape, transposes and products.

use dinolab_data::slice::check_length;
use nalgebra::{DMatrixView, DMatrixViewMut};

use crate::{Error, Result};

/// Returns the number of rows of `values`, `[N, dim]`. Fails for a `dim` of 0 and for a length that
/// is not a multiple of it.
pub(crate) fn rows_of(what: &'static str, values: &[f32], dim: usize) -> Result<usize> {
    if dim == 0 {
        return Err(Error::invalid(what, "rows have no values"));
    }
    check_length(what, values.len() / dim * dim, values.len())?;
    Ok(values.len() / dim)
}

/// Transposes `[N, dim]` to `[dim, N]`.
pub(crate) fn transposed(rows: &[f32], dim: usize) -> Vec<f32> {
    (0..dim)
        .flat_map(|d| rows[d..].iter().step_by(dim).copied())
        .collect()
}

/// Computes `out[t, q] = train[t] · queries[:, q]` for `train` `[T, dim]` and `queries` `[dim, Q]`.
///
/// The queries are transposed so that every view has unit stride along its columns: otherwise
/// nalgebra 0.35's product of small matrices writes out of bounds (dimforge/nalgebra issue 1616).
pub(crate) fn products(train: &[f32], queries: &[f32], dim: usize, out: &mut [f32]) {
    let (t, q) = (train.len() / dim, queries.len() / dim);
    // In column-major eyes: [Q, T] = [Q, dim] · [dim, T].
    let queries = DMatrixView::from_slice(queries, q, dim);
    let train = DMatrixView::from_slice(train, dim, t);
    DMatrixViewMut::from_slice(out, q, t).gemm(1.0, &queries, &train, 0.0);
}
