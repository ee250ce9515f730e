//! Conversion between interleaved pixels and planes.
//!
//! Decoding and resizing work on interleaved pixels `[H, W, 3]`; everything after them on planes
//! `[3, H, W]`, where one vector instruction serves many neighbours alike.

use multiversion::multiversion;

/// Splits interleaved RGB rows of `width` pixels into planes `[3, H, W]`, each row mirrored where
/// `flip`. What is no whole row is left out.
pub fn split(pixels: &[u8], width: usize, flip: bool, planes: &mut Vec<u8>) {
    let rows = pixels.len().checked_div(width * 3).unwrap_or(0);
    let plane = rows * width;
    planes.resize(3 * plane, 0);
    if plane == 0 {
        return;
    }
    let (red, green, blue) = three_mut(planes);
    if !flip {
        deal(pixels, red, green, blue);
        return;
    }
    let rows = pixels
        .chunks_exact(width * 3)
        .zip(red.chunks_exact_mut(width))
        .zip(
            green
                .chunks_exact_mut(width)
                .zip(blue.chunks_exact_mut(width)),
        );
    for ((row, red), (green, blue)) in rows {
        deal_mirrored(row, red, green, blue);
    }
}

/// Puts planes `[3, H, W]` together to interleaved pixels.
pub fn join(planes: &[u8]) -> Vec<u8> {
    let mut pixels = Vec::new();
    join_into(planes, &mut pixels);
    pixels
}

/// [`join`] into a buffer that is used again.
pub fn join_into(planes: &[u8], pixels: &mut Vec<u8>) {
    let (red, green, blue) = three(planes);
    pixels.resize(3 * red.len(), 0);
    mix(red, green, blue, pixels);
}

/// The three planes; a remainder is left out.
pub(super) fn three(planes: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let plane = planes.len() / 3;
    let (red, rest) = planes.split_at(plane);
    let (green, rest) = rest.split_at(plane);
    (red, green, &rest[..plane])
}

/// The three planes; a remainder is left out.
pub(super) fn three_mut(planes: &mut [u8]) -> (&mut [u8], &mut [u8], &mut [u8]) {
    let plane = planes.len() / 3;
    let (red, rest) = planes.split_at_mut(plane);
    let (green, rest) = rest.split_at_mut(plane);
    (red, green, &mut rest[..plane])
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn deal(pixels: &[u8], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
    let (pixels, _) = pixels.as_chunks::<3>();
    for (((pixel, red), green), blue) in pixels.iter().zip(red).zip(green).zip(blue) {
        [*red, *green, *blue] = *pixel;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn deal_mirrored(row: &[u8], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
    let (row, _) = row.as_chunks::<3>();
    for (((pixel, red), green), blue) in row.iter().rev().zip(red).zip(green).zip(blue) {
        [*red, *green, *blue] = *pixel;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn mix(red: &[u8], green: &[u8], blue: &[u8], pixels: &mut [u8]) {
    let (pixels, _) = pixels.as_chunks_mut::<3>();
    for (((pixel, red), green), blue) in pixels.iter_mut().zip(red).zip(green).zip(blue) {
        *pixel = [*red, *green, *blue];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mirrors_pixels_not_channels() {
        let pixels = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let mut planes = Vec::new();
        split(&pixels, 2, true, &mut planes);
        assert_eq!(planes, [4, 1, 10, 7, 5, 2, 11, 8, 6, 3, 12, 9]);
        split(&pixels, 0, true, &mut planes);
        assert!(planes.is_empty());
    }

    proptest! {
        #[test]
        fn joining_undoes_splitting(width in 1usize..40, height in 0usize..5, seed: u8) {
            let pixels: Vec<u8> = (0..width * height * 3).map(|i| (i as u8).wrapping_mul(seed | 1)).collect();
            let mut planes = Vec::new();
            split(&pixels, width, false, &mut planes);
            prop_assert_eq!(&join(&planes), &pixels);
            // Mirrored twice is as before.
            split(&pixels, width, true, &mut planes);
            let mirrored = join(&planes);
            split(&mirrored, width, true, &mut planes);
            prop_assert_eq!(join(&planes), pixels);
        }
    }
}
