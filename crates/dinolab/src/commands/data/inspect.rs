//! What a source holds: sizes, formats, classes, duplicates, and what cannot be read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use dinolab_data::Source;
use dinolab_data::decode::{Format, sniff};
use dinolab_data::source::SourceOptions;
use rayon::prelude::*;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use super::{Decoded, decode};
use crate::output::{self, Cell, Table};
use crate::progress::Progress;
use crate::sources;

/// Tells what a source of images holds, and what in it cannot be used
///
/// Example: dinolab data inspect photos
///
/// Every image is read and decoded: its size as it is trained on (upright), the format of its file,
/// its channels and depth there, how many images each class has, which files are the same byte for
/// byte, and which cannot be used and why.
#[derive(clap::Args)]
pub struct Args {
    /// The images: a folder, a list, tar shards or a Pascal VOC tree
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What one image is.
struct Found {
    /// Of its file, where there is one.
    content: Option<(u128, u64)>,
    format: &'static str,
    /// Channels and depth of its file.
    kind: Option<String>,
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
    channels: BTreeMap<String, usize>,
    classes: BTreeMap<String, usize>,
    duplicates: Vec<Vec<String>>,
    unreadable: Vec<Unreadable>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let source = sources::open(&args.source, SourceOptions::default().max_pixels)?;
    let progress = Mutex::new(Progress::new("image", source.len() as u64, 0));
    let done = AtomicU64::new(0);
    let found: Vec<Found> = (0..source.len())
        .into_par_iter()
        .map(|index| {
            let found = look(&*source, index);
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            // Whoever does not get it at once leaves it to the next.
            if let Ok(mut progress) = progress.try_lock() {
                progress.set(done, "");
            }
            found
        })
        .collect();
    if let Ok(progress) = progress.lock() {
        progress.finish();
    }
    let report = report(&*source, &found);
    output::print(args.json, &report, &table(&report))?;
    if !args.json {
        for names in &report.duplicates {
            println!("the same: {}", names.join(", "));
        }
        for bad in &report.unreadable {
            println!("cannot be used: {}: {}", bad.name, bad.reason);
        }
    }
    Ok(())
}

fn look(source: &dyn Source, index: usize) -> Found {
    let (content, format, image) = match source.encoded(index) {
        Ok(Some(bytes)) => (
            Some((xxh3_128(&bytes), bytes.len() as u64)),
            name_of(sniff(&bytes)),
            decode(source, index, &bytes),
        ),
        Ok(None) => {
            let image = source.image(index).map(|image| Decoded {
                channels: image.channels,
                depth: image.depth,
                image,
            });
            (None, "none", image)
        }
        Err(error) => (None, "unknown", Err(error)),
    };
    let kind = image.as_ref().ok();
    let kind = kind.map(|found| format!("{} × {}", found.channels, found.depth));
    let size = image
        .map(|found| (found.image.width, found.image.height))
        .map_err(|error| match error {
            dinolab_data::Error::BadImage { reason, .. } => reason,
            other => other.to_string(),
        });
    Found {
        content,
        format,
        kind,
        size,
    }
}

fn name_of(format: Option<Format>) -> &'static str {
    match format {
        Some(Format::Jpeg) => "JPEG",
        Some(Format::Png) => "PNG",
        Some(Format::WebP) => "WebP",
        Some(Format::Tiff) => "TIFF",
        Some(Format::Bmp) => "BMP",
        Some(Format::Unsupported(name)) => name,
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
    let mut formats = BTreeMap::new();
    let mut channels = BTreeMap::new();
    let mut classes: BTreeMap<String, usize> = BTreeMap::new();
    let mut same: BTreeMap<(u128, u64), Vec<usize>> = BTreeMap::new();
    let mut unreadable = Vec::new();
    for class in source.classes() {
        classes.insert(class.clone(), 0);
    }
    for (index, found) in found.iter().enumerate() {
        *formats.entry(found.format).or_default() += 1;
        if let Some(kind) = &found.kind {
            *channels.entry(kind.clone()).or_default() += 1;
        }
        let class = source.label(index).and_then(|l| source.classes().get(l));
        if let Some(count) = class.and_then(|class| classes.get_mut(class)) {
            *count += 1;
        }
        if let Some(content) = found.content {
            same.entry(content).or_default().push(index);
        }
        if let Err(reason) = &found.size {
            unreadable.push(Unreadable {
                name: source.name(index),
                reason: reason.clone(),
            });
        }
    }
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
        channels,
        classes,
        duplicates: duplicates.into_iter().map(names).collect(),
        unreadable,
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
    for (kind, count) in &report.channels {
        table.row([Cell::Text(format!("channels {kind}")), Cell::count(*count)]);
    }
    for (class, count) in &report.classes {
        table.row([Cell::Text(format!("class {class}")), Cell::count(*count)]);
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
