//! What a source holds: sizes, formats, classes, duplicates, and what cannot be read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use dinolab_data::decode::{Format, MAX_CHANNELS, StoredKind, is_array, sniff, stored_kind};
use dinolab_data::source::{self, SourceOptions};
use dinolab_data::{Pixels, Source, statistics};
use rayon::prelude::*;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use crate::environment::Environment;
use crate::error::Result;
use crate::sources;
use crate::table::{Cell, Report, Table};

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

/// The range of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// The least.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

/// An image that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What a source holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InspectReport {
    /// Images, usable or not.
    pub images: usize,
    /// Of their files.
    pub bytes: u64,
    /// In pixels, as they are trained on (upright).
    pub width: Option<Range>,
    /// In pixels, as they are trained on (upright).
    pub height: Option<Range>,
    /// Width times height.
    pub megapixels: Option<Range>,
    /// Images by the format of their file.
    pub formats: BTreeMap<&'static str, usize>,
    /// Images by the channels and bits that their file holds.
    pub stored: BTreeMap<String, usize>,
    /// Of each channel, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<Vec<f64>>,
    /// Standard deviation of each channel, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<Vec<f64>>,
    /// Images by class.
    pub classes: BTreeMap<String, usize>,
    /// Groups of files that are the same byte for byte.
    pub duplicates: Vec<Vec<String>>,
    /// Images that cannot be used.
    pub unreadable: Vec<Unreadable>,
    /// Images that have no label, if others have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<usize>,
    /// What the source left out, or decided about labels.
    pub notes: Vec<String>,
}

/// Reads and decodes every image of a source; with `statistics` the mean and standard deviation of each
/// channel are measured too.
///
/// # Errors
/// A source that cannot be opened, a machine that cannot be reached.
pub fn inspect(
    env: &Environment<'_>,
    path: &Path,
    pixels: Pixels,
    statistics: bool,
) -> Result<InspectReport> {
    ensure_setting!(
        (1..=MAX_CHANNELS).contains(&pixels.channels()),
        "in-chans",
        pixels.channels(),
        "must be between 1 and {MAX_CHANNELS}"
    );
    let most = SourceOptions::default().max_pixels;
    // Its notes are a part of the report.
    let source = source::open(path, &sources::options(env, most, pixels))?;
    let progress = env.progress("image", source.len());
    let done = AtomicUsize::new(0);
    let found = (0..source.len())
        .into_par_iter()
        .map(|index| {
            let found = look(&*source, index)?;
            progress.set(done.fetch_add(1, Ordering::Relaxed) + 1, "");
            Ok(found)
        })
        .collect::<dinolab_data::Result<Vec<Found>>>()?;
    progress.finish();
    let mut report = report(&*source, &found);
    if statistics {
        let threads = rayon::current_num_threads();
        let found = statistics::measure(&*source, source.len(), 0, threads, &|_| {})?;
        report.mean = Some(found.mean);
        report.std = Some(found.std);
    }
    Ok(report)
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

fn report(source: &dyn Source, found: &[Found]) -> InspectReport {
    let sizes: Vec<(usize, usize)> = found
        .iter()
        .filter_map(|found| found.size.as_ref().ok().copied())
        .collect();
    let spread = |of: &dyn Fn(&(usize, usize)) -> f64| {
        let mut values: Vec<f64> = sizes.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        Some(Range {
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
    InspectReport {
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

impl Report for InspectReport {
    fn table(&self) -> Table {
        let mut table = Table::new(["", "count", "min", "median", "max"]);
        table.row(["images".into(), Cell::count(self.images)]);
        for (name, spread, decimals) in [
            ("width", &self.width, 0),
            ("height", &self.height, 0),
            ("megapixels", &self.megapixels, 3),
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
        for (format, count) in &self.formats {
            table.row([Cell::Text(format!("format {format}")), Cell::count(*count)]);
        }
        for (kind, count) in &self.stored {
            table.row([Cell::Text(format!("files of {kind}")), Cell::count(*count)]);
        }
        for (class, count) in &self.classes {
            table.row([Cell::Text(format!("class {class}")), Cell::count(*count)]);
        }
        if let Some(count) = self.unlabelled {
            table.row(["without a class".into(), Cell::count(count)]);
        }
        table.row([
            "groups of duplicates".into(),
            Cell::count(self.duplicates.len()),
        ]);
        table.row(["unusable".into(), Cell::count(self.unreadable.len())]);
        table
    }
}
