//! Which images to train on, and which to judge by.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use dinolab_data::shapes::{Shapes, ShapesOptions};
use dinolab_data::source::{self, SourceOptions, Subset};
use dinolab_data::{Pixels, Source};

use crate::remote;
use crate::settings::Settings;

/// The seed of the shapes that are only looked at, never trained on.
const SHAPES_VAL: u64 = 1 << 32;

/// Images to train on and images to judge by.
pub struct Sources {
    /// Trained on; also the bank of k-NN.
    pub train: Arc<dyn Source>,
    /// Judged by, where there are labels or a `--val`.
    pub val: Option<Arc<dyn Source>>,
    /// In words.
    pub description: String,
}

/// Opens a source of the command line.
pub fn open(path: &Path, max_pixels: u64) -> Result<Arc<dyn Source>> {
    open_as(path, max_pixels, Pixels::Rgb)
}

/// [`open`] for images of a kind.
pub fn open_as(path: &Path, max_pixels: u64, pixels: Pixels) -> Result<Arc<dyn Source>> {
    open_with(path, &options(max_pixels, pixels))
}

/// [`open`] with all choices made; tells what the source left out or decided, once.
pub fn open_with(path: &Path, options: &SourceOptions) -> Result<Arc<dyn Source>> {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let source: Arc<dyn Source> = Arc::from(source::open(path, options)?);
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    for note in source.notes() {
        let line = format!("note: {}: {note}", path.display());
        // The same source may serve for several things.
        if told.insert(line.clone()) {
            errln!("{line}");
        }
    }
    Ok(source)
}

/// The choices for images of a kind.
pub fn options(max_pixels: u64, pixels: Pixels) -> SourceOptions {
    SourceOptions {
        max_pixels,
        pixels,
        remote: remote::options(),
        ..Default::default()
    }
}

/// The images of a source that have a label; says how many have none. All of a source without labels.
pub fn labelled(source: Arc<dyn Source>, path: &Path) -> Result<Arc<dyn Source>> {
    let with: Vec<usize> = (0..source.len())
        .filter(|&index| source.label(index).is_some())
        .collect();
    if source.classes().is_empty() || with.len() == source.len() {
        return Ok(source);
    }
    errln!(
        "{}: {} of {} images have no label and are left out",
        path.display(),
        source.len() - with.len(),
        source.len()
    );
    Ok(Arc::new(Subset::new(source, with)?))
}

/// Shapes that runs of the same `seed` look at and never train on.
pub fn unseen_shapes(seed: u64, count: usize, size: usize) -> Result<Shapes> {
    let options = ShapesOptions {
        size,
        ..Default::default()
    };
    Ok(Shapes::with_options(seed + SHAPES_VAL, count, options)?)
}

impl Sources {
    /// The sources that `settings` ask for. No path means the built-in shapes.
    pub fn of(settings: &Settings) -> Result<Self> {
        let images = settings.images.clone().unwrap_or_default();
        let seed = settings.seed.unwrap_or(0);
        if images.as_os_str().is_empty() {
            anyhow::ensure!(
                settings.pixels() == Pixels::Rgb,
                "the built-in shapes are 8-bit RGB: --in-chans and --pixels need IMAGES"
            );
            let options = ShapesOptions {
                size: settings.shapes_size.unwrap_or(64),
                ..Default::default()
            };
            let count = settings.shapes_images.unwrap_or(4096);
            anyhow::ensure!(count > 0, "--shapes-images 0: must be at least 1");
            let train = Shapes::with_options(seed, count, options.clone())?;
            let val = unseen_shapes(seed, (count / 8).clamp(64, 1024), options.size)?;
            let description = format!("{count} images of the built-in shapes set");
            return Ok(Self {
                train: Arc::new(train),
                val: Some(Arc::new(val)),
                description,
            });
        }
        let max_pixels = settings
            .max_pixels
            .unwrap_or(SourceOptions::default().max_pixels);
        let pixels = settings.pixels();
        let all = open_as(&images, max_pixels, pixels)?;
        let labelled = !all.classes().is_empty();
        let found = format!("{} images in {}", all.len(), images.display());
        let given = settings.val.clone().unwrap_or_default();
        if !given.as_os_str().is_empty() {
            let val = open_as(&given, max_pixels, pixels).context("--val")?;
            let description = format!("{found}; judged on {} in {}", val.len(), given.display());
            return Ok(Self {
                train: all,
                val: Some(val),
                description,
            });
        }
        let holdout = settings.holdout.unwrap_or(0.1);
        if labelled && holdout > 0.0 && all.len() >= 20 {
            let (train, val) = source::split(all, holdout, seed)?;
            let description = format!(
                "{found}; {} of them held out to judge k-NN by (--holdout 0 trains on all)",
                val.len()
            );
            return Ok(Self {
                train: Arc::new(train),
                val: Some(Arc::new(val)),
                description,
            });
        }
        Ok(Self {
            train: all,
            val: None,
            description: found,
        })
    }
}
