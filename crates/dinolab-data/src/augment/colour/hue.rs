//! Hue, through Pillow's 8-bit hue, saturation and value.
//!
//! Pillow mixes single and double precision and cuts to whole numbers on the way. Its results are
//! met exactly: the steps below are either exact, or checked for every argument there is.

use multiversion::multiversion;

use super::rounding::{byte, nearest, truncate_f64};
use crate::augment::planes::three_mut;

/// Pixels worked on together, so that every step is a loop of its own that becomes vectors.
const BLOCK: usize = 64;
/// More than single precision can be off by where it rounds a level: three roundings of factors up
/// to 1, times 255, and two of numbers below 256.
const DOUBT: f32 = 6e-5;

/// Turns the hue by `factor` of the colour circle (−0.5 to 0.5).
///
/// Goes through 8-bit hue, saturation and value, so that even 0 is not quite the identity.
pub fn hue(planes: &mut [u8], factor: f64) {
    // Cut towards zero, then wrapped: 256 steps around the circle.
    let shift = (factor * 255.0) as i32 as u8;
    let (red, green, blue) = three_mut(planes);
    turn(red, green, blue, shift);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn turn(red: &mut [u8], green: &mut [u8], blue: &mut [u8], shift: u8) {
    let (red, red_rest) = red.as_chunks_mut::<BLOCK>();
    let (green, green_rest) = green.as_chunks_mut::<BLOCK>();
    let (blue, blue_rest) = blue.as_chunks_mut::<BLOCK>();
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        turn_block(red, green, blue, shift);
    }
    let rest = red_rest.len();
    if rest > 0 {
        let pad = |from: &[u8]| {
            let mut block = [0; BLOCK];
            block[..rest].copy_from_slice(from);
            block
        };
        let (mut r, mut g, mut b) = (pad(red_rest), pad(green_rest), pad(blue_rest));
        turn_block(&mut r, &mut g, &mut b, shift);
        red_rest.copy_from_slice(&r[..rest]);
        green_rest.copy_from_slice(&g[..rest]);
        blue_rest.copy_from_slice(&b[..rest]);
    }
}

/// `⌊255 · share⌋` for a share in 0–1.
#[inline(always)]
fn in_255ths(share: f32) -> f32 {
    let near = nearest(share * 255.0);
    // 256 · share is exact, and so is what is left of it.
    if share * 256.0 - near < share {
        near - 1.0
    } else {
        near
    }
}

/// `level · factor / 255`, correctly rounded, for a level in 0–255 and a factor of 1 or 6.
#[inline(always)]
fn over_255(level: f32, factor: f32) -> f32 {
    // The product with the first part is exact.
    const FIRST: f32 = 257.0 / 65536.0;
    const REST: f32 = (1.0 / 255.0 - 257.0 / 65536.0) as f32;
    level * (factor * FIRST) + level * (factor * REST)
}

/// Hue and saturation in 255ths, and value. Greys have any hue.
#[inline(always)]
fn hsv(red: f32, green: f32, blue: f32) -> (f32, f32, f32) {
    let (more, less) = (red.max(green), red.min(green));
    let (value, least) = (more.max(blue), less.min(blue));
    let (range, middle) = (value - least, less.max(more.min(blue)));
    let (is_red, is_green) = (red == value, green == value);
    // Where the largest channel lies on the circle, and the channel after it.
    let sixth = if is_red {
        0.0
    } else {
        if is_green { 2.0 } else { 4.0 }
    };
    let next = if is_red {
        green
    } else {
        if is_green { blue } else { red }
    };
    // Of the two other channels one is the smallest, a whole range away: the hue is as far from the
    // neighbouring sixth as the middle one is from the largest.
    let share = (value - middle) / range.max(1.0);
    let sixths = if next == least {
        (sixth - 1.0) + share
    } else {
        (sixth + 1.0) - share
    };
    let turns = sixths / 6.0;
    let turns = if turns < 0.0 { turns + 1.0 } else { turns };
    // To be cut. The number is whole, or at least a 255th from whole ones: half of that keeps whole ones
    // from being rounded down, and others from being rounded up.
    const DOWN: f32 = 0.5 - 0.5 / 255.0;
    let saturation = nearest(range / value.max(1.0) * 255.0 - DOWN);
    (in_255ths(turns), saturation, value)
}

#[inline(always)]
fn turn_block(red: &mut [u8; BLOCK], green: &mut [u8; BLOCK], blue: &mut [u8; BLOCK], shift: u8) {
    let mut hues = [0f32; BLOCK];
    let mut saturations = [0f32; BLOCK];
    let mut values = [0f32; BLOCK];
    for i in 0..BLOCK {
        let (red, green, blue) = (f32::from(red[i]), f32::from(green[i]), f32::from(blue[i]));
        (hues[i], saturations[i], values[i]) = hsv(red, green, blue);
    }
    let mut places = [0u8; BLOCK];
    let mut fractions = [0f32; BLOCK];
    for i in 0..BLOCK {
        let hue = f32::from(byte(hues[i]).wrapping_add(shift));
        let sixths = over_255(hue, 6.0);
        // As in `hsv`: a multiple of 1/85.
        let sixth = nearest(sixths - (0.5 - 0.5 / 85.0));
        fractions[i] = sixths - sixth;
        places[i] = if sixth >= 6.0 { 0 } else { byte(sixth) };
    }
    let mut low = [0u8; BLOCK];
    let mut falling = [0u8; BLOCK];
    let mut rising = [0u8; BLOCK];
    // Single precision is off by less than `DOUBT` and decides wherever no rounding edge is as
    // near. There is none near `low`: it is a multiple of 1/255, which halves are not.
    let mut farthest = 0;
    for i in 0..BLOCK {
        let (top, saturation, fraction) = (values[i], over_255(saturations[i], 1.0), fractions[i]);
        let mut level = |share: f32| {
            let exact = top * share;
            let whole = nearest(exact);
            // Distances above 0 are in the order of their bits.
            farthest = farthest.max((exact - whole).abs().to_bits());
            byte(whole)
        };
        falling[i] = level(1.0 - saturation * fraction);
        rising[i] = level(1.0 - saturation * (1.0 - fraction));
        low[i] = byte(nearest(top * (1.0 - saturation)));
    }
    if farthest > (0.5 - DOUBT).to_bits() {
        for i in 0..BLOCK {
            let top = f64::from(values[i]);
            let saturation = f64::from(over_255(saturations[i], 1.0));
            let fraction = f64::from(fractions[i]);
            let level = |share: f64| truncate_f64(top * share + 0.5);
            falling[i] = level(1.0 - saturation * fraction);
            rising[i] = level(1.0 - saturation * (1.0 - fraction));
        }
    }
    for i in 0..BLOCK {
        let (value, place) = (byte(values[i]), places[i]);
        let (low, falling, rising) = (low[i], falling[i], rising[i]);
        let pick = |of: [u8; 6]| {
            let early = if place == 0 {
                of[0]
            } else {
                if place == 1 { of[1] } else { of[2] }
            };
            let late = if place == 3 {
                of[3]
            } else {
                if place == 4 { of[4] } else { of[5] }
            };
            if place < 3 { early } else { late }
        };
        red[i] = pick([value, falling, low, low, rising, value]);
        green[i] = pick([rising, value, value, falling, low, low]);
        blue[i] = pick([low, low, rising, value, value, falling]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pillow's steps in its own mixture of precisions.
    fn pillow_hsv([red, green, blue]: [u8; 3]) -> (u8, u8, u8) {
        let (value, least) = (red.max(green).max(blue), red.min(green).min(blue));
        if value == least {
            return (0, 0, value);
        }
        let range = f32::from(value - least);
        let saturation = range / f32::from(value);
        let below = |channel: u8| f64::from(f32::from(value - channel) / range);
        let sixths = if red == value {
            below(blue) - below(green)
        } else if green == value {
            2.0 + below(red) - below(blue)
        } else {
            4.0 + below(green) - below(red)
        } as f32;
        let turns = (f64::from(sixths) / 6.0 + 1.0).rem_euclid(1.0) as f32;
        let byte = |share: f32| (f64::from(share) * 255.0) as u8;
        (byte(turns), byte(saturation), value)
    }

    fn pillow_rgb((hue, saturation, value): (u8, u8, u8)) -> [u8; 3] {
        if saturation == 0 {
            return [value; 3];
        }
        let saturation = f64::from((f64::from(saturation) / 255.0) as f32);
        let sixths = (f64::from(hue) * 6.0 / 255.0) as f32;
        let fraction = f64::from(sixths - sixths.floor());
        let level = |share: f64| (f64::from(value) * share).round() as u8;
        let low = level(1.0 - saturation);
        let falling = level(1.0 - saturation * fraction);
        let rising = level(1.0 - saturation * (1.0 - fraction));
        match sixths as u8 % 6 {
            0 => [value, rising, low],
            1 => [falling, value, low],
            2 => [low, value, rising],
            3 => [low, falling, value],
            4 => [rising, low, value],
            _ => [value, low, falling],
        }
    }

    #[test]
    fn divides_by_255_as_a_division_does() {
        for level in 0..=255u8 {
            let level = f32::from(level);
            assert_eq!(over_255(level, 1.0), level / 255.0);
            assert_eq!(over_255(level, 6.0), level * 6.0 / 255.0);
        }
    }

    #[test]
    fn a_third_of_the_circle_turns_red_into_green() {
        let mut planes = [200, 50, 0, 50, 0, 50];
        hue(&mut planes, 1.0 / 3.0);
        assert_eq!(planes, [0, 50, 200, 50, 0, 50]);
    }

    #[test]
    fn every_hue_and_saturation_is_pillows() {
        // Hue depends on the range and the middle channel only, saturation on range and value:
        // the smallest channel at 0 gives all hues, grey and one other channel all saturations.
        for range in 0..=255u8 {
            for middle in 0..=range {
                for pixel in [
                    [range, middle, 0],
                    [middle, range, 0],
                    [0, range, middle],
                    [0, middle, range],
                    [middle, 0, range],
                    [range, 0, middle],
                ] {
                    let (h, s, v) = hsv(pixel[0].into(), pixel[1].into(), pixel[2].into());
                    let expected = pillow_hsv(pixel);
                    // A grey has any hue.
                    let h = if s == 0.0 { 0.0 } else { h };
                    assert_eq!((h as u8, s as u8, v as u8), expected, "{pixel:?}");
                }
            }
            for least in 0..=range {
                let (_, s, _) = hsv(range.into(), least.into(), least.into());
                assert_eq!(s as u8, pillow_hsv([range, least, least]).1);
            }
        }
    }

    #[test]
    fn every_way_back_is_pillows() {
        // All hues and values at a sweep of saturations, by colours that have them.
        for shift in (0..=255u8).step_by(5) {
            let mut pixels = Vec::new();
            for value in (0..=255u8).step_by(3) {
                for least in (0..=value).step_by(7) {
                    pixels.push([value, least, least]);
                    pixels.push([
                        least,
                        value,
                        (u16::from(value).midpoint(least.into())) as u8,
                    ]);
                }
            }
            let plane = |c: usize| pixels.iter().map(move |p: &[u8; 3]| p[c]);
            let mut planes: Vec<u8> = (0..3).flat_map(plane).collect();
            let (red, green, blue) = three_mut(&mut planes);
            turn(red, green, blue, shift);
            for (i, pixel) in pixels.iter().enumerate() {
                let (h, s, v) = pillow_hsv(*pixel);
                let expected = pillow_rgb((h.wrapping_add(shift), s, v));
                let found = [0, 1, 2].map(|c| planes[c * pixels.len() + i]);
                assert_eq!(found, expected, "{pixel:?} by {shift}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_image_of_any_size(
            image in proptest::collection::vec(any::<[u8; 3]>(), 1..300), shift: u8
        ) {
            let plane = |c: usize| image.iter().map(move |p| p[c]);
            let mut planes: Vec<u8> = (0..3).flat_map(plane).collect();
            let (red, green, blue) = three_mut(&mut planes);
            turn(red, green, blue, shift);
            for (i, pixel) in image.iter().enumerate() {
                let (h, s, v) = pillow_hsv(*pixel);
                let expected = pillow_rgb((h.wrapping_add(shift), s, v));
                let found = [0, 1, 2].map(|c| planes[c * image.len() + i]);
                prop_assert_eq!(found, expected);
            }
        }
    }
}
