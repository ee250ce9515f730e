//! What evaluations are made from: weights and images, or features saved earlier.

use std::path::Path;

use dinolab_data::augment::{Filter, eval};
use dinolab_data::source::SourceOptions;
use dinolab_data::{Image, Size, Source};
use dinolab_features::{BlockFeatures, Features, Preprocess, View, at_once};
use dinolab_nn::{Backbone, Feature, check_patches};

use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::event::Event;
use crate::feature_set::{FeatureSet, labels_file};
use crate::model::{Model, ModelOptions};
use crate::sources;

/// What is taken of a network, in place of the feature that its weights were trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct FeatureChoice {
    /// Feature of an image: class (the class token), patches (the mean of the patch tokens) or both
    /// [default: what the weights were trained on]
    #[cfg_attr(feature = "clap", arg(long, value_name = "FEATURE"))]
    pub feature: Option<Feature>,
    /// Concatenate the features of the last N blocks [default: 4 in eval linear and transfer, else
    /// 1]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub n_last_blocks: Option<usize>,
    /// Use the class tokens of these blocks and the mean patch token of the last one, as
    /// facebookresearch/dino does for ViT-B [default: false]
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "BOOL", num_args = 1, action = clap::ArgAction::Set)
    )]
    pub avgpool_patchtokens: Option<bool>,
}

impl FeatureChoice {
    /// What is taken of `model`; of so many `blocks` if it does not say of how many.
    ///
    /// # Errors
    /// More blocks than the network has; averaged patches that are asked for twice.
    pub fn of(&self, model: &Model, blocks: usize) -> Result<BlockFeatures> {
        let avgpool_patchtokens = self.avgpool_patchtokens == Some(true);
        let default = match model.backbone.as_block_tokens() {
            Some(_) => blocks,
            None => 1,
        };
        let features = BlockFeatures {
            n_last_blocks: self.n_last_blocks.unwrap_or(default),
            avgpool_patchtokens,
            feature: match self.feature {
                Some(feature) => feature,
                // Whatever the weights were trained on: the reference knows the class token.
                None if avgpool_patchtokens => Feature::Class,
                None => model.feature,
            },
        };
        features.check(&model.backbone)?;
        Ok(features)
    }
}

/// How images are brought to the network's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct PreprocessOptions {
    /// Resize the shorter side to this, or resize to cover HEIGHTxWIDTH [default: the run's, or 256]
    #[cfg_attr(feature = "clap", arg(long, value_name = "PX"))]
    pub resize: Option<Size>,
    /// Centre-crop to this size, or to HEIGHTxWIDTH [default: the run's, or 224]
    #[cfg_attr(feature = "clap", arg(long, value_name = "PX"))]
    pub crop: Option<Size>,
    /// Batch size for inference
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 32))]
    pub batch_size: usize,
}

impl PreprocessOptions {
    /// The model's own, with these in its place.
    pub fn of(&self, model: &Model) -> Preprocess {
        let mut preprocess = model.preprocess.clone();
        preprocess.resize = self.resize.unwrap_or(preprocess.resize);
        preprocess.crop = self.crop.unwrap_or(preprocess.crop);
        preprocess
    }
}

/// How features are made if they are not given.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureOptions<'a> {
    /// The weights `W`; needed for images, not for saved features.
    pub weights: Option<&'a Path>,
    /// How their network is made.
    pub model: ModelOptions,
    /// What is taken of it.
    pub choice: FeatureChoice,
    /// How images are prepared.
    pub preprocess: PreprocessOptions,
}

impl FeatureOptions<'_> {
    fn weights(&self) -> Result<&Path> {
        self.weights
            .context("`weights` W is required to compute features")
    }

    /// The network, for images of any kind.
    ///
    /// # Errors
    /// As of [`Model::load`]; no weights.
    pub fn load(&self, env: &Environment<'_>) -> Result<Model> {
        Model::load(env, self.weights()?, &self.model)
    }

    /// The network, for 8-bit RGB.
    ///
    /// # Errors
    /// As of [`Model::load_rgb`]; no weights.
    pub fn load_rgb(&self, env: &Environment<'_>) -> Result<Model> {
        Model::load_rgb(env, self.weights()?, &self.model)
    }
}

/// Features that were saved, or images that features are made of.
#[derive(Clone, Copy, Debug)]
pub struct FeatureInput<'a> {
    /// The setting that names it; empty for an argument.
    pub setting: &'static str,
    /// A file of features, or a source of images.
    pub path: &'a Path,
}

/// Features of all images of a source, in the order of their names; of whole images brought to `size`
/// (bicubic, the aspect ratio not kept) if there is one. Images that cannot be used are told of and
/// left out.
///
/// # Errors
/// Images of too many patches, a machine that cannot be reached, features that are not finite.
pub fn features_of(
    env: &Environment<'_>,
    model: &Model,
    source: &dyn Source,
    preprocess: &Preprocess,
    size: Option<Size>,
    batch_size: usize,
    blocks: BlockFeatures,
) -> Result<FeatureSet> {
    let features = computed(env, model, source, preprocess, size, batch_size, blocks)?.of_some()?;
    report_skipped(env, &features.skipped, source);
    Ok(FeatureSet::of_source(features, source))
}

/// As [`features_of`], but that no image can be used is no error.
///
/// # Errors
/// As [`features_of`].
pub fn usable_features_of(
    env: &Environment<'_>,
    model: &Model,
    source: &dyn Source,
    preprocess: &Preprocess,
    size: Option<Size>,
    batch_size: usize,
    blocks: BlockFeatures,
) -> Result<FeatureSet> {
    let features = computed(env, model, source, preprocess, size, batch_size, blocks)?;
    report_skipped(env, &features.skipped, source);
    Ok(FeatureSet::of_source(features, source))
}

/// Features of the images that can be used.
fn computed(
    env: &Environment<'_>,
    model: &Model,
    source: &dyn Source,
    preprocess: &Preprocess,
    size: Option<Size>,
    batch_size: usize,
    blocks: BlockFeatures,
) -> Result<Features> {
    blocks.check(&model.backbone)?;
    let patch = model.backbone.stride();
    let batch_size = match size {
        Some(size) => {
            check_patches(size.height, size.width, patch).of_setting("size", "")?;
            at_once(batch_size, (size.height, size.width), patch)
        }
        None => {
            let crop = preprocess.crop;
            check_patches(crop.height, crop.width, patch).of_setting("crop", crop)?;
            batch_size
        }
    };
    let order = by_name(source);
    let progress = env.progress("image", order.len());
    let mut heard = |done| progress.set(done, "");
    let backbone = &model.backbone;
    let features = match size {
        None => {
            blocks.embed_usable(backbone, source, &order, preprocess, batch_size, &mut heard)?
        }
        Some(Size { height, width }) => {
            let view = |_, image: &Image| Ok(eval::resize(image, width, height, Filter::Bicubic)?);
            let view = (&view as &View, preprocess);
            blocks.embed_usable_views(backbone, source, &order, view, batch_size, &mut heard)?
        }
    };
    progress.finish();
    Ok(features)
}

/// The images of a source in the order of their names.
pub fn by_name(source: &dyn Source) -> Vec<usize> {
    let mut order: Vec<usize> = (0..source.len()).collect();
    order.sort_by_cached_key(|&index| source.name(index));
    order
}

/// Tells of images that could not be used, with the reasons and their number.
pub(crate) fn report_skipped(
    env: &Environment<'_>,
    skipped: &[(usize, String)],
    source: &dyn Source,
) {
    env.skipped(skipped, |index| source.name(index));
    env.skipped_in_all(skipped.len());
}

/// The rows of a set that have a label, for protocols that need one.
///
/// # Errors
/// A set without labels.
pub fn labelled(
    env: &Environment<'_>,
    set: FeatureSet,
    input: FeatureInput<'_>,
) -> Result<FeatureSet> {
    if set.labels.is_none() {
        return Err(no_labels(input));
    }
    let all = set.len();
    let (set, without) = set.labelled();
    unlabelled(env, input, without, all);
    Ok(set)
}

/// The error of a set without labels.
pub(crate) fn no_labels(input: FeatureInput<'_>) -> Error {
    let FeatureInput { setting, path } = input;
    let reason = format!(
        "has no labels; put each class of images in its own folder, or the classes of saved \
         features in {}, a line each",
        labels_file(path).display()
    );
    let path = path.display();
    match setting {
        "" => Error::Invalid(format!("{path}: {reason}")),
        setting => Error::OfSetting {
            setting,
            value: path.to_string(),
            source: Box::new(Error::Invalid(reason)),
        },
    }
}

/// Reports images that are left out since they have no label, if there are any.
pub(crate) fn unlabelled(
    env: &Environment<'_>,
    FeatureInput { setting, path }: FeatureInput<'_>,
    without: usize,
    all: usize,
) {
    if without > 0 {
        env.events.hear(Event::Unlabelled {
            setting,
            set: path,
            without,
            all,
        });
    }
}

/// Refuses options that saved features cannot follow.
///
/// # Errors
/// A feature that is asked for.
pub(crate) fn of_saved(options: &FeatureOptions<'_>) -> Result<()> {
    match options.choice.feature {
        None => Ok(()),
        Some(feature) => {
            let reason = "is made of images, and saved features are what they are";
            Err(Error::setting("feature", feature, reason))
        }
    }
}

/// Several sets of features, all of one width.
///
/// # Errors
/// Files and images that cannot be read; images and no weights.
pub fn feature_sets<const N: usize>(
    env: &Environment<'_>,
    inputs: [FeatureInput<'_>; N],
    options: &FeatureOptions<'_>,
) -> Result<[FeatureSet; N]> {
    let mut loaded: Option<Model> = None;
    let mut sets = Vec::with_capacity(N);
    for FeatureInput { setting, path } in inputs {
        if FeatureSet::is_saved(path, &env.remote).of_argument(setting)? {
            sets.push(FeatureSet::load(path, &env.remote).of_argument(setting)?);
            continue;
        }
        let network = match &mut loaded {
            Some(network) => network,
            none => none.insert(options.load(env).with_context(|| {
                let images = format!("`{setting}` {} holds images, not features", path.display());
                images.replace("`` ", "")
            })?),
        };
        let most = SourceOptions::default().max_pixels;
        let source = sources::open_as(env, path, most, network.pixels()).of_argument(setting)?;
        let wanted = options.preprocess.of(network);
        sets.push(features_of(
            env,
            network,
            &*source,
            &wanted,
            None,
            options.preprocess.batch_size,
            options.choice.of(network, 1)?,
        )?);
    }
    if loaded.is_none() {
        of_saved(options)?;
    }
    let dims: Vec<usize> = sets.iter().map(|set| set.dim).collect();
    ensure!(
        dims.windows(2).all(|pair| pair[0] == pair[1]),
        "the features are of different widths: {dims:?}"
    );
    Ok(sets.try_into().expect("one set per path"))
}
