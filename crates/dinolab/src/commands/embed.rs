//! `dinolab embed`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use dinolab_data::augment::{Filter, eval};
use dinolab_data::source::SourceOptions;
use dinolab_data::{Image, Source};
use dinolab_eval::feature_set::{FeatureSet, labels_file, names_file};
use dinolab_eval::network::BlockFeatures;
use dinolab_eval::network::patch_tokens::{Layout, PatchTokens};
use dinolab_eval::network::{Preprocess, View, at_once, whole_patches};
use dinolab_nn::check_patches;

use crate::inputs::{CLASS_TOKEN, PreprocessArgs, block_features_of, by_name, tell_left_out};
use crate::model::{Model, ModelArgs};
use crate::progress::Progress;
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
///
/// With --patch-tokens, one token per patch instead: dinolab embed --weights runs/photos photos
/// --out tokens.npy --patch-tokens writes [images, rows, columns, width].
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
    /// Write the patch tokens of each image, [images, rows, columns, width], instead of one row
    #[arg(long, conflicts_with = "avgpool_patchtokens")]
    patch_tokens: bool,
    /// With --patch-tokens: do not cut out the centre, and write one array per image, [rows,
    /// columns, width], by its path (.safetensors)
    #[arg(long, requires = "patch_tokens", conflicts_with_all = ["size", "crop"])]
    whole: bool,
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
    ensure_usage!(
        !args.whole || args.out.extension().is_some_and(|ext| ext == "safetensors"),
        "--out {}: with --whole, images of different sizes go to a file that ends in .safetensors",
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
    if args.patch_tokens {
        return patch_tokens(args, &model, &*source, &preprocess);
    }
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

/// `--patch-tokens`.
fn patch_tokens(
    args: &Args,
    model: &Model,
    source: &dyn Source,
    preprocess: &Preprocess,
) -> Result<()> {
    let vit = &model.vit;
    let patch = vit.config().patch_size;
    let Preprocess { resize, crop, .. } = *preprocess;
    // Whole images are as large as their aspect ratio makes them, but at least this.
    let seen = match args.size {
        Some(Size(height, width)) => (height, width),
        None if args.whole => (resize.height, resize.width),
        None => (crop.height, crop.width),
    };
    let flag = if args.whole {
        "--resize"
    } else if args.size.is_some() {
        "--size"
    } else {
        "--crop"
    };
    check_patches(seen.0, seen.1, patch).context(flag)?;
    let centre = |_: usize, image: &Image| Ok(eval::features(image, resize, crop)?);
    let squeezed = |_: usize, image: &Image| {
        let (height, width) = seen;
        Ok(eval::resize(image, width, height, Filter::Bicubic)?)
    };
    let whole = |_: usize, image: &Image| {
        let (width, height) = eval::covering(image.width, image.height, resize);
        check_patches(height, width, patch).map_err(|error| dinolab_eval::Error::Invalid {
            what: "image",
            reason: format!("{error}; --size HEIGHTxWIDTH in place of --whole makes them equal"),
        })?;
        let resized = eval::resize(image, width, height, Filter::Bicubic)?;
        whole_patches(&resized, None, patch)
    };
    let (view, layout): (&View, _) = match args.size {
        _ if args.whole => (&whole, Layout::PerImage),
        Some(_) => (&squeezed, Layout::Joint),
        None => (&centre, Layout::Joint),
    };
    let order = by_name(source);
    let mut progress = Progress::new("image", order.len() as u64, 0);
    let tokens = PatchTokens {
        n_last_blocks: args.n_last_blocks,
    };
    let written = tokens.write(
        vit,
        source,
        &order,
        (view, preprocess),
        at_once(args.preprocess.batch_size(), seen, patch),
        (&args.out, layout),
        &mut |done| progress.set(done as u64, ""),
    )?;
    progress.finish();
    tell_left_out(&written.skipped, source);
    let out = args.out.display();
    let (count, dim) = (written.indices.len(), written.dim);
    match (layout, written.grid) {
        (Layout::Joint, Some((rows, columns))) => {
            outln!("patch tokens [{count}, {rows}, {columns}, {dim}] in {out}")
        }
        _ => outln!("patch tokens of {count} images, [rows, columns, {dim}] each, in {out}"),
    }
    outln!(
        "their paths in {}; {} images skipped",
        names_file(&args.out).display(),
        written.skipped.len()
    );
    if written.labelled {
        outln!("their classes in {}", labels_file(&args.out).display());
    }
    Ok(())
}
