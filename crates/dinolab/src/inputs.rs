//! What evaluations are made from: weights and images, or features saved earlier.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use dinolab_data::Source;
use dinolab_data::source::SourceOptions;
use dinolab_eval::feature_set::FeatureSet;
use dinolab_eval::features::{Preprocess, embed, embed_whole};

use crate::model::{Model, OptionalModelArgs};
use crate::progress::Progress;
use crate::sources;
use crate::values::Size;

/// How images are brought to the network's size.
#[derive(clap::Args)]
pub struct PreprocessArgs {
    /// Bring the shortest side to this first [default: the run's, or 256]
    #[arg(long)]
    resize: Option<usize>,
    /// Cut out the centre of this side [default: the run's, or 224]
    #[arg(long)]
    crop: Option<usize>,
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

/// Features of all images of a source, in the order of their names; images that cannot be used
/// are told on standard error and left out.
pub fn features_of(
    model: &Model,
    source: &dyn Source,
    preprocess: &Preprocess,
    batch_size: usize,
) -> Result<FeatureSet> {
    features_of_size(model, source, preprocess, None, batch_size)
}

/// As [`features_of`]; of whole images brought to `size` where there is one.
pub fn features_of_size(
    model: &Model,
    source: &dyn Source,
    preprocess: &Preprocess,
    size: Option<Size>,
    batch_size: usize,
) -> Result<FeatureSet> {
    let mut order: Vec<usize> = (0..source.len()).collect();
    order.sort_by_key(|&index| source.name(index));
    let mut progress = Progress::new("image", order.len() as u64, 0);
    let mut done = |done| progress.set(done as u64, "");
    let vit = &model.vit;
    let features = match size {
        None => embed(vit, source, &order, preprocess, batch_size, &mut done)?,
        Some(Size(height, width)) => {
            let size = (height, width);
            embed_whole(vit, source, &order, preprocess, size, batch_size, &mut done)?
        }
    };
    progress.finish();
    for (index, reason) in &features.skipped {
        eprintln!("skipped {}: {reason}", source.name(*index));
    }
    if !features.skipped.is_empty() {
        eprintln!("{} images skipped", features.skipped.len());
    }
    Ok(FeatureSet::of_source(features, source))
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
        let source = sources::open(path, SourceOptions::default().max_pixels).context(flag)?;
        let network = match &mut loaded {
            Some(network) => network,
            none => none.insert(model.load().with_context(|| {
                format!("{flag} {} holds images, not features", path.display())
            })?),
        };
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
