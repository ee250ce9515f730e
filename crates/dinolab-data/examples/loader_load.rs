//! What the loader costs: `loader_load IMAGES THREADS EPOCHS [BATCH] [scaled]`.
//!
//! With `scaled`, large photographs are decoded at the scale that crops need.
//!
//! Prints the seconds to the first batch, and for every epoch images a second, processor time an
//! image, page faults an image and the resident memory at its end. Linux only (`/proc/self`).

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dinolab_data::augment::MultiCrop;
use dinolab_data::source::{self, SourceOptions};
use dinolab_data::{Loader, LoaderConfig, Source};

/// Of `/proc/self/stat`: page faults without reading, and processor time of all threads in ms.
fn used() -> (f64, f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    // A tick is 10 ms on every common system.
    let field = |at: usize| fields.get(at).copied().unwrap_or(0.0);
    (field(7), 10.0 * field(11), 10.0 * field(12))
}

/// Resident memory in MiB.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    pages.unwrap_or(0.0) * 4096.0 / f64::from(1 << 20)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [images, threads, epochs, rest @ ..] = &arguments[..] else {
        return Err("usage: loader_load IMAGES THREADS EPOCHS [BATCH] [scaled]".into());
    };
    let scaled_decoding = rest.iter().any(|word| word == "scaled");
    let batch: usize = rest
        .first()
        .filter(|word| *word != "scaled")
        .map_or(Ok(32), |batch| batch.parse())?;
    let (began, epochs) = (Instant::now(), epochs.parse::<u64>()?);
    let source: Arc<dyn Source> =
        source::open(Path::new(images), &SourceOptions::default())?.into();
    println!(
        "{} images, {:.2} s",
        source.len(),
        began.elapsed().as_secs_f64()
    );
    let config = LoaderConfig {
        batch_size: batch.min(source.len()),
        workers: threads.parse()?,
        queue: 2 * batch,
        scaled_decoding,
        ..LoaderConfig::default()
    };
    let loader = Loader::new(source, MultiCrop::default(), config)?;
    let mut stream = loader.batches(0, 0);
    loader.recycle(stream.next().ok_or("no batch")??);
    println!("first batch after {:.2} s", began.elapsed().as_secs_f64());
    for epoch in 0..epochs {
        let (clock, before) = (Instant::now(), used());
        let mut images = 0;
        while stream.position().0 == epoch {
            let crops = stream.next().ok_or("no batch")??;
            images += crops.batch();
            loader.recycle(crops);
        }
        let (count, after) = (images as f64, used());
        println!(
            "epoch {epoch}: {:7.1} images/s, {:.2} + {:.2} ms of user and system time, {:.1} page \
             faults an image, {:.1} MiB resident",
            count / clock.elapsed().as_secs_f64(),
            (after.1 - before.1) / count,
            (after.2 - before.2) / count,
            (after.0 - before.0) / count,
            resident()
        );
    }
    Ok(())
}
