//! Operands laid out for the tiles.

use std::ops::Range;

use super::tile::Level;
use super::{Matrix, equal_parts};
use crate::parallel::Parts;

/// Side of the squares that are transposed in registers.
#[cfg(target_arch = "x86_64")]
const BLOCK: usize = 8;

/// Transposes the square of the rows `from` to `into`, rows `width` apart: exchanges pairs, then
/// pairs of pairs, then halves.
///
/// # Safety
/// Eight rows of eight values can be read and written; the processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn transpose_avx2(from: [*const f32; BLOCK], into: *mut f32, width: usize) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise.
    unsafe {
        let r: [__m256; BLOCK] = std::array::from_fn(|i| _mm256_loadu_ps(from[i]));
        let pairs: [[__m256; 2]; 4] = std::array::from_fn(|i| {
            let (a, b) = (r[2 * i], r[2 * i + 1]);
            [_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)]
        });
        // By four rows: columns 0 and 4, 1 and 5, 2 and 6, 3 and 7.
        let fours: [[__m256; 4]; 2] = std::array::from_fn(|i| {
            let ([a, b], [c, d]) = (pairs[2 * i], pairs[2 * i + 1]);
            [
                _mm256_shuffle_ps::<0b01_00_01_00>(a, c),
                _mm256_shuffle_ps::<0b11_10_11_10>(a, c),
                _mm256_shuffle_ps::<0b01_00_01_00>(b, d),
                _mm256_shuffle_ps::<0b11_10_11_10>(b, d),
            ]
        });
        let [top, bottom] = fours;
        for (i, (a, b)) in top.into_iter().zip(bottom).enumerate() {
            let (low, high) = (
                _mm256_permute2f128_ps::<0x20>(a, b),
                _mm256_permute2f128_ps::<0x31>(a, b),
            );
            _mm256_storeu_ps(into.add(i * width), low);
            _mm256_storeu_ps(into.add((i + 4) * width), high);
        }
    }
}

/// Whole squares of `columns × rows` values at `from`, columns `stride` apart, to lines `width`
/// apart. Columns beyond the last are copies of it.
///
/// # Safety
/// These values can be read, and a multiple of eight columns written; the processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn squares_avx2(
    from: *const f32,
    stride: usize,
    [columns, rows]: [usize; 2],
    into: *mut f32,
    width: usize,
) {
    for left in (0..columns).step_by(BLOCK) {
        // SAFETY: columns of the operand; whole rows of the lines, by the caller's promise.
        unsafe {
            let starts: [*const f32; BLOCK] =
                std::array::from_fn(|i| from.add((left + i).min(columns - 1) * stride));
            for top in (0..rows).step_by(BLOCK) {
                let into = into.add(top * width + left);
                transpose_avx2(starts.map(|start| start.add(top)), into, width);
            }
        }
    }
}

/// Packs the rows `rows` (one depth's) and the columns `columns` (from a sliver's start) of the
/// right operand `b` into their place: for each depth, slivers of the level's width, in each
/// of them the rows one after the other. Values in columns beyond the last are arbitrary: their
/// sums are not stored.
///
/// # Safety
/// Nothing else reaches these slivers in the meantime.
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
        let (lines, _) = sliver.as_chunks_mut::<W>();
        if b.column_stride == 1 {
            for (line, row) in lines.iter_mut().zip(rows.clone()) {
                let from = &b.values[row * b.row_stride + left..];
                match from.first_chunk() {
                    Some(whole) if width == W => *line = *whole,
                    _ => line[..width].copy_from_slice(&from[..width]),
                }
            }
        } else if b.row_stride == 1 {
            let from = &b.values[left * b.column_stride + rows.start..];
            transposed(from, b.column_stride, width, lines);
        } else {
            for (line, row) in lines.iter_mut().zip(rows.clone()) {
                for (column, value) in line[..width].iter_mut().enumerate() {
                    *value = b.get(row, left + column);
                }
            }
        }
    }
}

/// Columns that lie `stride` apart in `from`, of which there are `width`, into lines.
fn transposed<const W: usize>(from: &[f32], stride: usize, width: usize, lines: &mut [[f32; W]]) {
    let height = lines.len();
    assert!(width <= W && (width - 1) * stride + height <= from.len());
    // Squares first, then the remaining values one by one.
    #[cfg(target_arch = "x86_64")]
    let high = if is_x86_feature_detected!("avx2") {
        let high = height / BLOCK * BLOCK;
        // SAFETY: inside of both, by the assertion and the type; the processor has AVX2.
        unsafe {
            let into = lines.as_mut_ptr().cast();
            squares_avx2(from.as_ptr(), stride, [width, high], into, W);
        }
        high
    } else {
        0
    };
    #[cfg(not(target_arch = "x86_64"))]
    let high = 0;
    for (row, line) in lines.iter_mut().enumerate().skip(high) {
        for (column, value) in line[..width].iter_mut().enumerate() {
            *value = from[column * stride + row];
        }
    }
}

/// Packs a left operand into slivers of the level's rows, in each of them the columns one
/// after the other. Rows beyond the last are zeros.
pub(super) fn left(level: Level, a: Matrix, into: &mut Vec<f32>) {
    match level.rows() {
        4 => left_slivers::<4>(a, into),
        6 => left_slivers::<6>(a, into),
        _ => left_slivers::<8>(a, into),
    }
}

fn left_slivers<const H: usize>(a: Matrix, into: &mut Vec<f32>) {
    into.resize(a.rows.next_multiple_of(H) * a.columns, 0.0);
    // Columns in blocks, so that the values read for all slivers are close together.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_lines() {
        for (height, width) in [(1, 1), (8, 8), (17, 13), (24, 16), (7, 16)] {
            let stride = height + 3;
            let from: Vec<f32> = (0..width * stride).map(|i| i as f32).collect();
            let mut lines = vec![[-1.0; 16]; height];
            transposed(&from, stride, width, &mut lines);
            for (row, line) in lines.iter().enumerate() {
                for (column, value) in line[..width].iter().enumerate() {
                    assert_eq!(*value, from[column * stride + row]);
                }
            }
        }
    }
}
