//! Numbers from the bytes that files hold.

use crate::simd::multiversioned;

/// What takes the exponent of a half, moved to its place in a float, to that of a float: `2^112`.
const REBIAS: f32 = f32::from_bits(0x7780_0000);

multiversioned! {
    /// Appends the floats that `bytes`, little-endian, hold. Bytes left over are ignored.
    pub fn append_f32(bytes: &[u8], values: &mut Vec<f32>) {
        let (chunks, _) = bytes.as_chunks::<4>();
        let first = values.len();
        values.resize(first + chunks.len(), 0.0);
        for (value, &chunk) in values[first..].iter_mut().zip(chunks) {
            *value = f32::from_le_bytes(chunk);
        }
    }

    /// As [`append_f32`], of numbers of 16 bits (IEEE 754 binary16), exactly.
    pub fn append_f16(bytes: &[u8], values: &mut Vec<f32>) {
        let (chunks, _) = bytes.as_chunks::<2>();
        let first = values.len();
        values.resize(first + chunks.len(), 0.0);
        for (value, &chunk) in values[first..].iter_mut().zip(chunks) {
            let bits = u32::from(u16::from_le_bytes(chunk));
            let magnitude = (bits & 0x7fff) << 13;
            let finite = (f32::from_bits(magnitude) * REBIAS).to_bits();
            // Infinite, or no number.
            let magnitude = if magnitude >= 0x0f80_0000 { magnitude | 0x7f80_0000 } else { finite };
            *value = f32::from_bits(magnitude | (bits & 0x8000) << 16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition of the format, in double precision.
    fn half(bits: u16) -> f64 {
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
        let magnitude = match exponent {
            0 => fraction * 2f64.powi(-24),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
        };
        if bits >> 15 == 1 {
            -magnitude
        } else {
            magnitude
        }
    }

    #[test]
    fn every_half_is_exact() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut values = vec![7.0];
        append_f16(&bytes, &mut values);
        assert_eq!((values.len(), values[0]), (65537, 7.0));
        for (bits, &value) in (0..=u16::MAX).zip(&values[1..]) {
            let expected = half(bits);
            let same = f64::from(value) == expected || value.is_nan() && expected.is_nan();
            assert!(
                same && value.is_sign_negative() == (bits >> 15 == 1),
                "{bits:#x}: {value}"
            );
        }
    }

    #[test]
    fn floats_at_any_place_and_of_any_number() {
        for count in [0, 1, 15, 33] {
            let expected: Vec<f32> = (0..count).map(|i| i as f32 * -0.3).collect();
            let mut bytes = vec![1];
            bytes.extend(expected.iter().flat_map(|value| value.to_le_bytes()));
            bytes.push(9);
            let mut values = Vec::new();
            append_f32(&bytes[1..], &mut values);
            assert_eq!(values, expected);
        }
    }
}
