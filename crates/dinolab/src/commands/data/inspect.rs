//! What a source holds: sizes, formats, classes, duplicates, and what cannot be read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use dinolab_data::decode::{Format, MAX_CHANNELS, StoredKind, is_array, sniff, stored_kind};
use dinolab_data::source::{self, SourceOptions};
use dinolab_data::{Source, statistics};
use rayon::prelude::*;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use crate::output::{self, Cell, Table};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::sources;
use crate::values::{Numbers, PixelKind};

/// Tells what a source of images holds, and what in it cannot be used
///
/// Example: dinolab data inspect photos
///
/// Every image is read and decoded: its size as it is trained on (upright), the format of its file,
/// how many images each class has, the channels and bits that files hold, which files are the same
/// byte for byte, and which cannot be used and why.
///
/// Of images as they are stored, with the mean and deviation of each channel:
/// dinolab data inspect bands --in-chans 4 --stats
#[derive(clap::Args)]
pub struct Args {
    /// The images: a folder, a list, tar shards, Parquet files or a Pascal VOC tree
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Channels that images must have, as for train [default: 3]
    #[arg(long, alias = "channels")]
    in_chans: Option<usize>,
    /// rgb: 8-bit RGB whatever a file holds; stored: a file's own channels and depth
    /// [default: rgb for 3 channels, else stored]
    #[arg(long)]
    pixels: Option<PixelKind>,
    /// Measure the mean and deviation of each channel over all images
    #[arg(long)]
    stats: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What one image is.
struct Found {
    /// Of its file, where there is one.
    content: Option<(u128, u64)>,
    format: &'static str,
    /// What the file's header says.
    stored: Option<StoredKind>,
    /// Width and height, or why it cannot be used.
    size: Result<(usize, usize), String>,
}

#[derive(Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

#[derive(Serialize)]
struct Unreadable {
    name: String,
    reason: String,
}

#[derive(Serialize)]
struct Report {
    images: usize,
    bytes: u64,
    width: Option<Spread>,
    height: Option<Spread>,
    megapixels: Option<Spread>,
    formats: BTreeMap<&'static str, usize>,
    stored: BTreeMap<String, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    std: Option<Vec<f64>>,
    classes: BTreeMap<String, usize>,
    duplicates: Vec<Vec<String>>,
    unreadable: Vec<Unreadable>,
    /// Images that have no label where others have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    unlabelled: Option<usize>,
    /// What the source left out, or decided about labels.
    notes: Vec<String>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let kind = Settings {
        in_chans: args.in_chans,
        pixels: args.pixels,
        ..Settings::default()
    };
    let pixels = kind.pixels();
    ensure!(
        (1..=MAX_CHANNELS).contains(&pixels.channels()),
        "--in-chans {}: must be between 1 and {MAX_CHANNELS}",
        pixels.channels()
    );
    let most = SourceOptions::default().max_pixels;
    // Its notes are a part of the report.
    let source = source::open(&args.source, &sources::options(most, pixels))?;
    let progress = Mutex::new(Progress::new("image", source.len() as u64, 0));
    let done = AtomicU64::new(0);
    let found = (0..source.len())
        .into_par_iter()
        .map(|index| {
            let found = look(&*source, index)?;
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            // Whoever does not get it at once leaves it to the next.
            if let Ok(mut progress) = progress.try_lock() {
                progress.set(done, "");
            }
            Ok(found)
        })
        .collect::<dinolab_data::Result<Vec<Found>>>()?;
    if let Ok(progress) = progress.lock() {
        progress.finish();
    }
    let mut report = report(&*source, &found);
    if args.stats {
        let threads = rayon::current_num_threads();
        let found = statistics::measure(&*source, source.len(), 0, threads, &|_| {})?;
        report.mean = Some(found.mean);
        report.std = Some(found.std);
    }
    output::print(args.json, &report, &table(&report))?;
    if !args.json {
        if let (Some(mean), Some(std)) = (&report.mean, &report.std) {
            outln!("--mean {} --std {}", flag(mean), flag(std));
        }
        for note in &report.notes {
            outln!("note: {note}");
        }
        for names in &report.duplicates {
            outln!("the same: {}", names.join(", "));
        }
        for bad in &report.unreadable {
            outln!("cannot be used: {}: {}", bad.name, bad.reason);
        }
    }
    Ok(())
}

/// As a flag of `train` takes it.
fn flag(values: &[f64]) -> Numbers {
    Numbers(values.iter().map(|&value| value as f32).collect())
}

/// What a file is; an error only where it could not be fetched, which says nothing of it.
fn look(source: &dyn Source, index: usize) -> dinolab_data::Result<Found> {
    let (content, format, stored, image) = match source.encoded(index) {
        Ok(Some(bytes)) => (
            Some((xxh3_128(&bytes), bytes.len() as u64)),
            name_of(&bytes),
            stored_kind(&bytes),
            source.decode(index, &bytes),
        ),
        Ok(None) => (None, "none", None, source.image(index)),
        Err(error) if error.is_unreachable() => return Err(error),
        Err(error) => (None, "unknown", None, Err(error)),
    };
    let size = image
        .map(|image| (image.width, image.height))
        .map_err(|error| match error {
            dinolab_data::Error::BadImage { reason, .. } => reason,
            other => other.to_string(),
        });
    Ok(Found {
        content,
        format,
        stored,
        size,
    })
}

fn name_of(bytes: &[u8]) -> &'static str {
    match sniff(bytes) {
        Some(Format::Jpeg) => "JPEG",
        Some(Format::Png) => "PNG",
        Some(Format::WebP) => "WebP",
        Some(Format::Tiff) => "TIFF",
        Some(Format::Bmp) => "BMP",
        Some(Format::Unsupported(name)) => name,
        None if is_array(bytes) => "NumPy",
        None => "unknown",
    }
}

fn report(source: &dyn Source, found: &[Found]) -> Report {
    let sizes: Vec<(usize, usize)> = found
        .iter()
        .filter_map(|found| found.size.as_ref().ok().copied())
        .collect();
    let spread = |of: &dyn Fn(&(usize, usize)) -> f64| {
        let mut values: Vec<f64> = sizes.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        Some(Spread {
            min: *values.first()?,
            median: values[values.len() / 2],
            max: *values.last()?,
        })
    };
    let (mut formats, mut stored) = (BTreeMap::new(), BTreeMap::new());
    let mut classes: BTreeMap<String, usize> = BTreeMap::new();
    let mut same: BTreeMap<(u128, u64), Vec<usize>> = BTreeMap::new();
    let mut unreadable = Vec::new();
    for class in source.classes() {
        classes.insert(class.clone(), 0);
    }
    for (index, found) in found.iter().enumerate() {
        *formats.entry(found.format).or_default() += 1;
        if let Some(kind) = found.stored {
            *stored.entry(kind.to_string()).or_default() += 1;
        }
        let class = source.label(index).and_then(|l| source.classes().get(l));
        if let Some(count) = class.and_then(|class| classes.get_mut(class)) {
            *count += 1;
        }
        // Empty files have nothing in common.
        if let Some(content) = found.content.filter(|content| content.1 > 0) {
            same.entry(content).or_default().push(index);
        }
        if let Err(reason) = &found.size {
            unreadable.push(Unreadable {
                name: source.name(index),
                reason: reason.clone(),
            });
        }
    }
    let without = found.len() - classes.values().sum::<usize>();
    let unlabelled = (!classes.is_empty() && without > 0).then_some(without);
    let mut duplicates: Vec<Vec<usize>> = same.into_values().filter(|all| all.len() > 1).collect();
    duplicates.sort();
    let names = |all: Vec<usize>| all.into_iter().map(|index| source.name(index)).collect();
    Report {
        images: found.len(),
        bytes: found.iter().filter_map(|f| f.content).map(|c| c.1).sum(),
        width: spread(&|size| size.0 as f64),
        height: spread(&|size| size.1 as f64),
        megapixels: spread(&|size| (size.0 * size.1) as f64 / 1e6),
        formats,
        stored,
        mean: None,
        std: None,
        classes,
        duplicates: duplicates.into_iter().map(names).collect(),
        unreadable,
        unlabelled,
        notes: source.notes().iter().map(ToString::to_string).collect(),
    }
}

fn table(report: &Report) -> Table {
    let mut table = Table::new(["", "count", "min", "median", "max"]);
    table.row(["images".into(), Cell::count(report.images)]);
    for (name, spread, decimals) in [
        ("width", &report.width, 0),
        ("height", &report.height, 0),
        ("megapixels", &report.megapixels, 3),
    ] {
        if let Some(s) = spread {
            let cell = |value: f64| Cell::number(value, decimals);
            table.row([
                name.into(),
                Cell::Empty,
                cell(s.min),
                cell(s.median),
                cell(s.max),
            ]);
        }
    }
    for (format, count) in &report.formats {
        table.row([Cell::Text(format!("format {format}")), Cell::count(*count)]);
    }
    for (kind, count) in &report.stored {
        table.row([Cell::Text(format!("files of {kind}")), Cell::count(*count)]);
    }
    for (class, count) in &report.classes {
        table.row([Cell::Text(format!("class {class}")), Cell::count(*count)]);
    }
    if let Some(count) = report.unlabelled {
        table.row(["without a class".into(), Cell::count(count)]);
    }
    table.row([
        "groups of duplicates".into(),
        Cell::count(report.duplicates.len()),
    ]);
    table.row([
        "cannot be used".into(),
        Cell::count(report.unreadable.len()),
    ]);
    table
}
