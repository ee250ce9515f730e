//! Pictures of attention.

use std::path::Path;

use dinolab_data::Image;
use dinolab_eval::features::AttentionMaps;
use dinolab_eval::picture::{
    ColourMap, Filter, Rgb, contact_sheet, heat_map, overlay, resize_map, stretch, write_png,
};

use crate::error::Result;

/// Side of a tile in sheets, in pixels.
const TILE: usize = 128;
/// The ground of sheets.
pub const PAPER: [u8; 3] = [255, 255, 255];

/// An image as a picture; one that is not 8-bit RGB in false colours.
///
/// Its first three channels are shown as red, green and blue (of fewer than three, the first as
/// grey), each stretched from its 2nd to its 98th percentile.
///
/// # Errors
/// None for an image that was decoded.
pub fn rgb(image: &Image) -> Result<Rgb> {
    if !image.is_rgb() {
        return Ok(Rgb::new(image.width, image.height, false_colours(image))?);
    }
    Ok(Rgb::new(image.width, image.height, image.data.clone())?)
}

fn false_colours(image: &Image) -> Vec<u8> {
    let shown = [0, 1, 2].map(|c| if image.channels < 3 { 0 } else { c });
    let planes = shown.map(|channel| {
        let plane = image.plane(channel);
        let mut sorted = plane.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let at = |share: usize| sorted[(sorted.len() - 1) * share / 100];
        let (low, high) = (at(2), at(98));
        let scale = 255.0 / (high - low).max(f32::MIN_POSITIVE);
        plane
            .iter()
            .map(|v| ((v - low) * scale).clamp(0.0, 255.0).round() as u8)
            .collect::<Vec<u8>>()
    });
    let [red, green, blue] = &planes;
    let pixels = red.iter().zip(green).zip(blue);
    pixels.flat_map(|((r, g), b)| [*r, *g, *b]).collect()
}

/// A map of patches brought to the size of its image, from 0 (least) to 1 (most).
///
/// # Errors
/// Maps of other lengths than their grid, or with values that are not finite.
pub fn enlarged(map: &[f32], maps: &AttentionMaps, size: (usize, usize)) -> Result<Vec<f32>> {
    Ok(resize_map(
        &stretch(map)?,
        maps.grid,
        size,
        Filter::Bilinear,
    )?)
}

/// One row per image: the image, the mean over heads laid over it, each head's map.
///
/// # Errors
/// A file that cannot be written.
pub fn attention_sheet(rows: &[AttentionMaps], path: &Path) -> Result<()> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let columns = 2 + first.heads;
    let mut tiles = Vec::with_capacity(rows.len() * columns);
    for row in rows {
        let (height, width) = tile_size(&row.image);
        let small = dinolab_data::augment::eval::resize(
            &row.image,
            width,
            height,
            dinolab_data::augment::resize::Filter::Bicubic,
        )?;
        let picture = rgb(&small)?;
        let mean = enlarged(&row.mean(), row, (height, width))?;
        tiles.push(picture.clone());
        tiles.push(overlay(&picture, &mean, ColourMap::default(), 0.6)?);
        for head in row.maps.chunks_exact(row.grid.0 * row.grid.1) {
            let map = enlarged(head, row, (height, width))?;
            tiles.push(heat_map(&map, (height, width), ColourMap::default())?);
        }
    }
    Ok(write_png(path, &contact_sheet(&tiles, columns, 4, PAPER)?)?)
}

/// Rows and columns of an image's tile.
fn tile_size(image: &Image) -> (usize, usize) {
    let longest = image.width.max(image.height);
    let side = |length: usize| (length * TILE / longest).max(1);
    (side(image.height), side(image.width))
}
