//! The answer as pictures.

use std::io::Write;
use std::path::Path;

use dinolab_data::Image;
use dinolab_data::augment::{eval, resize::Filter};
use dinolab_files::write_whole;
use dinolab_view::captioned_sheet::{Row, Tile, page, picture};
use dinolab_view::{Rgb, write_png};

use super::{NeighbourRequest, Search, Shown, WrittenSheet, file_of, name_of};
use crate::error::{Context, Error, Result};
use crate::feature_index::IndexedImages;

/// Side of a small picture, in pixels.
const SIDE: usize = 128;
/// Tiles of a line in a PNG.
const COLUMNS: usize = 12;
/// Most rows of a sheet, which is made in memory, and looked at by people.
pub const MOST_ROWS: usize = 200;
/// Most members of a group in it.
pub const MOST_MEMBERS: usize = 24;
/// Most pictures in all.
const MOST_TILES: usize = 5000;

/// What a sheet is written as.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A picture.
    Png,
    /// A page.
    Html,
}

/// By the file's extension.
pub fn kind_of(out: &Path) -> Result<Kind> {
    match out.extension().and_then(|e| e.to_str()) {
        Some("png") => Ok(Kind::Png),
        Some("html" | "htm") => Ok(Kind::Html),
        _ => {
            let reason = "must end in .png or .html";
            Err(Error::setting("out", out.display(), reason))
        }
    }
}

/// Writes the sheet of an answer.
pub fn write(
    out: &Path,
    kind: Kind,
    indexed: &IndexedImages,
    shown: &[Shown],
    request: &NeighbourRequest<'_>,
) -> Result<WrittenSheet> {
    let duplicates = matches!(request.search, Search::Duplicates { .. });
    let mut written = WrittenSheet {
        path: out.to_owned(),
        ..WrittenSheet::default()
    };
    let mut rows = Vec::new();
    let mut pictures = 0;
    if shown.len() > MOST_ROWS {
        written.rows = Some(MOST_ROWS);
    }
    for Shown {
        title,
        query,
        members,
    } in shown.iter().take(MOST_ROWS)
    {
        let mut tiles = Vec::new();
        if let Some((name, image)) = query {
            tiles.push(tile(image, "query", name, link(Path::new(name)))?);
        }
        for (place, member) in members.iter().enumerate() {
            if pictures == MOST_TILES {
                written.pictures = Some(MOST_TILES);
            }
            pictures += 1;
            if pictures > MOST_TILES {
                break;
            }
            let name = name_of(indexed, member.index);
            let Ok(image) = indexed.source.image(indexed.rows[member.index]) else {
                written.unreadable.push(name);
                continue;
            };
            let is_query = !duplicates && query.is_none() && place == 0;
            let caption = match is_query {
                true => "query".to_owned(),
                false => format!("{:.3}", member.similarity),
            };
            let link = file_of(indexed, member.index).and_then(|path| link(&path));
            tiles.push(tile(&image, &caption, &name, link)?);
        }
        rows.push(Row {
            title: title.clone(),
            tiles,
        });
    }
    match kind {
        Kind::Png => {
            let k = match request.search {
                Search::Nearest { k, .. } => k,
                Search::Duplicates { .. } => COLUMNS,
            };
            let columns = match duplicates {
                true => COLUMNS,
                false => (k + 1).min(COLUMNS),
            };
            write_png(out, &picture(&rows, columns)?)?;
        }
        Kind::Html => {
            let title = match duplicates {
                true => format!("Near duplicates in {}", request.images.display()),
                false => format!("Nearest images in {}", request.images.display()),
            };
            let text = page(&title, &rows)?;
            write_whole(out, |file| file.write_all(text.as_bytes()))
                .with_context(|| format!("cannot write {}", out.display()))?;
        }
    }
    Ok(written)
}

fn tile(image: &Image, caption: &str, name: &str, link: Option<String>) -> Result<Tile> {
    let (width, height) = eval::fitted(image.width, image.height, SIDE);
    Ok(Tile {
        picture: Rgb::from_image(&eval::resize(image, width, height, Filter::Lanczos)?)?,
        caption: caption.to_owned(),
        name: name.to_owned(),
        link,
    })
}

/// A file's URL.
fn link(path: &Path) -> Option<String> {
    let whole = path.canonicalize().ok()?;
    let mut url = "file://".to_owned();
    for byte in whole.to_string_lossy().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                url.push(char::from(byte));
            }
            other => url += &format!("%{other:02X}"),
        }
    }
    Some(url)
}
