//! What evaluations are made from: weights and images, or features saved earlier.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use dinolab_data::augment::{Filter, eval};
use dinolab_data::source::SourceOptions;
use dinolab_data::{Image, Size as Extent, Source};
use dinolab_eval::feature_set::{FeatureSet, labels_file};
use dinolab_eval::network::BlockFeatures;
use dinolab_eval::network::{Features, Preprocess, View, at_once};
use dinolab_nn::check_patches;

use crate::model::{Model, OptionalModelArgs};
use crate::progress::Progress;
use crate::sources;
use crate::values::Size;

/// The network's feature: the last block's class token.
pub const CLASS_TOKEN: BlockFeatures = BlockFeatures {
    n_last_blocks: 1,
    avgpool_patchtokens: false,
};

/// How images are brought to the network's size.
#[derive(clap::Args)]
pub struct PreprocessArgs {
    /// Bring the shortest side to this first, or cover HEIGHTxWIDTH [default: the run's, or 256]
    #[arg(long)]
    resize: Option<Extent>,
    /// Cut out the centre of this side, or HEIGHTxWIDTH [default: the run's, or 224]
    #[arg(long)]
    crop: Option<Extent>,
    /// Images through the network at a time
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
}

impl PreprocessArgs {
    /// The model's own, where the flags do not say otherwise.
    pub fn of(&self, model: &Model) -> Preprocess {
        let mut preprocess = model.preprocess.clone();
        preprocess.resize = self.resize.unwrap_or(preprocess.resize);
        preprocess.crop = self.crop.unwrap_or(preprocess.crop);
        preprocess
    }

    /// Images through the network at a time.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }
}

/// Class tokens of all images of a source, in the order of their names; images that cannot be
/// used are told on standard error and left out.
pub fn features_of(
    model: &Model,
    source: &dyn Source,
    preprocess: &Preprocess,
    batch_size: usize,
) -> Result<FeatureSet> {
    block_features_of(model, source, preprocess, None, batch_size, CLASS_TOKEN)
}

/// [`features_of`] of other tokens; of whole images brought to `size` (bicubic, the aspect ratio not
/// kept) where there is one.
pub fn block_features_of(
    model: &Model,
    source: &dyn Source,
    preprocess: &Preprocess,
    size: Option<Size>,
    batch_size: usize,
    blocks: BlockFeatures,
) -> Result<FeatureSet> {
    blocks.check(&model.vit)?;
    let patch = model.vit.config().patch_size;
    let batch_size = match size {
        Some(Size(height, width)) => {
            check_patches(height, width, patch).context("--size")?;
            at_once(batch_size, (height, width), patch)
        }
        None => {
            let crop = preprocess.crop;
            check_patches(crop.height, crop.width, patch)
                .with_context(|| format!("--crop {crop}"))?;
            batch_size
        }
    };
    let order = by_name(source);
    let mut progress = Progress::new("image", order.len() as u64, 0);
    let mut heard = |done| progress.set(done as u64, "");
    let vit = &model.vit;
    let features = match size {
        None => blocks.embed(vit, source, &order, preprocess, batch_size, &mut heard)?,
        Some(Size(height, width)) => {
            let view = |_, image: &Image| Ok(eval::resize(image, width, height, Filter::Bicubic)?);
            let view = (&view as &View, preprocess);
            blocks.embed_views(vit, source, &order, view, batch_size, &mut heard)?
        }
    };
    progress.finish();
    tell_skipped(&features, source);
    Ok(FeatureSet::of_source(features, source))
}

/// The images of a source in the order of their names.
pub fn by_name(source: &dyn Source) -> Vec<usize> {
    let mut order: Vec<usize> = (0..source.len()).collect();
    order.sort_by_key(|&index| source.name(index));
    order
}

/// Names the images that could not be used.
pub fn tell_skipped(features: &Features, source: &dyn Source) {
    tell_left_out(&features.skipped, source);
}

/// Names images that could not be used, with the reasons.
pub fn tell_left_out(skipped: &[(usize, String)], source: &dyn Source) {
    for (index, reason) in skipped {
        errln!("skipped {}: {reason}", source.name(*index));
    }
    if !skipped.is_empty() {
        errln!("{} images skipped", skipped.len());
    }
}

/// The rows of a set that have a label, for protocols that need one. The set was given as `flag`
/// `path`.
pub fn labelled(set: FeatureSet, flag: &str, path: &Path) -> Result<FeatureSet> {
    let name = format!("{flag} {}", path.display());
    let name = name.trim_start();
    ensure!(
        set.labels.is_some(),
        "{name}: has no labels; put each class of images in a folder of its own, or the \
         classes of saved features in {}, a line each",
        labels_file(path).display()
    );
    let all = set.len();
    let (set, without) = set.labelled();
    if without > 0 {
        errln!("{name}: {without} of {all} images have no label and are left out");
    }
    Ok(set)
}

/// Several sets of features; each path is a file of features or a source of images, for which
/// the network is loaded, once.
pub fn feature_sets<const N: usize>(
    paths: [(&'static str, &Path); N],
    model: &OptionalModelArgs,
    preprocess: &PreprocessArgs,
) -> Result<[FeatureSet; N]> {
    let mut loaded: Option<Model> = None;
    let mut sets = Vec::with_capacity(N);
    for (flag, path) in paths {
        if FeatureSet::is_file_of(path) {
            sets.push(FeatureSet::read(path).context(flag)?);
            continue;
        }
        let network = match &mut loaded {
            Some(network) => network,
            none => none.insert(model.load_any().with_context(|| {
                format!("{flag} {} holds images, not features", path.display())
            })?),
        };
        let most = SourceOptions::default().max_pixels;
        let source = sources::open_as(path, most, network.pixels()).context(flag)?;
        let wanted = preprocess.of(network);
        sets.push(features_of(
            network,
            &*source,
            &wanted,
            preprocess.batch_size,
        )?);
    }
    let dims: Vec<usize> = sets.iter().map(|set| set.dim).collect();
    ensure!(
        dims.windows(2).all(|pair| pair[0] == pair[1]),
        "the features are of different widths: {dims:?}"
    );
    Ok(sets.try_into().expect("one set per path"))
}
