//! Operands laid out for the tiles.

use std::ops::Range;

use super::tile::Level;
use super::{Matrix, equal_parts};
use crate::parallel::Parts;

/// Rows of a strided operand that are copied together, so that whole cache lines are used.
const RUN: usize = 16;

/// Packs the rows `rows` (one depth's) and the columns `columns` (from a sliver's start) of the
/// right operand `b` into their place: for each depth, slivers of the level's width, in each
/// of them the rows one after the other, padded with zeros.
///
/// # Safety
/// No other task writes these slivers, for which there is room.
pub(super) unsafe fn right(
    level: Level,
    b: Matrix,
    rows: Range<usize>,
    columns: Range<usize>,
    into: Parts,
) {
    match level.columns() {
        // SAFETY: the caller's promise, in each.
        8 => unsafe { slivers::<8>(b, rows, columns, into) },
        16 => unsafe { slivers::<16>(b, rows, columns, into) },
        _ => unsafe { slivers::<32>(b, rows, columns, into) },
    }
}

/// [`right`] for slivers of `W` columns.
///
/// # Safety
/// As there.
unsafe fn slivers<const W: usize>(
    b: Matrix,
    rows: Range<usize>,
    columns: Range<usize>,
    into: Parts,
) {
    debug_assert!(columns.start.is_multiple_of(W));
    let padded = b.columns.next_multiple_of(W);
    for left in columns.clone().step_by(W) {
        let width = W.min(columns.end - left);
        let start = rows.start * padded + left * rows.len();
        // SAFETY: this sliver is the task's own.
        let sliver = unsafe { into.written(start..start + rows.len() * W) };
        if width < W {
            sliver.fill(0.0);
        }
        let (lines, _) = sliver.as_chunks_mut::<W>();
        if b.column_stride == 1 {
            for (line, row) in lines.iter_mut().zip(rows.clone()) {
                let from = &b.values[row * b.row_stride + left..];
                match from.first_chunk() {
                    Some(whole) if width == W => *line = *whole,
                    _ => line[..width].copy_from_slice(&from[..width]),
                }
            }
        } else {
            for (run, lines) in lines.chunks_mut(RUN).enumerate() {
                let first = rows.start + run * RUN;
                for column in 0..width {
                    for (i, line) in lines.iter_mut().enumerate() {
                        line[column] = b.get(first + i, left + column);
                    }
                }
            }
        }
    }
}

/// Packs a left operand into slivers of the level's rows, in each of them the columns one
/// after the other. Rows beyond the last are copies of zeros.
pub(super) fn left(level: Level, a: Matrix, into: &mut Vec<f32>) {
    match level.rows() {
        4 => left_slivers::<4>(a, into),
        6 => left_slivers::<6>(a, into),
        _ => left_slivers::<8>(a, into),
    }
}

fn left_slivers<const H: usize>(a: Matrix, into: &mut Vec<f32>) {
    into.resize(a.rows.next_multiple_of(H) * a.columns, 0.0);
    // Columns in runs, so that what is read lies close together for all slivers.
    let step = equal_parts(a.columns, 64, 1);
    for run in (0..a.columns).step_by(step) {
        let columns = run..a.columns.min(run + step);
        for (sliver, first) in into
            .chunks_exact_mut(H * a.columns)
            .zip((0..a.rows).step_by(H))
        {
            let height = H.min(a.rows - first);
            let (lines, _) = sliver.as_chunks_mut::<H>();
            for (line, column) in lines[columns.clone()].iter_mut().zip(columns.clone()) {
                if a.row_stride == 1 {
                    let from = &a.values[column * a.column_stride + first..];
                    match from.first_chunk() {
                        Some(whole) if height == H => *line = *whole,
                        _ => {
                            line[..height].copy_from_slice(&from[..height]);
                            line[height..].fill(0.0);
                        }
                    }
                } else {
                    for (i, value) in line.iter_mut().enumerate() {
                        *value = if i < height {
                            a.get(first + i, column)
                        } else {
                            0.0
                        };
                    }
                }
            }
        }
    }
}
