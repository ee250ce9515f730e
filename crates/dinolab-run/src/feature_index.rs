//! Features of a set of images that are kept between calls.

mod index;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinolab_data::{Source, source};
use dinolab_eval::knn::l2_normalise;
use dinolab_features::{BlockFeatures, Preprocess};
use dinolab_nn::{Feature, Parameters};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use self::index::{FileFingerprint, Index};
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::event::Event;
use crate::hub;
use crate::model::Model;

/// New images after which the file is written for the first time in between.
const SAVE_AFTER: usize = 4096;

/// Images with their features, of unit length.
pub struct IndexedImages {
    /// Where the images are from.
    pub source: Arc<dyn Source>,
    /// The source's index of each row.
    pub rows: Vec<usize>,
    /// Width of a feature, `D`.
    pub dim: usize,
    /// `[N, D]`.
    pub features: Vec<f32>,
    /// Images whose features were made now.
    pub embedded: usize,
    /// Images that could not be used.
    pub skipped: usize,
    /// The file that they are kept in; `None` where it could not be written.
    pub path: Option<PathBuf>,
}

/// Brings the index of `source` up to date: what is new is embedded, what is gone is dropped.
///
/// # Errors
/// A machine that cannot be reached; no image that can be used. That the file cannot be written is
/// told as [`Event::IndexNotKept`].
pub fn open(
    env: &Environment<'_>,
    source: Arc<dyn Source>,
    (model, features): (&Model, BlockFeatures),
    preprocess: &Preprocess,
    precision: &str,
    path: PathBuf,
    batch_size: usize,
) -> Result<IndexedImages> {
    let key = key(model, features, preprocess, precision)?;
    let stamps = (0..source.len())
        .map(|index| stamp(&*source, index))
        .collect::<Vec<_>>();
    let old = match Index::read(&path) {
        Ok(old) => old.unwrap_or_default(),
        Err(error) => {
            env.warn(&format!("{error}; rebuilding it"));
            Index::default()
        }
    };
    let plan = old.compare(&key, &stamps);
    let mut index = Index {
        key,
        dim: features.dim(&model.backbone),
        ..Index::default()
    };
    let mut rows = Vec::with_capacity(stamps.len());
    for &(place, row) in &plan.known {
        index.push(stamps[place].clone(), old.row(row))?;
        rows.push(place);
    }
    drop(old);

    let mut save = Saver::default();
    let progress = env.progress("image", plan.new.len());
    let (mut done, mut skipped) = (0, 0);
    for part in plan.new.chunks(batch_size.max(1) * 16) {
        let before = done;
        let mut made = features.embed_usable(
            &model.backbone,
            &*source,
            part,
            preprocess,
            batch_size,
            &mut |now| progress.set(before + now, ""),
        )?;
        done += part.len();
        l2_normalise(&mut made.data, made.dim)?;
        for (&place, feature) in made.indices.iter().zip(made.data.chunks_exact(made.dim)) {
            index.push(stamps[place].clone(), feature)?;
            rows.push(place);
        }
        env.skipped(&made.skipped, |place| source.name(place));
        skipped += made.skipped.len();
        if save.due(index.fingerprints.len(), part.len()) {
            save.write(env, &index, &path);
        }
    }
    progress.finish();
    env.skipped_in_all(skipped);
    ensure!(!rows.is_empty(), "no image can be used");
    let embedded = plan.new.len() - skipped;
    if embedded > 0 || plan.gone > 0 {
        save.write(env, &index, &path);
    }
    let path = (!save.failed).then_some(path);
    Ok(in_order(source, index, rows, embedded, skipped, path))
}

/// Rows in the order of the source, whatever was known before.
fn in_order(
    source: Arc<dyn Source>,
    index: Index,
    rows: Vec<usize>,
    embedded: usize,
    skipped: usize,
    path: Option<PathBuf>,
) -> IndexedImages {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| rows[row]);
    IndexedImages {
        features: order
            .iter()
            .flat_map(|&row| index.row(row))
            .copied()
            .collect(),
        rows: order.iter().map(|&row| rows[row]).collect(),
        dim: index.dim,
        source,
        embedded,
        skipped,
        path,
    }
}

/// Writes now and then while an index grows, the less often the larger it is.
#[derive(Default)]
struct Saver {
    since: usize,
    /// Whether the last attempt failed.
    failed: bool,
    told: bool,
}

impl Saver {
    fn due(&mut self, rows: usize, added: usize) -> bool {
        self.since += added;
        self.since >= SAVE_AFTER.max(rows / 4)
    }

    fn write(&mut self, env: &Environment<'_>, index: &Index, path: &Path) {
        self.since = 0;
        // The answer does not need the file.
        let written = index.write(path);
        self.failed = written.is_err();
        if let Err(error) = written
            && !std::mem::replace(&mut self.told, true)
        {
            env.events.hear(Event::IndexNotKept(&error));
        }
    }
}

/// Where the index of `images` for the weights `W` is by default: in the run's folder, next to the weight file,
/// or next to the files of a model of the hub in its cache.
pub fn default_path(weights: &Path, images: &Path) -> PathBuf {
    let of_hub = hub::folder_for_results(weights);
    let weights = of_hub.as_deref().unwrap_or(weights);
    let mut home = match weights.is_dir() || of_hub.is_some() {
        true => weights,
        false => weights.parent().unwrap_or(Path::new("")),
    };
    // A checkpoint belongs to a run.
    if home.file_name().is_some_and(|name| name == "checkpoints") {
        home = home.parent().unwrap_or(home);
    }
    let whole = match source::is_remote(images) {
        true => images.to_path_buf(),
        false => std::path::absolute(images).unwrap_or_else(|_| images.into()),
    };
    let whole = whole.canonicalize().unwrap_or(whole);
    let name = whole.file_stem().unwrap_or_default().to_string_lossy();
    // File systems take 255 bytes, and a character has up to four.
    let plain: String = name
        .chars()
        .take(50)
        .map(|c| if c.is_alphanumeric() { c } else { '-' })
        .collect();
    let digest = xxh3_64(whole.as_os_str().as_encoded_bytes()) as u32;
    home.join("index")
        .join(format!("{plain}-{digest:08x}.safetensors"))
}

/// What the features depend on, apart from the images.
fn key(
    model: &Model,
    features: BlockFeatures,
    preprocess: &Preprocess,
    precision: &str,
) -> Result<String> {
    let mut hash = Xxh3::new();
    model.backbone.visit("", &mut |name, param| {
        hash.update(name.as_bytes());
        for value in param.to_vec() {
            hash.update(&value.to_le_bytes());
        }
    });
    let mut key = serde_json::json!({
        "weights": format!("{:032x}", hash.digest128()),
        // Without their kind: indexes from before there were several stay valid.
        "network": model.backbone.config().sizes(),
        "preprocess": serde_json::to_value(preprocess)?,
        "precision": precision,
    });
    // Indexes from before there was a choice are of class tokens, and stay valid.
    if features != Feature::Class.into() {
        key["features"] = serde_json::to_value(features)?;
    }
    serde_json::to_string(&key).context("the key of the index")
}

fn stamp(source: &dyn Source, index: usize) -> FileFingerprint {
    let (size, modified) = source.stamp(index).unwrap_or_default();
    FileFingerprint {
        name: source.name(index),
        size,
        modified,
    }
}
