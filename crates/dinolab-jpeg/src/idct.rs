//! The inverse DCT of whole blocks, bit-identical to libjpeg's accurate integer method (`JDCT_ISLOW`):
//! fixed point with 13 fractional bits, two of which are kept between the pass over columns and the one
//! over rows.
//!
//! Each pass is the factorisation of Loeffler, Ligtenberg and Moschytz (1989), with twelve
//! multiplications.

use std::num::Wrapping;

use multiversion::multiversion;

use crate::block::{BLOCK, Blocks, LANES};

/// Bits behind the point of the factors.
const POINT: usize = 13;
/// Bits behind the point between the passes.
const KEPT: usize = 2;

/// One value of each block.
type Lane<T> = [T; LANES];

/// Damage files may hold what is out of any range.
type Number = Wrapping<i32>;

/// A factor in fixed point.
const fn fixed(factor: f64) -> Number {
    Wrapping((factor * (1 << POINT) as f64 + 0.5) as i32)
}

/// Eight frequencies to eight samples, `POINT` more bits behind the point.
#[inline(always)]
fn samples(frequencies: [Number; BLOCK]) -> [Number; BLOCK] {
    let [f0, f1, f2, f3, f4, f5, f6, f7] = frequencies;
    // Even ones.
    let both = (f2 + f6) * const { fixed(0.541_196_100) };
    let low = both - f6 * const { fixed(1.847_759_065) };
    let high = both + f2 * const { fixed(0.765_366_865) };
    let (sum, difference) = ((f0 + f4) << POINT, (f0 - f4) << POINT);
    let even = [sum + high, difference + low, difference - low, sum - high];
    // Odd ones.
    let all = (f7 + f3 + f5 + f1) * const { fixed(1.175_875_602) };
    let a = (f7 + f1) * const { fixed(0.899_976_223) };
    let b = (f5 + f3) * const { fixed(2.562_915_447) };
    let c = all - (f7 + f3) * const { fixed(1.961_570_560) };
    let d = all - (f5 + f1) * const { fixed(0.390_180_644) };
    let odd = [
        f1 * const { fixed(1.501_321_110) } - a + d,
        f3 * const { fixed(3.072_711_026) } - b + c,
        f5 * const { fixed(2.053_119_869) } - b + d,
        f7 * const { fixed(0.298_631_336) } - a + c,
    ];
    [
        even[0] + odd[0],
        even[1] + odd[1],
        even[2] + odd[2],
        even[3] + odd[3],
        even[3] - odd[3],
        even[2] - odd[2],
        even[1] - odd[1],
        even[0] - odd[0],
    ]
}

/// Transforms sixteen blocks. The first `lanes` of them go to `pixels`, whose rows are `stride`
/// apart, one block every `step` pixels.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
pub(crate) fn inverse(
    blocks: &Blocks,
    quantisers: &[u16; 64],
    pixels: &mut [u8],
    (stride, step): (usize, usize),
    lanes: usize,
) {
    let mut columns: [Lane<i32>; 64] = [[0; LANES]; 64];
    for x in 0..BLOCK {
        let mut frequencies: [Lane<i32>; BLOCK] = [[0; LANES]; BLOCK];
        for y in 0..BLOCK {
            let quantiser = i32::from(quantisers[y * BLOCK + x]);
            for lane in 0..LANES {
                frequencies[y][lane] =
                    i32::from(blocks[y * BLOCK + x][lane]).wrapping_mul(quantiser);
            }
        }
        let samples = down(&frequencies);
        for y in 0..BLOCK {
            columns[y * BLOCK + x] = samples[y];
        }
    }
    for (y, row) in columns.as_chunks::<BLOCK>().0.iter().enumerate() {
        let pixels = &mut pixels[y * stride..];
        for (lane, levels) in across(row).iter().enumerate().take(lanes) {
            pixels[lane * step..][..BLOCK].copy_from_slice(&levels.to_le_bytes());
        }
    }
}

/// The eight frequencies of a column of each block to samples.
#[inline(always)]
fn down(frequencies: &[Lane<i32>; BLOCK]) -> [Lane<i32>; BLOCK] {
    const SHIFT: usize = POINT - KEPT;
    const HALF: Number = Wrapping(1 << (SHIFT - 1));
    let [f0, f1, f2, f3, f4, f5, f6, f7] = frequencies;
    let mut s: [Lane<i32>; BLOCK] = [[0; LANES]; BLOCK];
    for i in 0..LANES {
        let frequencies = [f0[i], f1[i], f2[i], f3[i], f4[i], f5[i], f6[i], f7[i]];
        let found = samples(frequencies.map(Wrapping)).map(|sample| ((sample + HALF) >> SHIFT).0);
        // One by one: a loop is not turned into vectors of blocks.
        s[0][i] = found[0];
        s[1][i] = found[1];
        s[2][i] = found[2];
        s[3][i] = found[3];
        s[4][i] = found[4];
        s[5][i] = found[5];
        s[6][i] = found[6];
        s[7][i] = found[7];
    }
    s
}

/// The eight frequencies of a row of each block to levels, the first in the lowest byte.
#[inline(always)]
fn across(frequencies: &[Lane<i32>; BLOCK]) -> Lane<u64> {
    // Three bits are the transform's own factor, 8; 128 is the level of 0.
    const SHIFT: usize = POINT + KEPT + 3;
    const MORE: Number = Wrapping((1 << (SHIFT - 1)) + (128 << SHIFT));
    let [f0, f1, f2, f3, f4, f5, f6, f7] = frequencies;
    let mut levels = [0; LANES];
    for i in 0..LANES {
        let frequencies = [f0[i], f1[i], f2[i], f3[i], f4[i], f5[i], f6[i], f7[i]];
        let [s0, s1, s2, s3, s4, s5, s6, s7] = samples(frequencies.map(Wrapping))
            .map(|sample| ((sample + MORE) >> SHIFT).0.clamp(0, 255) as u32);
        let low = s0 | s1 << 8 | s2 << 16 | s3 << 24;
        let high = s4 | s5 << 8 | s6 << 16 | s7 << 24;
        levels[i] = u64::from(low) | u64::from(high) << 32;
    }
    levels
}
