//! `dinolab embed`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_data::Size;
use dinolab_run::Environment;
use dinolab_run::embed::{EmbedRequest, embed};
use dinolab_run::feature_input::{FeatureChoice, PreprocessOptions};
use dinolab_run::values::size;

use dinolab_run::whitening::WhiteningOptions;

use crate::args::ModelArgs;

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
/// With --patch-tokens, writes one vector per patch instead, as an array [images, rows, columns,
/// width]: dinolab embed --weights runs/photos photos --out tokens.npy --patch-tokens
#[derive(clap::Args)]
pub struct Args {
    /// Images: a folder, list, tar file or shards, Parquet file, VOC tree or a single image
    images: PathBuf,
    /// Output file, .npy or .safetensors
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Resize whole images to a square of this side, or to HEIGHTxWIDTH, instead of cropping the
    /// centre
    #[arg(long, value_name = "PX", value_parser = size, conflicts_with_all = ["resize", "crop"])]
    size: Option<Size>,
    #[command(flatten)]
    choice: FeatureChoice,
    #[command(flatten)]
    whitening: WhiteningOptions,
    /// Write the patch tokens of each image instead of one feature vector
    #[arg(long, conflicts_with_all = ["feature", "avgpool_patchtokens", "whiten", "whitening"])]
    patch_tokens: bool,
    /// With --patch-tokens: do not crop; write one array [rows, columns, width] per image, named by
    /// its path (.safetensors only)
    #[arg(long, requires = "patch_tokens", conflicts_with_all = ["size", "crop"])]
    whole: bool,
    #[command(flatten)]
    preprocess: PreprocessOptions,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let request = EmbedRequest {
        images: &args.images,
        out: &args.out,
        size: args.size,
        choice: args.choice,
        whitening: args.whitening.clone(),
        patch_tokens: args.patch_tokens,
        whole: args.whole,
        preprocess: args.preprocess,
        weights: args.model.weights(),
        model: args.model.options(),
    };
    outln!("{}", embed(env, &request)?);
    Ok(())
}
