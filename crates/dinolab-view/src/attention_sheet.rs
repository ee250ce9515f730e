//! A contact sheet of attention maps.

use dinolab_data::augment::{eval, resize};
use dinolab_data::{Image, Size};

use crate::colour_map::ColourMap;
use crate::contact_sheet::contact_sheet;
use crate::heat_map::{enlarge_map, heat_map, overlay};
use crate::picture::Rgb;
use crate::{PAPER, Result};

/// Longer side of a tile, in pixels.
const TILE: usize = 128;
const PADDING: usize = 4;
/// Opacity of the mean map on the image.
const OPACITY: f32 = 0.6;

/// The attention of one image.
#[derive(Clone, Copy, Debug)]
pub struct AttentionRow<'a> {
    /// The image as the network saw it.
    pub image: &'a Image,
    /// Rows and columns of patches, (h, w).
    pub grid: (usize, usize),
    /// One map per head, `[H, h, w]`; the same number of heads in every row.
    pub heads: &'a [f32],
    /// The mean over the heads, `[h, w]`.
    pub mean: &'a [f32],
}

/// Draws one row per image: the image, the mean map overlaid on it, and the map of each head.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) without rows or with an empty grid,
/// [`Error::Slice`](crate::Error::Slice) for maps that do not match the grid or are not finite.
pub fn attention_sheet(rows: &[AttentionRow<'_>]) -> Result<Rgb> {
    let patches = |row: &AttentionRow<'_>| (row.grid.0 * row.grid.1).max(1);
    let heads = rows.first().map_or(0, |row| row.heads.len() / patches(row));
    let columns = 2 + heads;
    let mut tiles = Vec::with_capacity(rows.len() * columns);
    for row in rows {
        let size = tile_size(row.image);
        let small = eval::resize(row.image, size.width, size.height, resize::Filter::Bicubic)?;
        let picture = Rgb::from_image(&small)?;
        let mean = enlarge_map(row.mean, row.grid, size)?;
        tiles.push(picture.clone());
        tiles.push(overlay(&picture, &mean, ColourMap::default(), OPACITY)?);
        for head in row.heads.chunks(patches(row)) {
            let map = enlarge_map(head, row.grid, size)?;
            tiles.push(heat_map(&map, size, ColourMap::default())?);
        }
    }
    contact_sheet(&tiles, columns, PADDING, PAPER)
}

/// Size of an image's tile.
fn tile_size(image: &Image) -> Size {
    let longest = image.size().longest().max(1);
    image.size().map(|side| (side * TILE / longest).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_per_image() {
        let image = Image::new(64, 32, 3);
        let row = AttentionRow {
            image: &image,
            grid: (1, 2),
            heads: &[0.0, 1.0, 1.0, 0.0, 0.5, 0.5],
            mean: &[0.5, 0.5],
        };
        let sheet = attention_sheet(&[row, row]).unwrap();
        // Five tiles of 128 × 64 in each row.
        assert_eq!(sheet.width, 5 * (TILE + PADDING) + PADDING);
        assert_eq!(sheet.height, 2 * (TILE / 2 + PADDING) + PADDING);
        // The first head rises from left to right, the second falls.
        let at = |tile: usize, x: usize| sheet.pixel(PADDING + tile * (TILE + PADDING) + x, 8);
        assert_eq!(at(2, 0), ColourMap::default().colour(0.0));
        assert_eq!((at(2, 0), at(2, 127)), (at(3, 127), at(3, 0)));
        assert!(attention_sheet(&[]).is_err());
        assert!(attention_sheet(&[AttentionRow { mean: &[], ..row }]).is_err());
    }
}
