//! Colour changes with Pillow's 8-bit arithmetic, in place on interleaved RGB pixels.
//!
//! A factor of 1 leaves brightness, contrast and saturation as they are, 0 gives black,
//! a flat grey, or a grey image; above 1 the change is extrapolated and clipped. A
//! trailing incomplete pixel is left alone.

/// Luma of a pixel, ITU-R 601 in 16-bit fixed point.
#[inline]
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19595 * u32::from(red) + 38470 * u32::from(green) + 7471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}

/// `from + factor · (to − from)` in single precision, cut (not rounded) to 0–255.
#[inline]
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let from = f32::from(from);
    (from + factor * (f32::from(to) - from)) as u8
}

/// Blends every value with the constant `from`, by table.
fn blend_with(pixels: &mut [u8], from: u8, factor: f32) {
    let mut table = [0; 256];
    for (to, entry) in table.iter_mut().enumerate() {
        *entry = blend(from, to as u8, factor);
    }
    for value in pixels {
        *value = table[usize::from(*value)];
    }
}

/// Scales all values.
pub fn brightness(pixels: &mut [u8], factor: f32) {
    blend_with(pixels, 0, factor);
}

/// Scales the distance from the mean luma (rounded to a grey level).
pub fn contrast(pixels: &mut [u8], factor: f32) {
    let (whole, _) = pixels.as_chunks::<3>();
    if whole.is_empty() {
        return;
    }
    let sum: u64 = whole.iter().map(|pixel| u64::from(luma(*pixel))).sum();
    let mean = (sum as f64 / whole.len() as f64 + 0.5) as u8;
    blend_with(pixels, mean, factor);
}

/// Scales the distance from each pixel's own luma.
pub fn saturation(pixels: &mut [u8], factor: f32) {
    let (pixels, _) = pixels.as_chunks_mut::<3>();
    for pixel in pixels {
        let grey = luma(*pixel);
        for value in pixel {
            *value = blend(grey, *value, factor);
        }
    }
}

/// Sets all channels to the luma.
pub fn greyscale(pixels: &mut [u8]) {
    let (pixels, _) = pixels.as_chunks_mut::<3>();
    for pixel in pixels {
        *pixel = [luma(*pixel); 3];
    }
}

/// Inverts the values that are at or above the threshold.
pub fn solarise(pixels: &mut [u8], threshold: u8) {
    for value in pixels {
        *value = if *value < threshold {
            *value
        } else {
            255 - *value
        };
    }
}

/// Turns the hue by `factor` of the colour circle (−0.5 to 0.5).
///
/// Goes through 8-bit hue, saturation and value, so that even 0 is not quite the identity.
pub fn hue(pixels: &mut [u8], factor: f64) {
    // Cut towards zero, then wrapped: 256 steps around the circle.
    let shift = (factor * 255.0) as i32 as u8;
    let mut sectors = [(0u8, 0f32); 256];
    for (hue, (sector, fraction)) in sectors.iter_mut().enumerate() {
        let turned = (f64::from((hue as u8).wrapping_add(shift)) * 6.0 / 255.0) as f32;
        *sector = turned as u8 % 6;
        *fraction = turned - turned.trunc();
    }
    let (pixels, _) = pixels.as_chunks_mut::<3>();
    for pixel in pixels {
        let [red, green, blue] = *pixel;
        let value = red.max(green).max(blue);
        let range = value - red.min(green).min(blue);
        if range == 0 {
            continue;
        }
        let saturation = f64::from(f32::from(range) / f32::from(value));
        let saturation = (saturation * 255.0) as u8;
        let (sector, fraction) = sectors[usize::from(hue_of(*pixel, value, range))];

        let saturation = f64::from((f64::from(saturation) / 255.0) as f32);
        let (top, fraction) = (f64::from(value), f64::from(fraction));
        let level = |share: f64| (top * share + 0.5) as u8;
        let low = level(1.0 - saturation);
        let falling = level(1.0 - saturation * fraction);
        let rising = level(1.0 - saturation * (1.0 - fraction));
        *pixel = match sector {
            0 => [value, rising, low],
            1 => [falling, value, low],
            2 => [low, value, rising],
            3 => [low, falling, value],
            4 => [rising, low, value],
            _ => [value, low, falling],
        };
    }
}

/// The hue in 256ths of the circle; `value` is the largest channel, `range` its distance
/// from the smallest (not 0).
#[inline]
fn hue_of([red, green, blue]: [u8; 3], value: u8, range: u8) -> u8 {
    let span = f32::from(range);
    let below = |channel: u8| f32::from(value - channel) / span;
    let sixths = if red == value {
        below(blue) - below(green)
    } else if green == value {
        (2.0 + f64::from(below(red)) - f64::from(below(blue))) as f32
    } else {
        (4.0 + f64::from(below(green)) - f64::from(below(red))) as f32
    };
    // Between 5/6 and 11/6, so that one subtraction brings it into the circle.
    let turns = f64::from(sixths) / 6.0 + 1.0;
    let turns = if turns >= 1.0 { turns - 1.0 } else { turns } as f32;
    (f64::from(turns) * 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn luma_of_the_corners() {
        assert_eq!(luma([255; 3]), 255);
        assert_eq!(luma([255, 0, 0]), 76);
        assert_eq!(luma([0, 255, 0]), 150);
        assert_eq!(luma([0, 0, 255]), 29);
    }

    #[test]
    fn solarise_inverts_from_the_threshold() {
        let mut pixels = [0, 127, 128, 255];
        solarise(&mut pixels, 128);
        assert_eq!(pixels, [0, 127, 127, 0]);
    }

    #[test]
    fn factors_of_zero() {
        let image = [10, 200, 30, 0, 100, 90];
        let mut pixels = image;
        brightness(&mut pixels, 0.0);
        assert_eq!(pixels, [0; 6]);
        let mut pixels = image;
        contrast(&mut pixels, 0.0);
        assert!(pixels.iter().all(|&value| value == pixels[0]));
        let (mut pixels, mut grey) = (image, image);
        saturation(&mut pixels, 0.0);
        greyscale(&mut grey);
        assert_eq!(pixels, grey);
    }

    #[test]
    fn a_third_of_the_circle_turns_red_into_green() {
        let mut pixels = [200, 0, 0, 50, 50, 50];
        hue(&mut pixels, 1.0 / 3.0);
        assert_eq!(pixels, [0, 200, 0, 50, 50, 50]);
    }

    #[test]
    fn nothing_to_change_is_fine() {
        let mut none: [u8; 0] = [];
        contrast(&mut none, 1.3);
        hue(&mut none, 0.1);
        let mut incomplete = [1, 2];
        contrast(&mut incomplete, 1.3);
        assert_eq!(incomplete, [1, 2]);
    }

    proptest! {
        #[test]
        fn a_factor_of_one_is_the_identity(image in proptest::collection::vec(any::<[u8; 3]>(), 1..50)) {
            let image = image.into_flattened();
            for change in [brightness, contrast, saturation] {
                let mut pixels = image.clone();
                change(&mut pixels, 1.0);
                prop_assert_eq!(&pixels, &image);
            }
        }

        #[test]
        fn hue_by_zero_stays_close(pixel: [u8; 3]) {
            let mut turned = pixel;
            hue(&mut turned, 0.0);
            // A hue is known to 1/255 of the circle and a saturation to 1/255, both cut.
            for (before, after) in pixel.iter().zip(turned) {
                prop_assert!(before.abs_diff(after) <= 8, "{:?} became {:?}", pixel, turned);
            }
            prop_assert_eq!(pixel.iter().max(), turned.iter().max());
        }
    }
}
