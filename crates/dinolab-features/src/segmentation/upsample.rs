//! From logits of patches to classes of pixels.

use dinolab_data::Size;
use dinolab_data::augment::bilinear::taps;
use dinolab_data::slice::check_length;
use rayon::prelude::*;

use crate::{Error, Result};

/// Enlarges logits `[h · w, classes]` of a grid (h, w) bilinearly to `size` and
/// returns the class with the greatest logit per pixel, the lowest of equals: `[height · width]`.
///
/// # Errors
/// A length that does not match, no class or more than 255.
pub fn class_map(
    logits: &[f32],
    grid: (usize, usize),
    classes: usize,
    size: Size,
) -> Result<Vec<u8>> {
    if !(1..=255).contains(&classes) {
        return Err(Error::invalid(
            "classes",
            format!("{classes}, not 1 to 255"),
        ));
    }
    check_length("logits", grid.0 * grid.1 * classes, logits.len())?;
    if logits.is_empty() {
        return Err(Error::invalid("logits", "must not be empty"));
    }
    let (rows, columns) = (taps(grid.0, size.height), taps(grid.1, size.width));
    let line = grid.1 * classes;
    let map = rows
        .par_iter()
        .flat_map_iter(|&(top, bottom, down)| {
            let blend = |a: f32, b: f32, share: f32| a + (b - a) * share;
            let (top, bottom) = (
                &logits[top * line..][..line],
                &logits[bottom * line..][..line],
            );
            let row: Vec<f32> = top
                .iter()
                .zip(bottom)
                .map(|(&a, &b)| blend(a, b, down))
                .collect();
            columns
                .iter()
                .map(|&(left, right, across)| {
                    let mut best = (0u8, f32::NEG_INFINITY);
                    for k in 0..classes {
                        let (a, b) = (row[left * classes + k], row[right * classes + k]);
                        let value = blend(a, b, across);
                        if value > best.1 {
                            best = (k as u8, value);
                        }
                    }
                    best.0
                })
                .collect::<Vec<u8>>()
        })
        .collect();
    Ok(map)
}
