//! Cutting numbers to whole ones, by arithmetic that every processor has as vectors. A plain
//! conversion also has to mind NaN and numbers out of range, and becomes one value at a time.

/// From here on, numbers of single precision are whole.
const WHOLE: f32 = 8_388_608.0;
/// From here on, numbers of double precision are whole.
const WHOLE_WIDE: f64 = 4_503_599_627_370_496.0;

/// `⌊x⌋` for `x` in `0..2²²`.
#[inline(always)]
pub(super) fn cut(x: f32) -> f32 {
    let near = (x + WHOLE) - WHOLE;
    if near > x { near - 1.0 } else { near }
}

/// A whole number in 0–255 as such.
#[inline(always)]
pub(super) fn byte(whole: f32) -> u8 {
    // It then stands in the lowest bits.
    (whole + WHOLE).to_bits() as u8
}

/// `⌊x⌋` for `x` in `0..256`.
#[inline(always)]
pub(super) fn cut_wide(x: f64) -> u8 {
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
    fn cuts_as_a_conversion_does() {
        for i in 0..256 * 64 {
            let x = i as f32 / 64.0;
            for x in [x, x.next_up(), x.next_down().max(0.0)] {
                assert_eq!(cut(x), x.trunc(), "{x}");
                if x < 256.0 {
                    assert_eq!(byte(cut(x)), x as u8, "{x}");
                }
            }
            let x = f64::from(x);
            for x in [x, x.next_up(), x.next_down().max(0.0)] {
                assert_eq!(cut_wide(x), x as u8, "{x}");
            }
        }
    }
}
