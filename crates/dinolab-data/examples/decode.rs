//! Decodes the files of a folder to arrays, to compare them with other decoders:
//! `cargo run --release -p dinolab-data --example decode -- FOLDER OUT`.
//!
//! Of each file `OUT/NAME.npy` is what becomes of it as RGB, and `OUT/NAME.stored.npy` as it is stored;
//! `.txt` instead of `.npy` says why there is none.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use dinolab_data::decode::{Pixels, decode_to, stored_kind};
use dinolab_data::{Depth, Image};

const MAX_PIXELS: u64 = 1 << 28;

fn main() -> Result<(), Box<dyn Error>> {
    let [folder, out] = env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "FOLDER OUT")?;
    fs::create_dir_all(&out)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let bytes = fs::read(&path)?;
        let channels = stored_kind(&bytes).map_or(3, |kind| kind.channels);
        for (pixels, suffix) in [(Pixels::Rgb, ""), (Pixels::Stored { channels }, ".stored")] {
            let to = |kind: &str| Path::new(&out).join(format!("{name}{suffix}.{kind}"));
            match decode_to(pixels, &name, &bytes, MAX_PIXELS) {
                Ok(image) => fs::write(to("npy"), array(&image))?,
                Err(error) => fs::write(to("txt"), error.to_string())?,
            }
        }
    }
    Ok(())
}

/// An image as a NumPy array.
fn array(image: &Image) -> Vec<u8> {
    let kind = match image.depth {
        Depth::Eight => "|u1",
        Depth::Sixteen => "<u2",
        Depth::Float => "<f4",
    };
    let mut header = format!(
        "{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}, {}, {}), }}",
        image.height, image.width, image.channels
    );
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    [
        b"\x93NUMPY\x01\0",
        &length[..],
        header.as_bytes(),
        &image.data,
    ]
    .concat()
}
