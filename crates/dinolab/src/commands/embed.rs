//! `dinolab embed`.

use std::path::PathBuf;

use anyhow::{Context, Result};
#[cfg(feature = "parquet")]
use dinolab_run::embed::parts::{PartOptions, embed_parts};
use dinolab_run::embed::{EmbedOptions, EmbedRequest, embed};
use dinolab_run::{Environment, ModelOptions};

/// Compute feature vectors of images
///
/// Example: dinolab embed --weights runs/photos photos --out photos.npy
///
/// Writes one row per image, sorted by path, and in the same order the paths (photos.paths.txt)
/// and, if there are labels, the classes (photos.labels.txt). Unusable images are left out and
/// listed.
///
/// With --whiten, features are whitened and the transform is written to
/// photos.whitening.safetensors. To apply it to other images: dinolab embed --weights runs/photos
/// more --whitening photos.whitening.safetensors --out more.npy
///
/// With --format parquet (needs --features parquet), writes a folder of Parquet files; to resume, run
/// the same command again: dinolab embed --weights runs/photos photos --out features --format parquet
///
/// With --patch-tokens, writes one vector per patch instead, as an array [images, rows, columns,
/// width]: dinolab embed --weights runs/photos photos --out tokens.npy --patch-tokens
#[derive(clap::Args)]
pub struct Args {
    /// Images: a folder, list, tar file or shards, Parquet file, VOC tree or a single image
    #[arg(required_unless_present = "verify")]
    images: Option<PathBuf>,
    /// Output file, .npy or .safetensors; with --format a folder, also s3://BUCKET/FOLDER
    #[arg(long, value_name = "PATH", required_unless_present = "verify")]
    out: Option<PathBuf>,
    /// Verify that a feature folder contains every image exactly once
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["images", "out", "weights", "EmbedOptions", "ModelOptions"])]
    #[cfg_attr(feature = "parquet", arg(conflicts_with = "PartOptions"))]
    verify: Option<PathBuf>,
    #[command(flatten)]
    options: EmbedOptions,
    #[cfg(feature = "parquet")]
    #[command(flatten)]
    parts: PartOptions,
    /// Run folder, one of its checkpoints, weight file (.pth or .safetensors), model folder or hf:OWNER/NAME
    #[arg(long, value_name = "W", required_unless_present = "verify")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    model: ModelOptions,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    if let Some(folder) = &args.verify {
        let found = dinolab_run::feature_set::verify(env, folder)?;
        anyhow::ensure!(found.is_whole(), "{}: {found}", folder.display());
        outln!("{found}");
        return Ok(());
    }
    let request = EmbedRequest {
        images: args.images.as_deref().context("images are required")?,
        out: args.out.as_deref().context("--out is required")?,
        options: args.options.clone(),
        weights: args.weights.as_deref().context("--weights is required")?,
        model: args.model.clone(),
    };
    #[cfg(feature = "parquet")]
    if args.parts.format.is_some() {
        outln!("{}", embed_parts(env, &request, &args.parts)?);
        return Ok(());
    }
    outln!("{}", embed(env, &request)?);
    Ok(())
}
