//! `dinolab embed`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinolab_data::source::SourceOptions;
use dinolab_eval::features::{Features, embed};
use dinolab_eval::npy::write_npy_f32;
use dinolab_nn::weights::{Array, to_bytes};

use crate::model::ModelArgs;
use crate::progress::Progress;
use crate::sources;

/// Turns images into feature vectors
///
/// Example: dinolab embed --weights runs/photos photos --out photos.npy
///
/// Writes one row per image, in sorted path order, and the paths beside it (photos.paths.txt).
/// Images that cannot be used are left out and listed.
#[derive(clap::Args)]
pub struct Args {
    /// A folder, list, tar or VOC tree, or one image
    images: PathBuf,
    /// .npy or .safetensors
    #[arg(long)]
    out: PathBuf,
    /// Bring the shortest side to this first [default: the run's, or 256]
    #[arg(long)]
    resize: Option<usize>,
    /// Cut out the centre of this side [default: the run's, or 224]
    #[arg(long)]
    crop: Option<usize>,
    /// Images through the network at a time
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let kind = args
        .out
        .extension()
        .and_then(|ext| ext.to_str())
        .unwrap_or_default();
    if !matches!(kind, "npy" | "safetensors") {
        bail!(
            "--out {}: must end in .npy or .safetensors",
            args.out.display()
        );
    }
    let source = sources::open(&args.images, SourceOptions::default().max_pixels)?;
    let model = args.model.load()?;
    let mut preprocess = model.preprocess;
    preprocess.resize = args.resize.unwrap_or(preprocess.resize);
    preprocess.crop = args.crop.unwrap_or(preprocess.crop);

    let mut order: Vec<usize> = (0..source.len()).collect();
    order.sort_by_key(|&index| source.name(index));
    let mut progress = Progress::new("image", order.len() as u64, 0);
    let features = embed(
        &model.vit,
        &*source,
        &order,
        &preprocess,
        args.batch_size,
        &mut |done| {
            progress.set(done as u64, "");
        },
    )?;
    progress.finish();
    for (index, reason) in &features.skipped {
        eprintln!("skipped {}: {reason}", source.name(*index));
    }
    write(&args.out, kind, &features)?;
    let names: String = features
        .indices
        .iter()
        .map(|&i| source.name(i) + "\n")
        .collect();
    let paths = args.out.with_extension("paths.txt");
    fs::write(&paths, names).with_context(|| format!("cannot write {}", paths.display()))?;
    println!(
        "{} features of width {} in {}, their paths in {}; {} images skipped",
        features.indices.len(),
        features.dim,
        args.out.display(),
        paths.display(),
        features.skipped.len()
    );
    Ok(())
}

fn write(path: &Path, kind: &str, features: &Features) -> Result<()> {
    let shape = [features.indices.len(), features.dim];
    if kind == "npy" {
        return Ok(write_npy_f32(path, &shape, &features.data)?);
    }
    let array = Array {
        shape: shape.to_vec(),
        data: features.data.clone(),
    };
    let arrays = BTreeMap::from([("features".to_owned(), array)]);
    let bytes = to_bytes(&arrays, &BTreeMap::new())?;
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
