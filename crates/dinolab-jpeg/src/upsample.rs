//! Chroma upsampling, bit-identical to libjpeg's "fancy" upsampling.
//!
//! A sample counts three quarters, its neighbour on the other side of
//! the new one a quarter, in each direction. What has no neighbour is its own. Rows of one or two
//! samples, and those of a quarter of luma's, are repeated instead.

use multiversion::multiversion;

/// Where a row of samples comes from.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// The row that counts more.
    pub(crate) near: &'a [u8],
    /// The one on the other side: above the upper of two rows, below the lower one.
    pub(crate) far: &'a [u8],
    /// Whether it is the lower one of two.
    pub(crate) lower: bool,
}

/// A row of samples in full number, by how many times there are fewer across and down (1, 2 or, across,
/// 4).
/// `sums` is room for a row of samples and two.
pub(crate) fn row(rows: Rows, (across, down): (usize, usize), sums: &mut [u16], out: &mut [u8]) {
    match (across, down) {
        (1, 1) => out.copy_from_slice(rows.near),
        (1, _) => between(rows, out),
        (4, _) => repeated::<4>(rows.near, out),
        _ if rows.near.len() < 3 => repeated::<2>(rows.near, out),
        (_, 1) => doubled::<2>(rows.near, rows.near, sums, out),
        _ => doubled::<4>(rows.near, rows.far, sums, out),
    }
}

/// Each sample several times.
fn repeated<const TIMES: usize>(samples: &[u8], out: &mut [u8]) {
    let (out, _) = out.as_chunks_mut::<TIMES>();
    for (out, &sample) in out.iter_mut().zip(samples) {
        *out = [sample; TIMES];
    }
}

/// A row between others.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn between(rows: Rows, out: &mut [u8]) {
    let half = if rows.lower { 2 } else { 1 };
    for ((out, &near), &far) in out.iter_mut().zip(rows.near).zip(rows.far) {
        *out = ((3 * u16::from(near) + u16::from(far) + half) >> 2) as u8;
    }
}

/// A row of twice the samples. Those of one row have 2 bits behind the point, those between two
/// rows `BITS` = 4.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn doubled<const BITS: u32>(near: &[u8], far: &[u8], sums: &mut [u16], out: &mut [u8]) {
    // Halves are rounded up and down in turns.
    let halves: [u16; 2] = if BITS == 2 { [1, 2] } else { [8, 7] };
    let n = near.len();
    let sums = &mut sums[..n + 2];
    for ((sum, &near), &far) in sums[1..].iter_mut().zip(near).zip(far) {
        *sum = if BITS == 2 {
            u16::from(near)
        } else {
            3 * u16::from(near) + u16::from(far)
        };
    }
    (sums[0], sums[n + 1]) = (sums[1], sums[n]);
    let (out, _) = out.as_chunks_mut::<2>();
    let neighbours = sums.iter().zip(&sums[1..]).zip(&sums[2..]);
    for (out, ((&before, &sum), &after)) in out.iter_mut().zip(neighbours) {
        *out = [
            ((3 * sum + before + halves[0]) >> BITS) as u8,
            ((3 * sum + after + halves[1]) >> BITS) as u8,
        ];
    }
}
