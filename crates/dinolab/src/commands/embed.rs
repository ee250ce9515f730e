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
/// Writes one row per image, in sorted path order, and next to it the paths (photos.paths.txt)
/// and, where there are labels, the classes (photos.labels.txt).
/// Images that cannot be used are left out and listed.
///
/// With --whiten, features are whitened, and photos.whitening.safetensors does the same to others:
/// dinolab embed --weights runs/photos more --whitening photos.whitening.safetensors --out more.npy
///
/// With --patch-tokens, one token per patch instead: dinolab embed --weights runs/photos photos
/// --out tokens.npy --patch-tokens writes [images, rows, columns, width].
#[derive(clap::Args)]
pub struct Args {
    /// A folder, list, tar or VOC tree, or one image
    images: PathBuf,
    /// .npy or .safetensors
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Resize whole images to SIDE or HEIGHTxWIDTH instead of cropping their centre
    #[arg(long, value_name = "PX", value_parser = size, conflicts_with_all = ["resize", "crop"])]
    size: Option<Size>,
    #[command(flatten)]
    choice: FeatureChoice,
    #[command(flatten)]
    whitening: WhiteningOptions,
    /// Write the patch tokens of each image, [images, rows, columns, width], instead of one row
    #[arg(long, conflicts_with_all = ["feature", "avgpool_patchtokens", "whiten", "whitening"])]
    patch_tokens: bool,
    /// With --patch-tokens: do not crop the centre, and write one array per image, [rows,
    /// columns, width], by its path (.safetensors)
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
