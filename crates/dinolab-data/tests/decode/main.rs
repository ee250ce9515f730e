//! Decoding: every format, every way a file can be wrong.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use tiff::encoder::TiffEncoder;
use tiff::encoder::colortype::{RGB8, RGB16};

const LIMIT: u64 = 1_000_000;

/// The files made by `fixtures/decode/make.py`.
macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/decode/",
            $name
        ))
        .as_slice()
    };
}

/// JPEGs, and their pixels by Pillow.
macro_rules! jpeg_fixture {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../dinolab-jpeg/tests/fixtures/",
            $name
        ))
        .as_slice()
    };
}

// After the macros that they use.
mod any_bytes;
mod masks;
mod orientation;
mod pixels;
mod refused;

/// A picture whose pixels all differ, so that any mix-up shows.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 9) as u8, (y * 11) as u8, (x * 5 + y * 3) as u8])
    })
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let (image, mut bytes) = (image.into(), Cursor::new(Vec::new()));
    if format == ImageFormat::Tiff {
        let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
        let (width, height) = (image.width(), image.height());
        match &image {
            DynamicImage::ImageRgb8(b) => encoder.write_image::<RGB8>(width, height, b),
            DynamicImage::ImageRgb16(b) => encoder.write_image::<RGB16>(width, height, b),
            other => panic!("{other:?}"),
        }
        .unwrap();
    } else {
        image.write_to(&mut bytes, format).unwrap();
    }
    bytes.into_inner()
}

/// A PNG of any colour type and depth from packed rows.
fn packed_png(
    width: u32,
    height: u32,
    kind: png::ColorType,
    depth: png::BitDepth,
    rows: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(kind);
    encoder.set_depth(depth);
    if kind == png::ColorType::Indexed {
        encoder.set_palette(
            (0..=255u8)
                .flat_map(|i| [i, 255 - i, 7])
                .collect::<Vec<u8>>(),
        );
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(rows).unwrap();
    writer.finish().unwrap();
    bytes
}
