//! `dinolab embed`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_data::source::SourceOptions;
use dinolab_eval::block_features::BlockFeatures;
use dinolab_eval::feature_set::{FeatureSet, labels_file, names_file};

use crate::inputs::{CLASS_TOKEN, PreprocessArgs, block_features_of};
use crate::model::ModelArgs;
use crate::results::check_out;
use crate::sources;
use crate::values::Size;

/// Turns images into feature vectors
///
/// Example: dinolab embed --weights runs/photos photos --out photos.npy
///
/// Writes one row per image, in sorted path order, and beside it the paths (photos.paths.txt)
/// and, where there are labels, the classes (photos.labels.txt).
/// Images that cannot be used are left out and listed.
#[derive(clap::Args)]
pub struct Args {
    /// A folder, list, tar or VOC tree, or one image
    images: PathBuf,
    /// .npy or .safetensors
    #[arg(long)]
    out: PathBuf,
    /// Bring whole images to SIDE or HEIGHTxWIDTH instead of cutting out their centre
    #[arg(long, conflicts_with_all = ["resize", "crop"])]
    size: Option<Size>,
    /// Concatenate the class tokens of so many last blocks, as `eval linear` takes 4
    #[arg(long, default_value_t = CLASS_TOKEN.n_last_blocks)]
    n_last_blocks: usize,
    /// Add the mean of the last block's patch tokens: true or false
    #[arg(long, value_name = "BOOL", default_value_t = CLASS_TOKEN.avgpool_patchtokens, action = clap::ArgAction::Set)]
    avgpool_patchtokens: bool,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    ensure_usage!(
        FeatureSet::is_file_of(&args.out),
        "--out {}: must end in .npy or .safetensors",
        args.out.display()
    );
    check_out(&args.out)?;
    let model = args.model.load_any()?;
    let most = SourceOptions::default().max_pixels;
    let source = sources::open_as(&args.images, most, model.pixels())?;
    let preprocess = args.preprocess.of(&model);
    let blocks = BlockFeatures {
        n_last_blocks: args.n_last_blocks,
        avgpool_patchtokens: args.avgpool_patchtokens,
    };
    let batch_size = args.preprocess.batch_size();
    let features = block_features_of(&model, &*source, &preprocess, args.size, batch_size, blocks)?;
    features.write(&args.out)?;
    outln!(
        "{} features of width {} in {}, their paths in {}; {} images skipped",
        features.len(),
        features.dim,
        args.out.display(),
        names_file(&args.out).display(),
        source.len() - features.len()
    );
    if features.labels.is_some() {
        outln!("their classes in {}", labels_file(&args.out).display());
    }
    Ok(())
}
