//! The inverse DCT of a block's lowest frequencies, to fewer pixels than the block has.
//!
//! The first N × N of the 8 × 8 coefficients, transformed back by N × N, are the block at N/8 of its
//! size. Sums are made in one order in single precision, so that they are the same on every
//! processor.

use multiversion::multiversion;

use crate::block::{BLOCK, Blocks, LANES};

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

/// One value of each block.
type Lane = [f32; LANES];

/// Transforms the lowest frequencies of sixteen blocks to `X × Y` pixels each.
#[inline(always)]
fn transform<const X: usize, const Y: usize>(
    blocks: &Blocks,
    quantisers: &[u16; 64],
    pixels: &mut [u8],
    stride: usize,
    step: usize,
    lanes: usize,
) {
    let (across, down) = (const { waves::<X>() }, const { waves::<Y>() });
    let mut lines: [[Lane; X]; Y] = [[[0.0; LANES]; X]; Y];
    for (v, lines) in lines.iter_mut().enumerate() {
        for (u, waves) in across.iter().enumerate() {
            let at = v * BLOCK + u;
            let quantiser = f32::from(quantisers[at]);
            let coefficients: Lane = blocks[at].map(|value| f32::from(value) * quantiser);
            for (line, wave) in lines.iter_mut().zip(waves) {
                for (sum, coefficient) in line.iter_mut().zip(coefficients) {
                    *sum += coefficient * wave;
                }
            }
        }
    }
    for y in 0..Y {
        let row = &mut pixels[y * stride..];
        for x in 0..X {
            // 128 is the level of 0, and a half is for rounding.
            let mut levels: Lane = [128.5; LANES];
            for (lines, waves) in lines.iter().zip(&down) {
                for (level, line) in levels.iter_mut().zip(lines[x]) {
                    *level += line * waves[y];
                }
            }
            for (lane, level) in levels.into_iter().enumerate().take(lanes) {
                row[lane * step + x] = level as u8;
            }
        }
    }
}

/// Transforms sixteen blocks to `size` pixels each, columns and rows, each of 1, 2, 4 or 8. The first
/// `lanes` of them go to `pixels`, whose rows are `stride` apart, one block every `step` pixels.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
pub(crate) fn inverse(
    blocks: &Blocks,
    quantisers: &[u16; 64],
    size: (usize, usize),
    pixels: &mut [u8],
    (stride, step): (usize, usize),
    lanes: usize,
) {
    match size {
        (4, 4) => transform::<4, 4>(blocks, quantisers, pixels, stride, step, lanes),
        (8, 8) => transform::<8, 8>(blocks, quantisers, pixels, stride, step, lanes),
        (2, 2) => transform::<2, 2>(blocks, quantisers, pixels, stride, step, lanes),
        (8, 4) => transform::<8, 4>(blocks, quantisers, pixels, stride, step, lanes),
        (4, 8) => transform::<4, 8>(blocks, quantisers, pixels, stride, step, lanes),
        (4, 2) => transform::<4, 2>(blocks, quantisers, pixels, stride, step, lanes),
        (2, 4) => transform::<2, 4>(blocks, quantisers, pixels, stride, step, lanes),
        (1, 1) => transform::<1, 1>(blocks, quantisers, pixels, stride, step, lanes),
        (1, 2) => transform::<1, 2>(blocks, quantisers, pixels, stride, step, lanes),
        (2, 1) => transform::<2, 1>(blocks, quantisers, pixels, stride, step, lanes),
        _ => unreachable!("blocks become 1, 2, 4 or 8 pixels wide and high"),
    }
}
