//! The answer as pictures.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use dinolab_data::Image;
use dinolab_data::augment::{eval, resize::Filter};
use dinolab_files::write_whole;
use dinolab_view::captioned_sheet::{Row, Tile, page, picture};
use dinolab_view::write_png;

use super::{Args, Shown, file_of, name_of};
use crate::indexed::Indexed;
use crate::pictures::rgb;

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
        _ => bail_usage!("--out {}: must end in .png or .html", out.display()),
    }
}

/// Writes the sheet of an answer.
pub fn write(
    out: &Path,
    kind: Kind,
    indexed: &Indexed,
    shown: &[Shown],
    args: &Args,
) -> Result<()> {
    let mut rows = Vec::new();
    let mut pictures = 0;
    if shown.len() > MOST_ROWS {
        errln!("the sheet shows the first {MOST_ROWS} queries");
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
                errln!("the sheet shows the first {MOST_TILES} pictures");
            }
            pictures += 1;
            if pictures > MOST_TILES {
                break;
            }
            let name = name_of(indexed, member.index);
            let Ok(image) = indexed.source.image(indexed.rows[member.index]) else {
                errln!("{name}: cannot be read any more; not in the sheet");
                continue;
            };
            let is_query = !args.duplicates && query.is_none() && place == 0;
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
            let columns = match args.duplicates {
                true => COLUMNS,
                false => (args.k + 1).min(COLUMNS),
            };
            write_png(out, &picture(&rows, columns)?)?;
        }
        Kind::Html => {
            let title = match args.duplicates {
                true => format!("Near duplicates in {}", args.images.display()),
                false => format!("Nearest images in {}", args.images.display()),
            };
            let text = page(&title, &rows)?;
            write_whole(out, |file| file.write_all(text.as_bytes()))
                .with_context(|| format!("cannot write {}", out.display()))?;
        }
    }
    errln!("sheet in {}", out.display());
    Ok(())
}

fn tile(image: &Image, caption: &str, name: &str, link: Option<String>) -> Result<Tile> {
    let (width, height) = eval::fitted(image.width, image.height, SIDE);
    Ok(Tile {
        picture: rgb(&eval::resize(image, width, height, Filter::Lanczos)?)?,
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
