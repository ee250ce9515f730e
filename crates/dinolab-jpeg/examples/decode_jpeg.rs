//! Decodes JPEG files, and prints what they hold and how fast that was:
//! `cargo run --release -p dinolab-jpeg --example decode_jpeg -- [SCALE] FILE…`, with SCALE one of 1, 2, 4
//! and 8; `--ppm FILE` writes an image to the standard output instead.

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};
use std::{env, fs, io};

use dinolab_jpeg::{Decoder, Output, Scale};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, file] = &arguments[..]
        && flag == "--ppm"
    {
        return write_ppm(file);
    }
    let (scale, files) = match arguments.split_first() {
        Some((first, rest)) if first == "1" => (Scale::Full, rest),
        Some((first, rest)) if first == "2" => (Scale::Half, rest),
        Some((first, rest)) if first == "4" => (Scale::Quarter, rest),
        Some((first, rest)) if first == "8" => (Scale::Eighth, rest),
        _ => (Scale::Full, &arguments[..]),
    };
    let (mut pixels, mut time) = (0, Duration::ZERO);
    for file in files {
        let bytes = fs::read(file)?;
        let began = Instant::now();
        let image = Decoder::new(&bytes).and_then(|of| of.decode_scaled(Output::Rgb, scale));
        time += began.elapsed();
        match image {
            Ok(image) => {
                pixels += image.width * image.height;
                println!("{file}: {} × {}", image.width, image.height);
            }
            Err(error) => println!("{file}: {error}"),
        }
    }
    let megapixels = pixels as f64 / 1e6;
    let rate = megapixels / time.as_secs_f64().max(1e-9);
    println!("{megapixels:.1} megapixels decoded, {rate:.1} a second");
    Ok(())
}

/// Writes a file's pixels as a PPM.
fn write_ppm(file: &str) -> Result<(), Box<dyn Error>> {
    let bytes = fs::read(file)?;
    let image = Decoder::new(&bytes)?.decode(Output::Rgb)?;
    let mut out = io::stdout().lock();
    write!(out, "P6\n{} {}\n255\n", image.width, image.height)?;
    out.write_all(&image.data)?;
    Ok(())
}
