//! Changes of brightness and contrast channel by channel, and solarisation.

/// The mean of a channel, summed in double precision.
fn mean(plane: &[f32]) -> f32 {
    let sum: f64 = plane.iter().map(|&v| f64::from(v)).sum();
    (sum / plane.len().max(1) as f64) as f32
}

/// `from + factor · (value − from)`, cut to 0–1.
fn blend(plane: &mut [f32], from: f32, factor: f32) {
    for value in plane {
        *value = (from + factor * (*value - from)).clamp(0.0, 1.0);
    }
}

/// Scales all values of channel `c` by `factors[c]`; planes `[C, H, W]`.
pub fn brightness(planes: &mut [f32], factors: &[f32]) {
    let plane = (planes.len() / factors.len().max(1)).max(1);
    for (plane, &factor) in planes.chunks_exact_mut(plane).zip(factors) {
        blend(plane, 0.0, factor);
    }
}

/// Scales the distance of the values of channel `c` from that channel's own mean by `factors[c]`;
/// planes `[C, H, W]`.
pub fn contrast(planes: &mut [f32], factors: &[f32]) {
    let plane = (planes.len() / factors.len().max(1)).max(1);
    for (plane, &factor) in planes.chunks_exact_mut(plane).zip(factors) {
        let mean = mean(plane);
        blend(plane, mean, factor);
    }
}

/// Inverts the values that are at or above `threshold`, all in 0–1.
pub fn solarise(planes: &mut [f32], threshold: f32) {
    for value in planes {
        if *value >= threshold {
            *value = 1.0 - *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_by_itself() {
        let planes = [0.2, 0.4, 0.5, 0.9];
        let mut brighter = planes;
        brightness(&mut brighter, &[2.0, 1.0]);
        assert_eq!(brighter, [0.4, 0.8, 0.5, 0.9]);
        let mut flatter = planes;
        contrast(&mut flatter, &[1.0, 0.0]);
        assert_eq!(flatter[2], flatter[3]);
        assert!((flatter[2] - 0.7).abs() < 1e-6);
        assert!((flatter[0] - 0.2).abs() < 1e-6 && (flatter[1] - 0.4).abs() < 1e-6);
        let mut cut = planes;
        brightness(&mut cut, &[10.0, 10.0]);
        assert_eq!(cut, [1.0; 4]);
        contrast(&mut [], &[1.0]);
    }

    #[test]
    fn the_threshold_is_half_of_the_range_at_any_depth() {
        let mut values = [
            127.0 / 255.0,
            128.0 / 255.0,
            32767.0 / 65535.0,
            32768.0 / 65535.0,
        ];
        let before = values;
        solarise(&mut values, 128.0 / 256.0);
        assert_eq!(values[0], before[0]);
        assert_eq!(values[1], 1.0 - before[1]);
        assert_eq!(values[2], before[2]);
        assert_eq!(values[3], 1.0 - before[3]);
    }
}
