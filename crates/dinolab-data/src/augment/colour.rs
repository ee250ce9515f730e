//! Colour changes with Pillow's 8-bit arithmetic, in place on interleaved RGB pixels.
//!
//! A factor of 1 leaves brightness, contrast and saturation as they are, 0 gives black,
//! a flat grey, or a grey image; above 1 the change is extrapolated and clipped. A
//! trailing incomplete pixel is left alone.

use std::sync::LazyLock;

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
        *pixel = pixel.map(|value| blend(grey, value, factor));
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
    let mut turned = [Turned::default(); 256];
    for (hue, turned) in turned.iter_mut().enumerate() {
        *turned = Turned::new((hue as u8).wrapping_add(shift));
    }
    let Tables { hues, saturations } = &*TABLES;
    // Without branches: which channel is the largest is hard to predict.
    let (pixels, _) = pixels.as_chunks_mut::<3>();
    for pixel in pixels {
        let [red, green, blue] = *pixel;
        let value = red.max(green).max(blue);
        let range = value - red.min(green).min(blue);
        let (is_red, is_green) = (red == value, green == value);
        // The largest channel, and the ones after and before it on the circle.
        let largest = if is_red { 0 } else { 2 - usize::from(is_green) };
        let next = if is_red {
            green
        } else if is_green {
            blue
        } else {
            red
        };
        let previous = if is_red {
            blue
        } else if is_green {
            red
        } else {
            green
        };
        let hue = hues[largest][hue_index(range, i32::from(next) - i32::from(previous))];
        let saturation = saturations[usize::from(value) << 8 | usize::from(range)];
        let saturation = f64::from(saturation);
        let Turned { fraction, places } = turned[usize::from(hue)];

        let top = f64::from(value);
        let level = |share: f64| u32::from((top * share + 0.5) as u8);
        let low = level(1.0 - saturation);
        let falling = level(1.0 - saturation * fraction);
        let rising = level(1.0 - saturation * (1.0 - fraction));
        let levels = u32::from(value) | rising << 8 | low << 16 | falling << 24;
        *pixel = places.map(|place| (levels >> place) as u8);
    }
}

/// What a hue says about the three channels.
#[derive(Clone, Copy, Default)]
struct Turned {
    /// How far it is through its sixth of the circle.
    fraction: f64,
    /// For each channel, where its level is found among the packed levels.
    places: [u8; 3],
}

impl Turned {
    fn new(hue: u8) -> Self {
        const VALUE: u8 = 0;
        const RISING: u8 = 8;
        const LOW: u8 = 16;
        const FALLING: u8 = 24;
        let sixths = (f64::from(hue) * 6.0 / 255.0) as f32;
        let places = match sixths as u8 % 6 {
            0 => [VALUE, RISING, LOW],
            1 => [FALLING, VALUE, LOW],
            2 => [LOW, VALUE, RISING],
            3 => [LOW, FALLING, VALUE],
            4 => [RISING, LOW, VALUE],
            _ => [VALUE, LOW, FALLING],
        };
        Self {
            fraction: f64::from(sixths - sixths.trunc()),
            places,
        }
    }
}

/// Hues and saturations in 8 bits; dividing for each pixel would take most of the time.
struct Tables {
    /// By the largest channel (red, green, blue) and [`hue_index`].
    hues: [Vec<u8>; 3],
    /// By `value << 8 | range`, as shares of 1.
    saturations: Vec<f32>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let hues = [0.0, 2.0, 4.0].map(|sixth| {
        let mut table = vec![0; 1 << 16];
        for range in 1..=u8::MAX {
            let span = i32::from(range);
            for difference in -span..=span {
                // One of the two is the smallest channel.
                let (next, previous) = (span.min(span - difference), span.min(span + difference));
                table[hue_index(range, difference)] = hue_of(sixth, next, previous, span);
            }
        }
        table
    });
    let saturation = |place: usize| {
        let (value, range) = ((place >> 8).max(1) as f32, (place & 255) as f32);
        let saturation = (f64::from(range / value) * 255.0) as u8;
        (f64::from(saturation) / 255.0) as f32
    };
    Tables {
        hues,
        saturations: (0..1 << 16).map(saturation).collect(),
    }
});

/// Place of a hue among those with the same largest channel: `difference`, within ± `range`,
/// is the next channel on the circle minus the previous one.
#[inline]
fn hue_index(range: u8, difference: i32) -> usize {
    let range = i32::from(range);
    (range * range + range + difference) as u16 as usize
}

/// The hue in 256ths of the circle. `sixth` is where the largest channel lies; `next` and
/// `previous` are how far the other two lie below it, the further one by `range`.
fn hue_of(sixth: f64, next: i32, previous: i32, range: i32) -> u8 {
    let share = |below: i32| f64::from(below as f32 / range as f32);
    let sixths = (sixth + share(previous) - share(next)) as f32;
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
