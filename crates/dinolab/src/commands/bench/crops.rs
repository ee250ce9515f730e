//! `dinolab bench crops`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dinolab_data::augment::stage_timer::{Stage, StageTimer};
use dinolab_data::augment::{MultiCrop, Scratch};
use dinolab_data::decode::Scaled;
use dinolab_data::loader::READ_AHEAD;
use dinolab_data::source::SourceOptions;
use dinolab_data::{Loader, LoaderConfig, Size, Source};
use serde_json::json;

use crate::output::{self, Cell, Table};
use crate::sources;

/// Times reading, decoding and augmenting images, without a network
///
/// Example: dinolab bench crops photos --threads 2
///
/// First on one thread, with the share of every stage; then by the loader that training uses, on
/// --threads of them.
#[derive(clap::Args)]
pub struct Args {
    /// Images as for `train` [default: the built-in shapes, drawn, not decoded]
    images: Option<PathBuf>,
    /// Threads of the loader [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Seconds to measure each of the two
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Side of the two global crops, or HEIGHTxWIDTH
    #[arg(long, default_value = "224")]
    global_crops_size: Size,
    /// Side of the local crops, or HEIGHTxWIDTH
    #[arg(long, default_value = "96")]
    local_crops_size: Size,
    /// Local crops of an image
    #[arg(long, default_value_t = 8)]
    local_crops_number: usize,
    /// Images of a batch
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// Decode large photographs at the scale that crops need, as `train` does
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    scaled_decoding: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    ensure_usage!(
        args.seconds > 0.0 && args.seconds <= 3600.0,
        "--seconds {}: must be above 0 and at most 3600",
        args.seconds
    );
    let source: Arc<dyn Source> = match &args.images {
        Some(path) => sources::open(path, SourceOptions::default().max_pixels)?,
        None => Arc::new(sources::unseen_shapes(0, 1024, 224)?),
    };
    let crops = MultiCrop {
        global_size: args.global_crops_size,
        local_size: args.local_crops_size,
        local_views: args.local_crops_number,
        ..MultiCrop::default()
    };
    crops.validate()?;
    let span = Duration::from_secs_f64(args.seconds);
    let alone = one_thread(&*source, &crops, args.scaled_decoding, span)?;
    let threads = match args.threads {
        Some(threads) => threads.max(1),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let together = loader(source.clone(), &crops, args, threads, span)?;

    let total: Duration = alone.stages.iter().map(|(_, time)| *time).sum();
    let mut table = Table::new(["stage", "ms per image", "share %"]);
    let mut stages = Vec::new();
    for (name, time) in &alone.stages {
        let ms = super::ms(*time) / alone.images as f64;
        let share = 100.0 * time.as_secs_f64() / total.as_secs_f64().max(f64::MIN_POSITIVE);
        table.row([(*name).into(), Cell::number(ms, 3), Cell::number(share, 1)]);
        stages.push(json!({ "stage": name, "ms_per_image": ms, "share": share / 100.0 }));
    }
    let result = json!({
        "images_per_s_one_thread": alone.rate,
        "images_per_s": together,
        "threads": threads,
        "skipped": alone.skipped,
        "stages": stages,
    });
    output::print(args.json, &result, &table)?;
    if !args.json {
        outln!(
            "\none thread {:.1} images/s; the loader on {threads} threads {together:.1} images/s \
             ({:.2} times)",
            alone.rate,
            together / alone.rate
        );
        if alone.skipped > 0 {
            outln!("{} images could not be used", alone.skipped);
        }
    }
    Ok(())
}

struct Alone {
    images: usize,
    skipped: usize,
    rate: f64,
    stages: Vec<(&'static str, Duration)>,
}

/// Goes round the source until the time is up, image by image.
fn one_thread(
    source: &dyn Source,
    crops: &MultiCrop,
    scaled: bool,
    span: Duration,
) -> Result<Alone> {
    let mut scratch = Scratch::default();
    let mut global = vec![0.0; crops.global_len()];
    let mut local = vec![0.0; crops.local_len()];
    // Once without the clock: tables, buffers, and files that the system then holds.
    let (mut images, mut skipped, mut decoding) = (0, 0, Duration::ZERO);
    let began = Instant::now();
    let mut epoch = 0;
    while images == 0 || began.elapsed() < span {
        for index in 0..source.len() {
            let clock = Instant::now();
            let image = decode(source, crops, scaled, index);
            decoding += clock.elapsed();
            let Ok(image) = image else {
                skipped += usize::from(epoch == 0);
                continue;
            };
            if images == 0 {
                crops.apply_scaled(&image, (0, 0, 0), &mut scratch, &mut global, &mut local)?;
                scratch.timer = StageTimer::running();
            }
            let key = (0, epoch, index as u64);
            crops.apply_scaled(&image, key, &mut scratch, &mut global, &mut local)?;
            images += 1;
            if began.elapsed() >= span {
                break;
            }
        }
        ensure!(images > 0, "no image can be used");
        epoch += 1;
    }
    let rate = images as f64 / began.elapsed().as_secs_f64();
    let mut stages = vec![("read and decode", decoding)];
    stages.extend(
        Stage::ALL
            .iter()
            .map(|&stage| (stage.name(), scratch.timer.spent(stage))),
    );
    Ok(Alone {
        images,
        skipped,
        rate,
        stages,
    })
}

/// An image as the loader decodes it.
fn decode(
    source: &dyn Source,
    crops: &MultiCrop,
    scaled: bool,
    index: usize,
) -> dinolab_data::Result<Scaled> {
    match source.encoded(index)? {
        Some(file) if scaled => {
            let scale_of = |size| crops.scale_of(size);
            source.decode_scaled(index, &file, &scale_of)
        }
        Some(file) => source.decode(index, &file).map(Scaled::full),
        None => source.image(index).map(Scaled::full),
    }
}

/// Images per second of the loader, epoch after epoch, after a first batch.
fn loader(
    source: Arc<dyn Source>,
    crops: &MultiCrop,
    args: &Args,
    threads: usize,
    span: Duration,
) -> Result<f64> {
    let batch_size = args.batch_size.clamp(1, source.len());
    let config = LoaderConfig {
        batch_size,
        workers: threads,
        read_ahead: READ_AHEAD,
        queue: 2 * batch_size,
        seed: 0,
        max_bad_images: 1.0,
        cache_bytes: 0,
        shuffle_buffer: 0,
        scaled_decoding: args.scaled_decoding,
    };
    let loader = Loader::new(source, crops.clone(), config)?;
    let (mut images, mut began) = (0, None);
    for epoch in 0.. {
        for batch in loader.epoch(epoch, 0) {
            let batch = batch?;
            match began {
                None => began = Some(Instant::now()),
                Some(_) => images += batch.batch(),
            }
            loader.recycle(batch);
            if let Some(began) = began.filter(|began| began.elapsed() >= span && images > 0) {
                return Ok(images as f64 / began.elapsed().as_secs_f64());
            }
        }
    }
    unreachable!("epochs have no end")
}
