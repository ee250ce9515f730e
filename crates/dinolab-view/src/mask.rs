//! Segmentation masks on pictures.

use dinolab_data::slice::check_length;

use crate::Result;
use crate::picture::{Rgb, blend};

/// Tints the pixels of `mask` (one per pixel of `picture`) with opacity `alpha` (0–1) and
/// draws their outline, `outline` pixels wide and inside the mask, in opaque colour.
///
/// # Errors
/// [`Error::Slice`](crate::Error::Slice) for a mask of another size than the picture.
pub fn draw_mask(
    picture: &Rgb,
    mask: &[bool],
    colour: [u8; 3],
    alpha: f32,
    outline: usize,
) -> Result<Rgb> {
    let (w, h) = (picture.width, picture.height);
    check_length("mask", w * h, mask.len())?;
    let mut out = picture.clone();
    let mut inner = mask.to_vec();
    for _ in 0..outline {
        inner = eroded(&inner, w, h);
    }
    for ((pixel, &inside), &inner) in out.data.chunks_exact_mut(3).zip(mask).zip(&inner) {
        if inside {
            blend(pixel, colour, if inner { alpha } else { 1.0 });
        }
    }
    Ok(out)
}

/// Returns the pixels of a mask whose four neighbours are in it as well. The edge of the picture
/// does not count as an outline.
fn eroded(mask: &[bool], w: usize, h: usize) -> Vec<bool> {
    let mut out = mask.to_vec();
    for y in 0..h {
        for x in 0..w {
            let i = y * w + x;
            out[i] = mask[i]
                && (x == 0 || mask[i - 1])
                && (x + 1 == w || mask[i + 1])
                && (y == 0 || mask[i - w])
                && (y + 1 == h || mask[i + w]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_an_outline_inside() {
        // A 3 × 3 block in 5 × 5: its middle is tinted, its rim full.
        let mask: Vec<bool> = (0..25)
            .map(|i| (1..4).contains(&(i % 5)) && (1..4).contains(&(i / 5)))
            .collect();
        let black = Rgb::filled(5, 5, [0; 3]);
        let out = draw_mask(&black, &mask, [200, 100, 0], 0.5, 1).unwrap();
        assert_eq!(out.pixel(0, 0), [0, 0, 0]);
        assert_eq!(out.pixel(1, 1), [200, 100, 0]);
        assert_eq!(out.pixel(2, 1), [200, 100, 0]);
        assert_eq!(out.pixel(2, 2), [100, 50, 0]);
        let plain = draw_mask(&black, &mask, [200, 100, 0], 0.5, 0).unwrap();
        assert_eq!(plain.pixel(1, 1), [100, 50, 0]);
    }
}
