//! Which images to train on, and which to evaluate on.

use std::path::Path;
use std::sync::Arc;

use dinolab_data::shapes::{Shapes, ShapesOptions};
use dinolab_data::source::{self, SourceOptions, Subset};
use dinolab_data::{Pixels, Source};

use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::event::Event;
use crate::settings::Settings;

/// The seed of the shapes that are only looked at, never trained on.
const SHAPES_VAL: u64 = 1 << 32;

/// Images to train on and images to evaluate on.
pub struct Sources {
    /// Trained on; also the bank of k-NN.
    pub train: Arc<dyn Source>,
    /// Evaluated on, if there are labels or validation images of their own.
    pub val: Option<Arc<dyn Source>>,
    /// In words.
    pub description: String,
    /// Whether the validation images were held out of those to train on.
    pub held_out: bool,
}

/// The one way from an argument to images: opens a folder, list, archive, Parquet file or tree of 8-bit
/// RGB.
///
/// # Errors
/// A place that is not there, or holds no image.
pub fn open(env: &Environment<'_>, path: &Path) -> Result<Arc<dyn Source>> {
    open_as(env, path, SourceOptions::default().max_pixels, Pixels::Rgb)
}

/// [`open`] for images of a kind, of at most `max_pixels` each.
///
/// # Errors
/// As of [`open`].
pub fn open_as(
    env: &Environment<'_>,
    path: &Path,
    max_pixels: u64,
    pixels: Pixels,
) -> Result<Arc<dyn Source>> {
    open_with(env, path, &options(env, max_pixels, pixels))
}

/// [`open`] with all choices made. What the source left out or decided is told as
/// [`Event::Note`]s.
///
/// # Errors
/// As of [`open`].
pub fn open_with(
    env: &Environment<'_>,
    path: &Path,
    options: &SourceOptions,
) -> Result<Arc<dyn Source>> {
    let source: Arc<dyn Source> = Arc::from(source::open(path, options)?);
    for note in source.notes() {
        let note = note.to_string();
        env.events.hear(Event::Note {
            source: path,
            note: &note,
        });
    }
    Ok(source)
}

/// The choices for images of a kind.
pub fn options(env: &Environment<'_>, max_pixels: u64, pixels: Pixels) -> SourceOptions {
    SourceOptions {
        max_pixels,
        pixels,
        remote: env.remote.clone(),
        ..Default::default()
    }
}

/// The images of a source that have a label; says how many have none. All of a source without labels.
///
/// # Errors
/// A source of which no image has one.
pub fn labelled(
    env: &Environment<'_>,
    source: Arc<dyn Source>,
    path: &Path,
) -> Result<Arc<dyn Source>> {
    let with: Vec<usize> = (0..source.len())
        .filter(|&index| source.label(index).is_some())
        .collect();
    if source.classes().is_empty() || with.len() == source.len() {
        return Ok(source);
    }
    env.events.hear(Event::Unlabelled {
        setting: "",
        set: path,
        without: source.len() - with.len(),
        all: source.len(),
    });
    Ok(Arc::new(Subset::new(source, with)?))
}

/// Shapes that runs of the same `seed` look at and never train on.
///
/// # Errors
/// Sizes out of their range.
pub fn unseen_shapes(seed: u64, count: usize, size: usize) -> Result<Shapes> {
    let options = ShapesOptions {
        size,
        ..Default::default()
    };
    Ok(Shapes::with_options(seed + SHAPES_VAL, count, options)?)
}

impl Sources {
    /// The sources that `settings` ask for. No path means the built-in shapes.
    ///
    /// # Errors
    /// Images that cannot be opened; settings of the built-in shapes out of their range.
    pub fn of(env: &Environment<'_>, settings: &Settings) -> Result<Self> {
        let images = settings.images.clone().unwrap_or_default();
        let seed = settings.seed.unwrap_or(0);
        if images.as_os_str().is_empty() {
            ensure!(
                settings.pixels() == Pixels::Rgb,
                "the built-in shapes are 8-bit RGB: `in-chans` and `pixels` need IMAGES"
            );
            let options = ShapesOptions {
                size: settings.shapes_size.unwrap_or(64),
                ..Default::default()
            };
            let count = settings.shapes_images.unwrap_or(4096);
            ensure_setting!(count > 0, "shapes-images", 0, "must be at least 1");
            let train = Shapes::with_options(seed, count, options.clone())?;
            let val = unseen_shapes(seed, (count / 8).clamp(64, 1024), options.size)?;
            let description = format!("{count} images of the built-in shapes set");
            return Ok(Self {
                train: Arc::new(train),
                val: Some(Arc::new(val)),
                description,
                held_out: false,
            });
        }
        let max_pixels = settings
            .max_pixels
            .unwrap_or(SourceOptions::default().max_pixels);
        let pixels = settings.pixels();
        let all = open_as(env, &images, max_pixels, pixels)?;
        let labelled = !all.classes().is_empty();
        let found = format!("{} images in {}", all.len(), images.display());
        let given = settings.val.clone().unwrap_or_default();
        if !given.as_os_str().is_empty() {
            let val = open_as(env, &given, max_pixels, pixels).of_setting("val", "")?;
            let description = format!("{found}; evaluated on {} in {}", val.len(), given.display());
            return Ok(Self {
                train: all,
                val: Some(val),
                description,
                held_out: false,
            });
        }
        let holdout = settings.holdout.unwrap_or(0.1);
        if labelled && holdout > 0.0 && all.len() >= 20 {
            let (train, val) = source::split(all, holdout, seed)?;
            let description = format!("{found}; {} of them held out for k-NN", val.len());
            return Ok(Self {
                train: Arc::new(train),
                val: Some(Arc::new(val)),
                description,
                held_out: true,
            });
        }
        Ok(Self {
            train: all,
            val: None,
            description: found,
            held_out: false,
        })
    }
}
