//! Gaussian blur as three box blurs of fractional width, the way Pillow does it.

use multiversion::multiversion;

/// Box blurs that make up one Gaussian blur.
const PASSES: usize = 3;
const CHANNELS: usize = 3;
/// Values that are summed together, in sums of 16 bits.
const BLOCK: usize = 32;

/// Buffers that a blur needs, kept between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    plane: Vec<u8>,
    /// Rows with their ends repeated, and the next pass over them.
    padded: [Vec<u8>; 2],
    sums: Vec<u32>,
}

/// A box in units of 2⁻²⁴: `2 · reach + 1` taps of weight `full` and one of weight
/// `partial` beyond each end.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Weights {
    reach: usize,
    full: u32,
    partial: u32,
}

impl Weights {
    /// The box whose `PASSES`-fold application has the variance of a Gaussian.
    fn of_gaussian(deviation: f32) -> Self {
        let variance = deviation * deviation / PASSES as f32;
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let reach = ((length - 1.0) / 2.0).floor();
        let fraction = (2.0 * reach + 1.0) * (reach * (reach + 1.0) - 3.0 * variance)
            / (6.0 * (variance - (reach + 1.0) * (reach + 1.0)));
        let full = ((1 << 24) as f32 / ((reach + fraction) * 2.0 + 1.0)) as u32;
        let reach = reach as usize;
        let partial = (1u32 << 24).saturating_sub((2 * reach as u32 + 1) * full) / 2;
        Self {
            reach,
            full,
            partial,
        }
    }

    /// The level of sums of inner and outer taps. The weights sum to at most 2²⁴, so that no sum
    /// leaves 32 bits.
    #[inline(always)]
    fn level(self, inner: u32, outer: u32) -> u8 {
        ((inner * self.full + outer * self.partial + (1 << 23)) >> 24) as u8
    }

    /// One box blur of as many values as `out` has. `taps` are the input moved by one place after the
    /// other, of `2 · reach + 3` places; each is at least as long as `out`.
    #[inline(always)]
    fn narrow<const TAPS: usize>(self, taps: [&[u8]; TAPS], out: &mut [u8]) {
        let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
        let taken = blocks.len() * BLOCK;
        for (i, out) in blocks.iter_mut().enumerate() {
            self.block(taps.map(|tap| &tap.as_chunks::<BLOCK>().0[i]), out);
        }
        for (i, out) in rest.iter_mut().enumerate() {
            let taps = taps.map(|tap| u32::from(tap[taken + i]));
            let inner = taps[1..TAPS - 1].iter().sum();
            *out = self.level(inner, taps[0] + taps[TAPS - 1]);
        }
    }

    /// Counted loops: by iterators it was measured to be half as fast.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn block<const TAPS: usize>(self, taps: [&[u8; BLOCK]; TAPS], out: &mut [u8; BLOCK]) {
        let wide = |tap: usize, i: usize| u16::from(taps[tap][i]);
        let (mut inner, mut outer) = ([0u16; BLOCK], [0u16; BLOCK]);
        for tap in 1..TAPS - 1 {
            for i in 0..BLOCK {
                inner[i] += wide(tap, i);
            }
        }
        for i in 0..BLOCK {
            outer[i] = wide(0, i) + wide(TAPS - 1, i);
        }
        for i in 0..BLOCK {
            out[i] = self.level(u32::from(inner[i]), u32::from(outer[i]));
        }
    }
}

/// Blurs an image of planes `[3, H, W]` in place; `radius` is the Gaussian's standard deviation
/// in pixels. Beyond the border the outermost pixels are repeated. The time does not depend on
/// the radius.
///
/// A radius of 0 or less (or NaN) changes nothing; nor does a width that does not divide planes.
pub fn gaussian(planes: &mut [u8], width: usize, radius: f64, scratch: &mut Scratch) {
    let plane = planes.len() / CHANNELS;
    if plane == 0 || width == 0 || !plane.is_multiple_of(width) || radius.is_nan() || radius <= 0.0
    {
        return;
    }
    let weights = Weights::of_gaussian(radius as f32);
    scratch.plane.resize(plane, 0);
    for plane in planes.chunks_exact_mut(plane) {
        let (other, sums) = (&mut scratch.plane, &mut scratch.sums);
        blur_rows(plane, other, width, weights, &mut scratch.padded);
        blur_columns(other, plane, width, weights, sums);
        blur_columns(plane, other, width, weights, sums);
        blur_columns(other, plane, width, weights, sums);
    }
}

/// All passes over each row of `from`, to `out`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn blur_rows(
    from: &[u8],
    out: &mut [u8],
    width: usize,
    weights: Weights,
    padded: &mut [Vec<u8>; 2],
) {
    match weights.reach {
        0 => narrow_rows::<3>(from, out, width, weights, padded),
        1 => narrow_rows::<5>(from, out, width, weights, padded),
        _ => {
            let padded = &mut padded[0];
            padded.resize(width + 2 * (weights.reach + 1), 0);
            let rows = from.chunks_exact(width).zip(out.chunks_exact_mut(width));
            for (row, out) in rows {
                out.copy_from_slice(row);
                wide_row(out, weights, padded);
            }
        }
    }
}

/// All passes over each row, for the reaches that blurs of up to 2 pixels have.
#[inline(always)]
fn narrow_rows<const TAPS: usize>(
    from: &[u8],
    out: &mut [u8],
    width: usize,
    weights: Weights,
    padded: &mut [Vec<u8>; 2],
) {
    let pad = TAPS / 2;
    let stride = width + 2 * pad;
    for padded in &mut *padded {
        padded.resize(from.len() / width * stride, 0);
    }
    let rows = from.chunks_exact(width);
    for (row, padded) in rows.zip(padded[0].chunks_exact_mut(stride)) {
        padded[pad..][..width].copy_from_slice(row);
        repeat_ends(padded, pad);
    }
    // Padded rows are one long row: what runs over their ends is replaced.
    for _ in 1..PASSES {
        let [from, to] = &mut *padded;
        let inside = pad..to.len() - pad;
        weights.narrow::<TAPS>(taps_of(from), &mut to[inside]);
        for row in to.chunks_exact_mut(stride) {
            repeat_ends(row, pad);
        }
        padded.swap(0, 1);
    }
    for (row, out) in padded[0]
        .chunks_exact(stride)
        .zip(out.chunks_exact_mut(width))
    {
        weights.narrow::<TAPS>(taps_of(row), out);
    }
}

/// Repeats the first and the last value between `pad` places at either end.
#[inline(always)]
fn repeat_ends(padded: &mut [u8], pad: usize) {
    let end = padded.len() - pad;
    let (first, last) = (padded[pad], padded[end - 1]);
    padded[..pad].fill(first);
    padded[end..].fill(last);
}

/// A padded row, moved by one place after the other.
#[inline(always)]
fn taps_of<const TAPS: usize>(padded: &[u8]) -> [&[u8]; TAPS] {
    std::array::from_fn(|place| &padded[place..])
}

/// All passes over a row, for boxes of any width.
#[inline(always)]
fn wide_row(row: &mut [u8], weights: Weights, padded: &mut [u8]) {
    let (pad, width) = (weights.reach + 1, row.len());
    let span = 2 * weights.reach + 1;
    for _ in 0..PASSES {
        padded[pad..][..width].copy_from_slice(row);
        padded[..pad].fill(row[0]);
        padded[pad + width..].fill(row[width - 1]);
        // The box moves along: one value comes in, one goes out.
        let mut inner: u32 = padded[1..=span].iter().map(|&value| u32::from(value)).sum();
        for (i, out) in row.iter_mut().enumerate() {
            let (first, last) = (u32::from(padded[i]), u32::from(padded[i + span + 1]));
            *out = weights.level(inner, first + last);
            inner = inner + last - u32::from(padded[i + 1]);
        }
    }
}

/// One pass over all columns.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn blur_columns(from: &[u8], to: &mut [u8], width: usize, weights: Weights, sums: &mut Vec<u32>) {
    match weights.reach {
        0 => narrow_columns::<3>(from, to, width, weights),
        1 => narrow_columns::<5>(from, to, width, weights),
        _ => wide_columns(from, to, width, weights, sums),
    }
}

/// Row `d` of the box around row `y`, `d` in `0..2 · reach + 3`.
#[inline(always)]
fn box_row(from: &[u8], width: usize, reach: usize, y: usize, d: usize) -> &[u8] {
    let y = (y + d)
        .saturating_sub(reach + 1)
        .min(from.len() / width - 1);
    &from[y * width..]
}

#[inline(always)]
fn narrow_columns<const TAPS: usize>(from: &[u8], to: &mut [u8], width: usize, weights: Weights) {
    let (rows, pad) = (from.len() / width, TAPS / 2);
    let taps = |y: usize| std::array::from_fn(|d| box_row(from, width, weights.reach, y, d));
    // All rows whose boxes lie inside are one long row.
    let inside = pad..rows.saturating_sub(pad).max(pad);
    let mut y = 0;
    while y < rows {
        let end = if y == inside.start {
            inside.end.max(y + 1)
        } else {
            y + 1
        };
        let end = end.min(rows);
        weights.narrow::<TAPS>(taps(y), &mut to[y * width..end * width]);
        y = end;
    }
}

#[inline(always)]
fn wide_columns(from: &[u8], to: &mut [u8], width: usize, weights: Weights, sums: &mut Vec<u32>) {
    let reach = weights.reach;
    let row = |y: usize, d: usize| &box_row(from, width, reach, y, d)[..width];
    // The boxes of all columns move down together: one row comes in, one goes out.
    sums.clear();
    sums.resize(width, 0);
    for d in 1..2 * reach + 2 {
        for (sum, value) in sums.iter_mut().zip(row(0, d)) {
            *sum += u32::from(*value);
        }
    }
    for (y, out) in to.chunks_exact_mut(width).enumerate() {
        let (first, gone, come) = (row(y, 0), row(y, 1), row(y, 2 * reach + 2));
        for i in 0..width {
            let (outer, inner) = (u32::from(first[i]) + u32::from(come[i]), sums[i]);
            out[i] = weights.level(inner, outer);
            sums[i] = inner + u32::from(come[i]) - u32::from(gone[i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn weights_are_a_partition_of_one() {
        for tenths in 1..200 {
            let Weights {
                reach,
                full,
                partial,
            } = Weights::of_gaussian(tenths as f32 / 10.0);
            let sum = (2 * reach as u32 + 1) * full + 2 * partial;
            assert!(((1 << 24) - 1..=1 << 24).contains(&sum), "{tenths}: {sum}");
            assert!(partial <= full + 1, "{tenths}: {partial} of {full}");
        }
    }

    #[test]
    fn a_dot_gets_the_gaussians_variance() {
        let (width, height) = (41, 41);
        for radius in [0.8, 1.5, 2.0, 4.0] {
            let mut pixels = vec![0; width * height * 3];
            // A bright line, blurred across, keeps enough levels to measure.
            for y in 0..height {
                pixels[(height + y) * width + 20] = 255;
            }
            gaussian(&mut pixels, width, radius, &mut Scratch::default());
            let row = &pixels[(height + 20) * width..][..width];
            let (mut mass, mut variance) = (0.0, 0.0);
            for (x, &value) in row.iter().enumerate() {
                let value = f64::from(value);
                mass += value;
                variance += value * (x as f64 - 20.0).powi(2);
            }
            let plane = width * height;
            for other in [&pixels[..plane], &pixels[2 * plane..]] {
                assert!(other.iter().all(|&value| value == 0));
            }
            let deviation = (variance / mass).sqrt();
            assert!(
                (deviation - radius).abs() < 0.08 * radius,
                "{radius}: {deviation}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_constant_image_stays(
            colour: [u8; 3], width in 1usize..12, height in 1usize..12, radius in 0.0f64..9.0
        ) {
            let image = colour.map(|value| vec![value; width * height]).concat();
            let mut pixels = image.clone();
            gaussian(&mut pixels, width, radius, &mut Scratch::default());
            prop_assert_eq!(pixels, image);
        }

        #[test]
        fn agrees_with_unrounded_boxes(
            image in proptest::collection::vec(any::<u8>(), 7 * 9 * 3), radius in 0.05f64..6.0
        ) {
            let mut pixels = image.clone();
            gaussian(&mut pixels, 9, radius, &mut Scratch::default());
            let expected = in_double_precision(&image, 9, 7, radius);
            for (ours, exact) in pixels.iter().zip(expected) {
                // Six passes, each rounded by at most a half.
                prop_assert!((f64::from(*ours) - exact).abs() <= 3.01, "{ours} for {exact}");
            }
        }
    }

    /// The same boxes, pixel by pixel and without rounding.
    fn in_double_precision(image: &[u8], width: usize, height: usize, radius: f64) -> Vec<f64> {
        let variance = radius * radius / 3.0;
        let reach = (((12.0 * variance + 1.0).sqrt() - 1.0) / 2.0).floor();
        let next = reach + 1.0;
        let share = (2.0 * reach + 1.0) * (reach * next - 3.0 * variance)
            / (6.0 * (variance - next * next));
        let mut values: Vec<f64> = image.iter().map(|&value| f64::from(value)).collect();
        for pass in 0..6 {
            let (dx, dy) = if pass < 3 { (1, 0) } else { (0, 1) };
            let from = values.clone();
            for (place, value) in values.iter_mut().enumerate() {
                let (c, y, x) = (
                    place / width / height,
                    place / width % height,
                    place % width,
                );
                *value = 0.0;
                let reach = reach as isize;
                for d in -reach - 1..=reach + 1 {
                    let y = y.saturating_add_signed(d * dy).min(height - 1);
                    let x = x.saturating_add_signed(d * dx).min(width - 1);
                    let weight = if d.abs() > reach { share } else { 1.0 };
                    *value += weight * from[(c * height + y) * width + x]
                        / (2.0 * (reach as f64 + share) + 1.0);
                }
            }
        }
        values
    }
}
