//! Rows of small pictures with captions, as one picture or one HTML page.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use crate::html::escape;
use crate::picture::Rgb;
use crate::text::{GLYPH_SIDE, draw_text};
use crate::{Error, PAPER, Result};

const INK: [u8; 3] = [20, 20, 20];
const PADDING: usize = 6;
/// Height of a line of text and the space below it.
const LINE: usize = GLYPH_SIDE + 4;

/// A small picture with its caption.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    /// The picture, drawn at its own size.
    pub picture: Rgb,
    /// A few characters below it, such as a similarity.
    pub caption: String,
    /// Name of the picture, shown on pages only.
    pub name: String,
    /// URL that the picture links to on pages.
    pub link: Option<String>,
}

/// A titled row of pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its title.
    pub title: String,
    /// The pictures, in reading order.
    pub tiles: Vec<Tile>,
}

/// Draws all rows as one picture, titles above and captions below; rows wrap after `columns`
/// tiles.
///
/// # Errors
/// [`Error::Invalid`] without tiles or columns.
pub fn picture(rows: &[Row], columns: usize) -> Result<Rgb> {
    let tiles = || rows.iter().flat_map(|row| &row.tiles);
    let columns = columns.min(rows.iter().map(|row| row.tiles.len()).max().unwrap_or(0));
    if columns == 0 {
        return Err(Error::invalid("sheet", "no pictures or no columns"));
    }
    let cell_w = tiles().map(|t| t.picture.width).max().unwrap_or(0);
    let cell_h = tiles().map(|t| t.picture.height).max().unwrap_or(0);
    let line_of_tiles = cell_h + LINE + PADDING;
    let height: usize = rows
        .iter()
        .map(|row| LINE + row.tiles.len().div_ceil(columns) * line_of_tiles)
        .sum();
    let width = PADDING + columns * (cell_w + PADDING);
    let mut sheet = Rgb::filled(width, PADDING + height, PAPER);
    let mut top = PADDING;
    for row in rows {
        write(&mut sheet, &row.title, (PADDING, top), width - 2 * PADDING);
        top += LINE;
        for line in row.tiles.chunks(columns) {
            for (column, tile) in line.iter().enumerate() {
                let left = PADDING + column * (cell_w + PADDING);
                let x = left + (cell_w - tile.picture.width) / 2;
                let y = top + (cell_h - tile.picture.height) / 2;
                sheet.paste(&tile.picture, x, y);
                write(&mut sheet, &tile.caption, (left, top + cell_h + 2), cell_w);
            }
            top += line_of_tiles;
        }
    }
    Ok(sheet)
}

/// Writes as much of a text as fits into `room` pixels.
fn write(sheet: &mut Rgb, text: &str, (x, y): (usize, usize), room: usize) {
    let fitting: String = text.chars().take(room / GLYPH_SIDE).collect();
    draw_text(sheet, &fitting, (x as isize, y as isize), 1, INK);
}

/// Returns all rows as a self-contained HTML page.
///
/// # Errors
/// [`Error::Picture`] for a picture without pixels.
pub fn page(title: &str, rows: &[Row]) -> Result<String> {
    let title = escape(title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    for row in rows {
        let _ = writeln!(
            page,
            "<section>\n<h2>{}</h2>\n<div class=\"row\">",
            escape(&row.title)
        );
        for tile in &row.tiles {
            let name = escape(&tile.name);
            let image = format!(
                "<img src=\"data:image/jpeg;base64,{}\" alt=\"{name}\" title=\"{name}\" \
                 width=\"{}\" height=\"{}\">",
                STANDARD.encode(jpeg(&tile.picture)?),
                tile.picture.width,
                tile.picture.height
            );
            let image = match &tile.link {
                Some(link) => format!("<a href=\"{}\">{image}</a>", escape(link)),
                None => image,
            };
            let _ = writeln!(
                page,
                "<figure>{image}<figcaption><b>{}</b> {name}</figcaption></figure>",
                escape(&tile.caption)
            );
        }
        page.push_str("</div>\n</section>\n");
    }
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:1.5rem;color:#222;\
background:#fff}h1{font-size:1.3rem}h2{font-size:1rem;margin:1.2rem 0 .4rem;\
overflow-wrap:anywhere}.row{display:flex;flex-wrap:wrap;gap:.6rem}figure{margin:0;width:136px}\
img{max-width:100%;height:auto;display:block;margin:auto}\
figcaption{font-size:.75rem;overflow-wrap:anywhere}\
@media (prefers-color-scheme:dark){body{color:#ddd;background:#181818}}";

fn jpeg(picture: &Rgb) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 85).encode(
        &picture.data,
        picture.width as u32,
        picture.height as u32,
        ExtendedColorType::Rgb8,
    )?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(width: usize, height: usize, colour: [u8; 3]) -> Tile {
        Tile {
            picture: Rgb::filled(width, height, colour),
            caption: "0.97".into(),
            name: "a <b>.jpg".into(),
            link: Some("file:///a%20%3Cb%3E.jpg".into()),
        }
    }

    #[test]
    fn tiles_are_where_they_should_be() {
        let rows = [
            Row {
                title: "one".into(),
                tiles: vec![tile(20, 10, [200, 0, 0]), tile(10, 20, [0, 200, 0])],
            },
            Row {
                title: "two".into(),
                tiles: vec![tile(20, 20, [0, 0, 200]); 3],
            },
        ];
        let sheet = picture(&rows, 2).unwrap();
        assert_eq!(sheet.width, PADDING + 2 * (20 + PADDING));
        // Three lines of tiles, two titles.
        assert_eq!(sheet.height, PADDING + 2 * LINE + 3 * (20 + LINE + PADDING));
        let middle = PADDING + LINE + 10;
        assert_eq!(sheet.pixel(PADDING + 10, middle), [200, 0, 0]);
        assert_eq!(
            sheet.pixel(PADDING + 20 + PADDING + 10, middle),
            [0, 200, 0]
        );
        let count = |colour| sheet.data.chunks(3).filter(|p| *p == colour).count();
        assert_eq!(count([0, 0, 200]), 1200);
        assert!(count(INK) > 50);
        assert!(picture(&[], 3).is_err());
    }

    #[test]
    fn pages_stand_alone_and_escape_names() {
        let rows = [Row {
            title: "x & y".into(),
            tiles: vec![tile(8, 8, [9, 9, 9])],
        }];
        let page = page("near", &rows).unwrap();
        assert!(page.contains("x &amp; y") && page.contains("a &lt;b&gt;.jpg"));
        assert!(!page.contains("<b>.jpg"));
        assert!(page.contains("data:image/jpeg;base64,/9j/"));
        assert!(page.contains("href=\"file:///a%20%3Cb%3E.jpg\""));
        assert!(!page.contains("http"));
    }
}
