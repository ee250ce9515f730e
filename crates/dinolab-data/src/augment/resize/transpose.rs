//! Transposition of sixteen rows at a time.

use multiversion::multiversion;

/// Rows that are transposed together.
pub(super) const ROWS: usize = 16;

/// Lays sixteen rows of equal length side by side: value `i` of row `r` comes to `16 · i + r`.
/// `columns` has room for all of them; so has `other`, which may be used on the way.
pub(super) fn gather(rows: [&[u8]; ROWS], columns: &mut [u8], other: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if rows[0].len() >= ROWS && x86::is_available() {
        // SAFETY: the processor has what the function is compiled for.
        unsafe { x86::gather(rows, columns) };
        return;
    }
    gather_by_pairs(rows, columns, other);
}

/// Undoes [`gather`]: as many values as `columns` has for each row, to rows that are `stride` apart.
/// Uses `other`, which is as long as `columns`, and spoils both.
pub(super) fn scatter(columns: &mut [u8], other: &mut [u8], rows: &mut [u8], stride: usize) {
    #[cfg(target_arch = "x86_64")]
    if columns.len() >= ROWS * ROWS && x86::is_available() {
        // SAFETY: the processor has what the function is compiled for.
        unsafe { x86::scatter(columns, rows, stride) };
        return;
    }
    scatter_by_pairs(columns, other, rows, stride);
}

fn gather_by_pairs(rows: [&[u8]; ROWS], columns: &mut [u8], other: &mut [u8]) {
    let length = rows[0].len();
    // Each step lays pairs of strips side by side, and there are half as many afterwards.
    let other = &mut other[..columns.len()];
    for (i, pair) in other.chunks_exact_mut(2 * length).enumerate() {
        interleave(rows[i], rows[i + ROWS / 2], pair);
    }
    interleave_halves(other, 2 * length, columns);
    interleave_halves(columns, 4 * length, other);
    interleave_halves(other, 8 * length, columns);
}

fn scatter_by_pairs(results: &mut [u8], other: &mut [u8], rows: &mut [u8], stride: usize) {
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

/// Squares of sixteen by sixteen values in four registers.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::ROWS;

    const SQUARE: usize = ROWS * ROWS;

    pub(super) fn is_available() -> bool {
        std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vbmi")
    }

    /// Where eight columns of eight rows lie in two registers of four rows each. Columns `k` and
    /// `k + 4` come side by side, as joining halves of sixteen rows wants them.
    const fn places(first: usize) -> [u8; 64] {
        let mut places = [0; 64];
        let mut at = 0;
        while at < 64 {
            let (eighth, row) = (at / 8, at % 8);
            places[at] = (row * ROWS + first + eighth / 2 + 4 * (eighth % 2)) as u8;
            at += 1;
        }
        places
    }

    static PLACES: [[u8; 64]; 2] = [places(0), places(8)];

    /// The transpose of a square, four rows to a register.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn transpose(square: [__m512i; 4], [near, far]: [__m512i; 2]) -> [__m512i; 4] {
        let [a, b, c, d] = square;
        let (upper, lower) = (
            _mm512_permutex2var_epi8(a, near, b),
            _mm512_permutex2var_epi8(c, near, d),
        );
        let (upper_far, lower_far) = (
            _mm512_permutex2var_epi8(a, far, b),
            _mm512_permutex2var_epi8(c, far, d),
        );
        [
            _mm512_unpacklo_epi64(upper, lower),
            _mm512_unpackhi_epi64(upper, lower),
            _mm512_unpacklo_epi64(upper_far, lower_far),
            _mm512_unpackhi_epi64(upper_far, lower_far),
        ]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(from: &[u8; 64]) -> __m512i {
        // SAFETY: 64 bytes that can be read.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn places_of_both() -> [__m512i; 2] {
        [load(&PLACES[0]), load(&PLACES[1])]
    }

    /// Starts of squares that cover `length` columns; the last may overlap the one before.
    fn starts(length: usize) -> impl Iterator<Item = usize> {
        (0..length.div_ceil(ROWS)).map(move |i| (i * ROWS).min(length - ROWS))
    }

    /// [`super::gather`] for rows of at least sixteen values.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn gather(rows: [&[u8]; ROWS], columns: &mut [u8]) {
        let length = rows[0].len();
        let places = places_of_both();
        for start in starts(length) {
            let quarter = |row: usize| {
                let values = &rows[row][start..start + ROWS];
                // SAFETY: sixteen bytes that can be read.
                unsafe { _mm_loadu_si128(values.as_ptr().cast()) }
            };
            let four = |row: usize| {
                let four = _mm512_castsi128_si512(quarter(row));
                let four = _mm512_inserti32x4::<1>(four, quarter(row + 1));
                let four = _mm512_inserti32x4::<2>(four, quarter(row + 2));
                _mm512_inserti32x4::<3>(four, quarter(row + 3))
            };
            let square = transpose([four(0), four(4), four(8), four(12)], places);
            let (parts, _) = columns[start * ROWS..][..SQUARE].as_chunks_mut::<64>();
            for (part, four) in parts.iter_mut().zip(square) {
                // SAFETY: 64 bytes that can be written.
                unsafe { _mm512_storeu_si512(part.as_mut_ptr().cast(), four) };
            }
        }
    }

    /// [`super::scatter`] for rows of at least sixteen values.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn scatter(columns: &[u8], rows: &mut [u8], stride: usize) {
        let length = columns.len() / ROWS;
        let places = places_of_both();
        for start in starts(length) {
            let (parts, _) = columns[start * ROWS..][..SQUARE].as_chunks::<64>();
            let square = std::array::from_fn(|i| load(&parts[i]));
            for (i, four) in transpose(square, places).into_iter().enumerate() {
                let quarters = [
                    _mm512_extracti32x4_epi32::<0>(four),
                    _mm512_extracti32x4_epi32::<1>(four),
                    _mm512_extracti32x4_epi32::<2>(four),
                    _mm512_extracti32x4_epi32::<3>(four),
                ];
                for (k, quarter) in quarters.into_iter().enumerate() {
                    let to = &mut rows[(4 * i + k) * stride + start..][..ROWS];
                    // SAFETY: sixteen bytes that can be written.
                    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), quarter) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns_and_rows_again() {
        for length in (1..70).chain([288, 301]) {
            let value = |row: usize, i: usize| (row * 37 + i * 11 + i / 9) as u8;
            let rows: Vec<Vec<u8>> = (0..ROWS)
                .map(|row| (0..length).map(|i| value(row, i)).collect())
                .collect();
            let rows: [&[u8]; ROWS] = std::array::from_fn(|row| &rows[row][..]);
            let expected: Vec<u8> = (0..length * ROWS)
                .map(|at| value(at % ROWS, at / ROWS))
                .collect();
            let mut other = vec![0; length * ROWS];
            let mut columns = vec![0; length * ROWS];
            gather(rows, &mut columns, &mut other);
            assert_eq!(columns, expected, "{length}");
            gather_by_pairs(rows, &mut columns, &mut other);
            assert_eq!(columns, expected, "{length}");

            let stride = length + 5;
            let back = |scatter: fn(&mut [u8], &mut [u8], &mut [u8], usize)| {
                let (mut columns, mut other) = (expected.clone(), vec![0; length * ROWS]);
                let mut back = vec![0; stride * ROWS];
                scatter(&mut columns, &mut other, &mut back, stride);
                for (row, found) in rows.iter().zip(back.chunks_exact(stride)) {
                    assert_eq!(&found[..length], *row, "{length}");
                }
            };
            back(scatter);
            back(scatter_by_pairs);
        }
    }
}
