//! The inverse cosine transform of a block's lowest frequencies, to fewer pixels than it has.
//!
//! The first N × N of the 8 × 8 coefficients, transformed back by N × N, are the block at N/8 of its
//! size. Sums are made in one order in single precision, so that they are the same on every
//! processor.

use super::entropy::Block;

/// cos(k · π/16).
const COSINES: [f32; 9] = [
    1.0,
    0.980_785_25,
    0.923_879_5,
    0.831_469_6,
    0.707_106_77,
    0.555_570_24,
    0.382_683_43,
    0.195_090_32,
    0.0,
];

/// cos(k · π/16) of any k.
const fn cosine(k: usize) -> f32 {
    match k % 32 {
        k @ 0..=8 => COSINES[k],
        k @ 9..=16 => -COSINES[16 - k],
        k @ 17..=24 => -COSINES[k - 16],
        k => COSINES[32 - k],
    }
}

/// What frequency `u` adds to each of N pixels.
const fn waves<const N: usize>() -> [[f32; N]; N] {
    let mut waves = [[0.0; N]; N];
    let mut u = 0;
    while u < N {
        let mut x = 0;
        while x < N {
            let size = if u == 0 { COSINES[4] } else { 1.0 };
            waves[u][x] = 0.5 * size * cosine((2 * x + 1) * u * 8 / N);
            x += 1;
        }
        u += 1;
    }
    waves
}

/// Transforms the first `rows` of the coefficients that are wanted to `X × Y` pixels.
#[inline(always)]
fn inverse<const X: usize, const Y: usize>(
    block: &Block,
    rows: usize,
    out: &mut [u8],
    stride: usize,
) {
    let (across, down) = (const { waves::<X>() }, const { waves::<Y>() });
    let mut lines = [[0.0; X]; Y];
    let rows = rows.min(Y);
    for (line, row) in lines.iter_mut().zip(block).take(rows) {
        for (coefficient, wave) in row.iter().zip(&across) {
            for x in 0..X {
                line[x] += coefficient * wave[x];
            }
        }
    }
    for (y, out) in out.chunks_mut(stride).take(Y).enumerate() {
        // 128 is the level of 0, and a half is for rounding.
        let mut pixels = [128.5; X];
        for (line, wave) in lines.iter().zip(&down).take(rows) {
            for x in 0..X {
                pixels[x] += line[x] * wave[y];
            }
        }
        for (out, pixel) in out.iter_mut().zip(pixels) {
            *out = pixel as u8;
        }
    }
}

/// Transforms a block to `size` pixels, columns and rows, each of 2, 4 or 8. The first `rows` rows of
/// coefficients count, others are 0.
#[inline(always)]
pub(super) fn transform(
    block: &Block,
    rows: usize,
    size: (usize, usize),
    out: &mut [u8],
    stride: usize,
) {
    match size {
        (4, 4) => inverse::<4, 4>(block, rows, out, stride),
        (8, 8) => inverse::<8, 8>(block, rows, out, stride),
        (2, 2) => inverse::<2, 2>(block, rows, out, stride),
        (8, 4) => inverse::<8, 4>(block, rows, out, stride),
        (4, 8) => inverse::<4, 8>(block, rows, out, stride),
        (4, 2) => inverse::<4, 2>(block, rows, out, stride),
        (2, 4) => inverse::<2, 4>(block, rows, out, stride),
        _ => unreachable!("blocks become 2, 4 or 8 pixels wide and high"),
    }
}
