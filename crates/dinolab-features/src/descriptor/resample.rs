//! Bilinear resampling by a scale factor, as PyTorch does it.

/// Resizes planes `[C, h, w]` by `scale`, rounding the size down: bilinear between pixel centres and
/// not antialiased, as PyTorch's `interpolate` with a `scale_factor`.
pub(super) fn resample(
    planes: &[f32],
    (height, width): (usize, usize),
    scale: f64,
) -> (Vec<f32>, (usize, usize)) {
    if scale == 1.0 {
        return (planes.to_vec(), (height, width));
    }
    let size = (
        (height as f64 * scale) as usize,
        (width as f64 * scale) as usize,
    );
    let taps = |from: usize, to: usize| -> Vec<(usize, usize, f32)> {
        (0..to)
            .map(|i| {
                let at = ((i as f64 + 0.5) / scale - 0.5).max(0.0);
                let first = (at as usize).min(from - 1);
                let second = (first + 1).min(from - 1);
                (first, second, (at - first as f64) as f32)
            })
            .collect()
    };
    let (rows, columns) = (taps(height, size.0), taps(width, size.1));
    let mut out = Vec::with_capacity(planes.len() / (height * width) * size.0 * size.1);
    for plane in planes.chunks_exact(height * width) {
        for &(above, below, v) in &rows {
            let (above, below) = (
                &plane[above * width..][..width],
                &plane[below * width..][..width],
            );
            for &(left, right, u) in &columns {
                let across = |row: &[f32]| (1.0 - u) * row[left] + u * row[right];
                out.push((1.0 - v) * across(above) + v * across(below));
            }
        }
    }
    (out, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resamples_as_pytorch() {
        // torch.nn.functional.interpolate of (7 i mod 11), 5 × 7, by scale_factor.
        let plane: Vec<f32> = (0..35).map(|i| (i * 7 % 11) as f32).collect();
        for (scale, size, expected) in EXPECTED {
            let (found, found_size) = resample(&plane, (5, 7), scale);
            assert_eq!(found_size, size);
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 2e-5, "{found:?}");
            }
        }
        assert_eq!(resample(&plane, (5, 7), 1.0).0, plane);
    }

    const EXPECTED: [(f64, (usize, usize), &[f32]); 2] = [
        (std::f64::consts::FRAC_1_SQRT_2, (3, 4), &ROOT),
        (0.5, (2, 3), &HALF),
    ];
    const ROOT: [f32; 12] = [
        2.01346, 4.68755, 8.61522, 3.98297, 7.27817, 4.20942, 6.96447, 3.18102, 3.34924, 4.28405,
        3.41252, 7.98781,
    ];
    const HALF: [f32; 6] = [3.25000, 6.25000, 3.75000, 5.00000, 5.25000, 5.50000];
}
