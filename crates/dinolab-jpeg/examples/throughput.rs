//! Measures decoding, for comparison with other decoders (`benches/peers/jpeg.py`): for every line on
//! the standard input it decodes all files of a folder on one thread, and prints the seconds that took.
//! `cargo run --release -p dinolab-jpeg --example throughput -- FOLDER [SCALE]`

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::time::Instant;
use std::{env, fs};

use dinolab_jpeg::{Decoder, Output, Scale};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let folder = arguments.next().ok_or("FOLDER [SCALE]")?;
    let scale = match arguments.next().as_deref() {
        None | Some("1") => Scale::Full,
        Some("2") => Scale::Half,
        Some("4") => Scale::Quarter,
        Some("8") => Scale::Eighth,
        Some(other) => return Err(format!("a scale of {other}").into()),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(fs::read(entry?.path())?);
    }
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        line?;
        let (began, mut pixels) = (Instant::now(), 0u64);
        for bytes in &files {
            let image = Decoder::new(bytes)?.decode_scaled(Output::Rgb, scale)?;
            pixels += (image.width * image.height) as u64;
        }
        writeln!(out, "{} {pixels}", began.elapsed().as_secs_f64())?;
        out.flush()?;
    }
    Ok(())
}
