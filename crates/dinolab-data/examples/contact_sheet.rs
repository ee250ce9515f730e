//! Writes a sheet of a source's images, a row per class where there are labels.
//!
//! `cargo run --release -p dinolab-data --example contact_sheet -- shapes sheet.png`

use std::path::Path;

use dinolab_data::shapes::Shapes;
use dinolab_data::source::{SourceOptions, open};
use dinolab_data::{Image, Source};
use image::imageops::{FilterType, resize};
use image::{RgbImage, imageops::replace};

const TILE: u32 = 96;
const COLUMNS: usize = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = arguments.as_slice() else {
        return Err("usage: contact_sheet shapes|IMAGES SHEET.png".into());
    };
    let source: Box<dyn Source> = match input.as_str() {
        "shapes" => Box::new(Shapes::new(0, 4_000)),
        path => open(Path::new(path), &SourceOptions::default())?,
    };
    let rows: Vec<Vec<usize>> = match source.classes().len() {
        0 => (0..source.len().min(COLUMNS * COLUMNS))
            .collect::<Vec<_>>()
            .chunks(COLUMNS)
            .map(<[_]>::to_vec)
            .collect(),
        classes => (0..classes)
            .map(|class| {
                (0..source.len())
                    .filter(|&i| source.label(i) == Some(class))
                    .take(COLUMNS)
                    .collect()
            })
            .collect(),
    };
    let mut sheet = RgbImage::new(COLUMNS as u32 * TILE, rows.len() as u32 * TILE);
    for (row, indices) in rows.iter().enumerate() {
        for (column, &index) in indices.iter().enumerate() {
            let Image {
                width,
                height,
                data,
                ..
            } = source.image(index)?;
            let tile =
                RgbImage::from_raw(width as u32, height as u32, data).ok_or("not an RGB image")?;
            let tile = resize(&tile, TILE - 4, TILE - 4, FilterType::Triangle);
            replace(
                &mut sheet,
                &tile,
                i64::from(column as u32 * TILE),
                i64::from(row as u32 * TILE),
            );
        }
    }
    sheet.save(output)?;
    Ok(())
}
