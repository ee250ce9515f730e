//! Reading, decoding and augmenting images, without a network.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dinolab_data::augment::stage_timer::{Stage, StageTimer};
use dinolab_data::augment::{MultiCrop, Scratch};
use dinolab_data::decode::Scaled;
use dinolab_data::loader::READ_AHEAD;
use dinolab_data::{Loader, LoaderConfig, Size, Source};
use serde::Serialize;

use crate::environment::Environment;
use crate::error::Result;
use crate::sources;
use crate::table::{Cell, Report, Table};

/// What is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct CropsRequest<'a> {
    /// Images; without them the built-in shapes, drawn, not decoded.
    pub images: Option<&'a Path>,
    /// Threads of the loader; by default all cores.
    pub threads: Option<usize>,
    /// Seconds to measure each of the two.
    pub seconds: f64,
    /// Size of the two global crops.
    pub global_crops_size: Size,
    /// Size of the local crops.
    pub local_crops_size: Size,
    /// Local crops of an image.
    pub local_crops_number: usize,
    /// Images of a batch.
    pub batch_size: usize,
    /// Whether large photographs are decoded at the scale that crops need.
    pub scaled_decoding: bool,
}

/// The figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CropsReport {
    /// On one thread, image by image.
    pub images_per_s_one_thread: f64,
    /// By the loader that training uses.
    pub images_per_s: f64,
    /// Threads of the loader.
    pub threads: usize,
    /// Images that could not be used.
    pub skipped: usize,
    /// The stages of one thread.
    pub stages: Vec<StageTime>,
}

/// What a stage took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageTime {
    /// Its name.
    pub stage: &'static str,
    /// Milliseconds per image.
    pub ms_per_image: f64,
    /// The fraction of the time of all stages.
    pub share: f64,
}

/// Measures, first on one thread, then by the loader.
///
/// # Errors
/// Images of which none can be used, sizes out of their range.
pub fn measure(env: &Environment<'_>, request: &CropsRequest<'_>) -> Result<CropsReport> {
    ensure_setting!(
        request.seconds > 0.0 && request.seconds <= 3600.0,
        "seconds",
        request.seconds,
        "must be above 0 and at most 3600"
    );
    let source: Arc<dyn Source> = match request.images {
        Some(path) => sources::open(env, path)?,
        None => Arc::new(sources::unseen_shapes(0, 1024, 224)?),
    };
    let crops = MultiCrop {
        global_size: request.global_crops_size,
        local_size: request.local_crops_size,
        local_views: request.local_crops_number,
        ..MultiCrop::default()
    };
    crops.validate()?;
    let span = Duration::from_secs_f64(request.seconds);
    let alone = one_thread(&*source, &crops, request.scaled_decoding, span)?;
    let threads = match request.threads {
        Some(threads) => threads.max(1),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let together = loader(source.clone(), &crops, request, threads, span)?;
    let total: Duration = alone.stages.iter().map(|(_, time)| *time).sum();
    let total = total.as_secs_f64().max(f64::MIN_POSITIVE);
    let stage = |&(stage, time): &(&'static str, Duration)| StageTime {
        stage,
        ms_per_image: super::ms(time) / alone.images as f64,
        share: time.as_secs_f64() / total,
    };
    Ok(CropsReport {
        images_per_s_one_thread: alone.rate,
        images_per_s: together,
        threads,
        skipped: alone.skipped,
        stages: alone.stages.iter().map(stage).collect(),
    })
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
    request: &CropsRequest<'_>,
    threads: usize,
    span: Duration,
) -> Result<f64> {
    let batch_size = request.batch_size.clamp(1, source.len());
    let config = LoaderConfig {
        batch_size,
        workers: threads,
        read_ahead: READ_AHEAD,
        queue: 2 * batch_size,
        seed: 0,
        max_unusable: 1.0,
        scaled_decoding: request.scaled_decoding,
        ..LoaderConfig::default()
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

impl Report for CropsReport {
    fn table(&self) -> Table {
        let mut table = Table::new(["stage", "ms per image", "share %"]);
        for stage in &self.stages {
            let (ms, share) = (stage.ms_per_image, 100.0 * stage.share);
            table.row([
                stage.stage.into(),
                Cell::number(ms, 3),
                Cell::number(share, 1),
            ]);
        }
        table
    }
}
