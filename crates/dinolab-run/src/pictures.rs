//! Pictures of attention.

use std::path::Path;

use dinolab_data::Image;
use dinolab_eval::network::AttentionMaps;
use dinolab_view::{AttentionRow, Rgb, enlarge_map, write_png};

use crate::error::Result;

/// The ground of sheets.
pub use dinolab_view::PAPER;

/// An image as a picture; one that is not 8-bit RGB in false colours.
///
/// # Errors
/// None for an image that was decoded.
pub fn rgb(image: &Image) -> Result<Rgb> {
    Ok(Rgb::from_image(image)?)
}

/// A map of patches brought to the size of its image, from 0 (least) to 1 (most).
///
/// # Errors
/// Maps of other lengths than their grid, or with values that are not finite.
pub fn enlarged(map: &[f32], maps: &AttentionMaps, size: (usize, usize)) -> Result<Vec<f32>> {
    Ok(enlarge_map(map, maps.grid, size)?)
}

/// One row per image: the image, the mean over heads laid over it, each head's map.
///
/// # Errors
/// A file that cannot be written.
pub fn attention_sheet(rows: &[AttentionMaps], path: &Path) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let means: Vec<Vec<f32>> = rows.iter().map(AttentionMaps::mean).collect();
    let rows: Vec<AttentionRow<'_>> = rows
        .iter()
        .zip(&means)
        .map(|(row, mean)| AttentionRow {
            image: &row.image,
            grid: row.grid,
            heads: &row.maps,
            mean,
        })
        .collect();
    Ok(write_png(path, &dinolab_view::attention_sheet(&rows)?)?)
}
