//! Mirroring.

/// Mirrors every row of an interleaved RGB image, left to right.
///
/// `pixels` holds rows of `width × 3` values; nothing happens for a width of 0.
pub fn horizontal(pixels: &mut [u8], width: usize) {
    if width == 0 {
        return;
    }
    for row in pixels.chunks_exact_mut(width * 3) {
        let (row, _) = row.as_chunks_mut::<3>();
        row.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_pixels_not_channels() {
        let mut pixels = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        horizontal(&mut pixels, 2);
        assert_eq!(pixels, [4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9]);
        horizontal(&mut pixels, 0);
        assert_eq!(pixels[0], 4);
    }
}
