//! `dinolab embed`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_data::Size;
use dinolab_eval::network::BlockFeatures;
use dinolab_run::Environment;
use dinolab_run::embed::{EmbedRequest, embed};
use dinolab_run::feature_input::{CLASS_TOKEN, PreprocessOptions};
use dinolab_run::values::size;

use crate::args::ModelArgs;

/// Compute feature vectors of images
///
/// Example: dinolab embed --weights runs/photos photos --out photos.npy
///
/// Writes one row per image, in sorted path order, and next to it the paths (photos.paths.txt)
/// and, where there are labels, the classes (photos.labels.txt).
/// Images that cannot be used are left out and listed.
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
    /// Concatenate the class tokens of the last N blocks, as `eval linear` takes 4
    #[arg(long, value_name = "N", default_value_t = CLASS_TOKEN.n_last_blocks)]
    n_last_blocks: usize,
    /// Add the mean of the last block's patch tokens: true or false
    #[arg(long, value_name = "BOOL", default_value_t = CLASS_TOKEN.avgpool_patchtokens, action = clap::ArgAction::Set)]
    avgpool_patchtokens: bool,
    /// Write the patch tokens of each image, [images, rows, columns, width], instead of one row
    #[arg(long, conflicts_with = "avgpool_patchtokens")]
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
        blocks: BlockFeatures {
            n_last_blocks: args.n_last_blocks,
            avgpool_patchtokens: args.avgpool_patchtokens,
        },
        patch_tokens: args.patch_tokens,
        whole: args.whole,
        preprocess: args.preprocess,
        weights: args.model.weights(),
        model: args.model.options(),
    };
    outln!("{}", embed(env, &request)?);
    Ok(())
}
