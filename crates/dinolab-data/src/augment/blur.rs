//! Gaussian blur as three box blurs of fractional width, the way Pillow does it.

/// Box blurs that make up one Gaussian blur.
const PASSES: usize = 3;
const CHANNELS: usize = 3;

/// Buffers that a blur needs, kept between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    image: Vec<u8>,
    padded: Vec<u8>,
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

    /// One box blur. `tap(d)` is the input moved by `d − reach − 1` pixels along the blur,
    /// `d` in `0..2 · reach + 3`, as long as `out`.
    ///
    /// The weights sum to at most 2²⁴, so that no sum leaves 32 bits.
    fn apply<'a>(self, out: &mut [u8], tap: impl Fn(usize) -> &'a [u8]) {
        let Self {
            reach,
            full,
            partial,
        } = self;
        let n = out.len();
        let finish =
            |inner: u32, outer: u32| ((inner * full + outer * partial + (1 << 23)) >> 24) as u8;
        let first = &tap(0)[..n];
        let last = &tap(2 * reach + 2)[..n];
        match reach {
            0 => {
                let middle = &tap(1)[..n];
                for i in 0..n {
                    let outer = u32::from(first[i]) + u32::from(last[i]);
                    out[i] = finish(u32::from(middle[i]), outer);
                }
            }
            1 => {
                let (a, b, c) = (&tap(1)[..n], &tap(2)[..n], &tap(3)[..n]);
                for i in 0..n {
                    let outer = u32::from(first[i]) + u32::from(last[i]);
                    let inner = u32::from(a[i]) + u32::from(b[i]) + u32::from(c[i]);
                    out[i] = finish(inner, outer);
                }
            }
            _ => {
                for i in 0..n {
                    let outer = u32::from(first[i]) + u32::from(last[i]);
                    let inner = (1..2 * reach + 2).map(|d| u32::from(tap(d)[i])).sum();
                    out[i] = finish(inner, outer);
                }
            }
        }
    }
}

/// Blurs an interleaved RGB image in place; `radius` is the Gaussian's standard deviation
/// in pixels. Beyond the border the outermost pixels are repeated.
///
/// `pixels` holds rows of `width × 3` values. A radius of 0 or less (or NaN) changes nothing.
pub fn gaussian(pixels: &mut [u8], width: usize, radius: f64, scratch: &mut Scratch) {
    let stride = width * CHANNELS;
    if stride == 0 || pixels.is_empty() || radius.is_nan() || radius <= 0.0 {
        return;
    }
    let weights = Weights::of_gaussian(radius as f32);
    let height = pixels.len() / stride;
    scratch.image.clear();
    scratch.image.resize(height * stride, 0);

    for (row, out) in pixels
        .chunks_exact(stride)
        .zip(scratch.image.chunks_exact_mut(stride))
    {
        blur_row(row, out, weights, &mut scratch.padded);
    }
    // An odd number of passes ends where it should: in `pixels`.
    blur_columns(&scratch.image, pixels, stride, weights);
    for _ in 0..PASSES / 2 {
        blur_columns(pixels, &mut scratch.image, stride, weights);
        blur_columns(&scratch.image, pixels, stride, weights);
    }
}

/// All passes over one row.
fn blur_row(row: &[u8], out: &mut [u8], weights: Weights, padded: &mut Vec<u8>) {
    let pad = (weights.reach + 1) * CHANNELS;
    padded.clear();
    padded.resize(row.len() + 2 * pad, 0);
    out.copy_from_slice(row);
    for _ in 0..PASSES {
        let (left, rest) = padded.split_at_mut(pad);
        let (middle, right) = rest.split_at_mut(row.len());
        middle.copy_from_slice(out);
        for pixel in left.chunks_exact_mut(CHANNELS) {
            pixel.copy_from_slice(&middle[..CHANNELS]);
        }
        for pixel in right.chunks_exact_mut(CHANNELS) {
            pixel.copy_from_slice(&middle[row.len() - CHANNELS..]);
        }
        weights.apply(out, |d| &padded[d * CHANNELS..]);
    }
}

/// One pass over all columns.
fn blur_columns(from: &[u8], to: &mut [u8], stride: usize, weights: Weights) {
    let last = from.len() / stride - 1;
    for (y, out) in to.chunks_exact_mut(stride).enumerate() {
        let tap = |d: usize| {
            let y = (y + d).saturating_sub(weights.reach + 1).min(last);
            &from[y * stride..][..stride]
        };
        weights.apply(out, tap);
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
                pixels[(y * width + 20) * 3 + 1] = 255;
            }
            gaussian(&mut pixels, width, radius, &mut Scratch::default());
            let row = &pixels[20 * width * 3..21 * width * 3];
            let (mut mass, mut variance) = (0.0, 0.0);
            for (x, pixel) in row.chunks_exact(3).enumerate() {
                let value = f64::from(pixel[1]);
                mass += value;
                variance += value * (x as f64 - 20.0).powi(2);
                assert_eq!((pixel[0], pixel[2]), (0, 0));
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
            let image = colour.repeat(width * height);
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
                let (y, x, c) = (place / 3 / width, place / 3 % width, place % 3);
                *value = 0.0;
                let reach = reach as isize;
                for d in -reach - 1..=reach + 1 {
                    let y = y.saturating_add_signed(d * dy).min(height - 1);
                    let x = x.saturating_add_signed(d * dx).min(width - 1);
                    let weight = if d.abs() > reach { share } else { 1.0 };
                    *value += weight * from[(y * width + x) * 3 + c]
                        / (2.0 * (reach as f64 + share) + 1.0);
                }
            }
        }
        values
    }
}
