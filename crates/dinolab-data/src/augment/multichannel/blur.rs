//! Gaussian blur as three box blurs of fractional width, as for 8-bit RGB but without rounding.

/// Box blurs that make up one Gaussian blur.
const PASSES: usize = 3;

/// Buffers that a blur needs, kept between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    padded: Vec<f32>,
    plane: Vec<f32>,
}

/// `2 · reach + 1` taps of weight `full` and one of weight `partial` beyond each end.
#[derive(Clone, Copy)]
struct Weights {
    reach: usize,
    full: f32,
    partial: f32,
}

impl Weights {
    /// The box whose `PASSES`-fold application has the variance of a Gaussian.
    fn of_gaussian(deviation: f64) -> Self {
        let variance = deviation * deviation / PASSES as f64;
        let reach = (((12.0 * variance + 1.0).sqrt() - 1.0) / 2.0).floor();
        let next = reach + 1.0;
        let share = (2.0 * reach + 1.0) * (reach * next - 3.0 * variance)
            / (6.0 * (variance - next * next));
        let full = 1.0 / (2.0 * (reach + share) + 1.0);
        Self {
            reach: reach as usize,
            full: full as f32,
            partial: (share * full) as f32,
        }
    }
}

/// Blurs planes `[C, H, W]` in place; `radius` is the Gaussian's standard deviation in pixels.
/// Beyond the border the outermost pixels are repeated.
///
/// A radius of 0 or less (or NaN) changes nothing; nor does a size that does not divide planes.
pub fn gaussian(
    planes: &mut [f32],
    (height, width): (usize, usize),
    radius: f64,
    scratch: &mut Scratch,
) {
    let pixels = height * width;
    if pixels == 0 || !planes.len().is_multiple_of(pixels) || radius.is_nan() || radius <= 0.0 {
        return;
    }
    let weights = Weights::of_gaussian(radius);
    scratch.plane.resize(pixels, 0.0);
    for plane in planes.chunks_exact_mut(pixels) {
        for row in plane.chunks_exact_mut(width) {
            for _ in 0..PASSES {
                blur_row(row, weights, &mut scratch.padded);
            }
        }
        for _ in 0..PASSES {
            blur_columns(plane, &mut scratch.plane, width, weights);
            plane.copy_from_slice(&scratch.plane);
        }
    }
}

fn blur_row(row: &mut [f32], weights: Weights, padded: &mut Vec<f32>) {
    let pad = weights.reach + 1;
    padded.clear();
    padded.resize(pad, row[0]);
    padded.extend_from_slice(row);
    padded.resize(2 * pad + row.len(), row[row.len() - 1]);
    let span = 2 * pad;
    for (i, out) in row.iter_mut().enumerate() {
        let inner: f32 = padded[i + 1..i + span].iter().sum();
        *out = weights.full * inner + weights.partial * (padded[i] + padded[i + span]);
    }
}

fn blur_columns(from: &[f32], to: &mut [f32], width: usize, weights: Weights) {
    let last = from.len() / width - 1;
    let span = 2 * (weights.reach + 1);
    // Row `d` of the box around row `y`, `d` in `0..=span`.
    let row = |y: usize, d: usize| {
        let y = (y + d).saturating_sub(weights.reach + 1).min(last);
        &from[y * width..][..width]
    };
    for (y, out) in to.chunks_exact_mut(width).enumerate() {
        out.fill(0.0);
        for d in 1..span {
            out.iter_mut().zip(row(y, d)).for_each(|(sum, v)| *sum += v);
        }
        for ((out, first), end) in out.iter_mut().zip(row(y, 0)).zip(row(y, span)) {
            *out = weights.full * *out + weights.partial * (first + end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_dot_gets_the_gaussians_variance() {
        let (height, width) = (51, 61);
        for radius in [0.4, 0.8, 2.0, 5.0] {
            let mut planes = vec![0.0; 2 * height * width];
            planes[height * width + 25 * width + 30] = 1.0;
            gaussian(
                &mut planes,
                (height, width),
                radius,
                &mut Scratch::default(),
            );
            let (first, second) = planes.split_at(height * width);
            assert!(first.iter().all(|&v| v == 0.0), "planes do not mix");
            let (mut mass, mut down, mut across) = (0.0, 0.0, 0.0);
            for (i, &v) in second.iter().enumerate() {
                let (y, x) = ((i / width) as f64 - 25.0, (i % width) as f64 - 30.0);
                mass += f64::from(v);
                down += f64::from(v) * y * y;
                across += f64::from(v) * x * x;
            }
            assert!((mass - 1.0).abs() < 1e-4, "{mass}");
            for variance in [down, across] {
                let deviation = (variance / mass).sqrt();
                assert!(
                    (deviation - radius).abs() < 0.01 * radius,
                    "{radius}: {deviation}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn is_the_blur_of_8_bits_but_for_rounding(
            image in proptest::collection::vec(any::<u8>(), 7 * 9 * 3), radius in 0.05f64..6.0
        ) {
            let mut bytes = image.clone();
            crate::augment::blur::gaussian(&mut bytes, 9, radius, &mut Default::default());
            let mut planes: Vec<f32> = image.iter().map(|&v| f32::from(v) / 255.0).collect();
            gaussian(&mut planes, (7, 9), radius, &mut Scratch::default());
            for (byte, value) in bytes.iter().zip(planes) {
                // Six passes, each rounded by at most a half.
                prop_assert!((f32::from(*byte) - 255.0 * value).abs() <= 3.02, "{byte} for {value}");
            }
        }
    }
}
