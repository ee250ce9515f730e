//! Bilinear interpolation with half-pixel centres and repeated edges, without antialiasing, as
//! PyTorch (`align_corners` off) and OpenCV do it.

/// Returns for each of `to` target places the two of `from` source places it lies between and the
/// weight of the second.
pub fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    (0..to)
        .map(|i| {
            let at = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
            let at = at.clamp(0.0, (from - 1) as f64);
            let first = at.floor() as usize;
            let second = (first + 1).min(from - 1);
            (first, second, (at - first as f64) as f32)
        })
        .collect()
}

/// Enlarges a map of `from` = (height, width) values, at least one, to `to`.
pub fn enlarge(values: &[f32], from: (usize, usize), to: (usize, usize)) -> Vec<f32> {
    let columns = taps(from.1, to.1);
    let mut out = Vec::with_capacity(to.0 * to.1);
    for (top, bottom, down) in taps(from.0, to.0) {
        for &(left, right, across) in &columns {
            let row = |y: usize| {
                let row = &values[y * from.1..][..from.1];
                row[left] + across * (row[right] - row[left])
            };
            let (above, below) = (row(top), row(bottom));
            out.push(above + down * (below - above));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enlarges_by_hand() {
        let values = [0.0, 1.0, 2.0, 3.0];
        let large = enlarge(&values, (2, 2), (4, 4));
        assert_eq!(large[..4], [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(large[4..8], [0.5, 0.75, 1.25, 1.5]);
        assert_eq!(large[15], 3.0);
        assert_eq!(enlarge(&values, (2, 2), (2, 2)), values);
        assert_eq!(enlarge(&[7.0], (1, 1), (2, 1)), [7.0; 2]);
    }
}
