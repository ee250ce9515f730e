//! Rounding and truncation to whole numbers, by arithmetic that every processor has as vectors. A plain
//! conversion also has to mind NaN and numbers out of range, and becomes one value at a time.

/// Numbers of single precision are whole from 2²³ to 2²⁴, of which this is the middle.
const WHOLE: f32 = 1.5 * 8_388_608.0;
/// From here on, numbers of double precision are whole.
const WHOLE_WIDE: f64 = 4_503_599_627_370_496.0;

/// The nearest whole number, for `x` in `-2²²..2²²`; of two, the even one.
#[inline(always)]
pub(super) fn nearest(x: f32) -> f32 {
    (x + WHOLE) - WHOLE
}

/// `⌊x⌋` for `x` in `0..256`.
#[inline(always)]
pub(super) fn truncate(x: f32) -> u8 {
    let near = x + WHOLE;
    let less = if near - WHOLE > x { near - 1.0 } else { near };
    less.to_bits() as u8
}

/// A whole number in 0–255 as such.
#[inline(always)]
pub(super) fn byte(whole: f32) -> u8 {
    // It then stands in the lowest bits.
    (whole + WHOLE).to_bits() as u8
}

/// `⌊x⌋` for `x` in `0..256`.
#[inline(always)]
pub(super) fn truncate_f64(x: f64) -> u8 {
    let near = x + WHOLE_WIDE;
    let less = if near - WHOLE_WIDE > x {
        near - 1.0
    } else {
        near
    };
    less.to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncates_as_a_conversion_does() {
        for i in 0..256 * 64 {
            let x = i as f32 / 64.0;
            for x in [x, x.next_up(), x.next_down().max(0.0)] {
                assert_eq!(truncate(x), x as u8, "{x}");
                assert_eq!(byte(x.trunc()), x as u8, "{x}");
                assert_eq!(nearest(x), x.round_ties_even(), "{x}");
                assert_eq!(nearest(-x), -x.round_ties_even(), "{x}");
            }
            let x = f64::from(x);
            for x in [x, x.next_up(), x.next_down().max(0.0)] {
                assert_eq!(truncate_f64(x), x as u8, "{x}");
            }
        }
    }
}
