//! Colour changes with Pillow's 8-bit arithmetic, in place on planes `[3, H, W]`.
//!
//! A factor of 1 leaves brightness, contrast and saturation as they are, 0 gives black,
//! a flat grey, or a grey image; above 1 the change is extrapolated and clipped. Values
//! beyond three whole planes are left alone.
//!
//! The loops are compiled for several processors; the best one is chosen when the program runs.
//! All give the same bits: only exact and singly rounded operations are used, in one order.

use multiversion::multiversion;

use super::planes::{three, three_mut};

mod hue;
mod rounding;
mod table;

pub use hue::hue;

use rounding::truncate;
use table::Table;

/// Luma of a pixel, ITU-R 601 in 16-bit fixed point.
#[inline(always)]
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    let sum = 19595 * u32::from(red) + 38470 * u32::from(green) + 7471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}

/// `from + factor · (to − from)` in single precision, truncated (not rounded) to 0–255.
#[inline(always)]
fn blend(from: f32, to: u8, factor: f32) -> u8 {
    let blended = from + factor * (f32::from(to) - from);
    truncate(blended.clamp(0.0, 255.0))
}

/// Blends every value with the constant `from`.
fn blend_with(values: &mut [u8], from: f32, factor: f32) {
    let mut table = Table::identity();
    blend_levels(&mut table.0, from, factor);
    table.apply(values);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn blend_levels(values: &mut [u8; 256], from: f32, factor: f32) {
    for value in values {
        *value = blend(from, *value, factor);
    }
}

/// Scales all values.
pub fn brightness(planes: &mut [u8], factor: f32) {
    let whole = planes.len() / 3 * 3;
    blend_with(&mut planes[..whole], 0.0, factor);
}

/// Scales the distance from the mean luma (rounded to a grey level).
pub fn contrast(planes: &mut [u8], factor: f32) {
    let (red, green, blue) = three(planes);
    if red.is_empty() {
        return;
    }
    let mean = (sum_of_luma(red, green, blue) as f64 / red.len() as f64 + 0.5) as u8;
    let whole = red.len() * 3;
    blend_with(&mut planes[..whole], f32::from(mean), factor);
}

/// Pixels whose lumas a sum of 32 bits can hold.
const SUMMED: usize = 1 << 16;

fn sum_of_luma(red: &[u8], green: &[u8], blue: &[u8]) -> u64 {
    let parts = red
        .chunks(SUMMED)
        .zip(green.chunks(SUMMED))
        .zip(blue.chunks(SUMMED));
    parts
        .map(|((red, green), blue)| u64::from(short_sum_of_luma(red, green, blue)))
        .sum()
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn short_sum_of_luma(red: &[u8], green: &[u8], blue: &[u8]) -> u32 {
    let mut sum = 0;
    for ((red, green), blue) in red.iter().zip(green).zip(blue) {
        sum += u32::from(luma(*red, *green, *blue));
    }
    sum
}

/// Scales the distance from each pixel's own luma.
pub fn saturation(planes: &mut [u8], factor: f32) {
    let (red, green, blue) = three_mut(planes);
    saturate(red, green, blue, factor);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn saturate(red: &mut [u8], green: &mut [u8], blue: &mut [u8], factor: f32) {
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        let grey = f32::from(luma(*red, *green, *blue));
        *red = blend(grey, *red, factor);
        *green = blend(grey, *green, factor);
        *blue = blend(grey, *blue, factor);
    }
}

/// Sets all channels to the luma.
pub fn greyscale(planes: &mut [u8]) {
    let (red, green, blue) = three_mut(planes);
    to_grey(red, green, blue);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn to_grey(red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        let grey = luma(*red, *green, *blue);
        (*red, *green, *blue) = (grey, grey, grey);
    }
}

/// Inverts the values that are at or above the threshold.
pub fn solarise(planes: &mut [u8], threshold: u8) {
    for value in planes {
        *value = if *value < threshold {
            *value
        } else {
            255 - *value
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn luma_of_the_corners() {
        assert_eq!(luma(255, 255, 255), 255);
        assert_eq!(luma(255, 0, 0), 76);
        assert_eq!(luma(0, 255, 0), 150);
        assert_eq!(luma(0, 0, 255), 29);
    }

    #[test]
    fn solarise_inverts_from_the_threshold() {
        let mut values = [0, 127, 128, 255];
        solarise(&mut values, 128);
        assert_eq!(values, [0, 127, 127, 0]);
    }

    #[test]
    fn factors_of_zero() {
        let image = [10, 200, 30, 0, 100, 90];
        let mut planes = image;
        brightness(&mut planes, 0.0);
        assert_eq!(planes, [0; 6]);
        let mut planes = image;
        contrast(&mut planes, 0.0);
        assert!(planes.iter().all(|&value| value == planes[0]));
        let (mut planes, mut grey) = (image, image);
        saturation(&mut planes, 0.0);
        greyscale(&mut grey);
        assert_eq!(planes, grey);
    }

    #[test]
    fn a_mean_of_many_pixels() {
        // More pixels than one sum holds: half black, half white, and one white more.
        let pixels = 3 * SUMMED + 1;
        let plane: Vec<u8> = (0..pixels)
            .map(|i| if i % 2 == 0 { 255 } else { 0 })
            .collect();
        let mut planes = plane.repeat(3);
        contrast(&mut planes, 0.0);
        assert_eq!(planes, vec![128; 3 * pixels]);
    }

    #[test]
    fn nothing_to_change_is_fine() {
        let mut none: [u8; 0] = [];
        contrast(&mut none, 1.3);
        hue(&mut none, 0.1);
        let mut incomplete = [1, 2];
        contrast(&mut incomplete, 1.3);
        hue(&mut incomplete, 0.1);
        assert_eq!(incomplete, [1, 2]);
    }

    proptest! {
        #[test]
        fn a_factor_of_one_is_the_identity(image in proptest::collection::vec(any::<[u8; 3]>(), 1..200)) {
            let image = image.into_flattened();
            for change in [brightness, contrast, saturation] {
                let mut planes = image.clone();
                change(&mut planes, 1.0);
                prop_assert_eq!(&planes, &image);
            }
        }

        #[test]
        fn every_value_is_blended_alike(
            image in proptest::collection::vec(any::<[u8; 3]>(), 1..200), factor in 0.0f32..3.0
        ) {
            let image = image.into_flattened();
            let mut planes = image.clone();
            brightness(&mut planes, factor);
            for (before, after) in image.iter().zip(&planes) {
                prop_assert_eq!(*after, (f32::from(*before) * factor) as u8);
            }
        }
    }
}
