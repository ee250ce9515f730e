//! Contact sheets: many pictures in one.

use crate::picture::Rgb;
use crate::{Error, Result};

/// Lays tiles out in rows of `columns`, in reading order, with `padding` pixels between and
/// around them. Cells have the size of the largest tile; smaller tiles are centred.
///
/// # Errors
/// [`Error::Invalid`] without tiles or columns.
pub fn contact_sheet(
    tiles: &[Rgb],
    columns: usize,
    padding: usize,
    background: [u8; 3],
) -> Result<Rgb> {
    if tiles.is_empty() || columns == 0 {
        return Err(Error::invalid("contact sheet", "no tiles or no columns"));
    }
    let columns = columns.min(tiles.len());
    let rows = tiles.len().div_ceil(columns);
    let cell_w = tiles.iter().map(|t| t.width).max().unwrap_or(0);
    let cell_h = tiles.iter().map(|t| t.height).max().unwrap_or(0);
    let mut sheet = Rgb::filled(
        columns * (cell_w + padding) + padding,
        rows * (cell_h + padding) + padding,
        background,
    );
    for (i, tile) in tiles.iter().enumerate() {
        let x = padding + i % columns * (cell_w + padding) + (cell_w - tile.width) / 2;
        let y = padding + i / columns * (cell_h + padding) + (cell_h - tile.height) / 2;
        sheet.paste(tile, x, y);
    }
    Ok(sheet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_centred_in_their_cells() {
        let tiles = [
            Rgb::filled(2, 2, [1; 3]),
            Rgb::filled(2, 2, [2; 3]),
            Rgb::filled(1, 1, [3; 3]),
        ];
        let sheet = contact_sheet(&tiles, 2, 1, [9; 3]).unwrap();
        assert_eq!((sheet.width, sheet.height), (7, 7));
        assert_eq!(sheet.pixel(0, 0), [9; 3]);
        assert_eq!(sheet.pixel(1, 1), [1; 3]);
        assert_eq!(sheet.pixel(3, 1), [9; 3]);
        assert_eq!(sheet.pixel(4, 2), [2; 3]);
        assert_eq!(sheet.pixel(1, 4), [3; 3]);
        assert_eq!(sheet.pixel(2, 4), [9; 3]);
        assert!(contact_sheet(&[], 2, 1, [9; 3]).is_err());
    }
}
