//! Images to feature vectors, in a file or in the parts of a folder.

#[cfg(feature = "parquet")]
pub mod parts;
mod token_views;

use std::fmt;
use std::path::{Path, PathBuf};

use dinolab_data::source::SourceOptions;
use dinolab_data::{Image, Size, Source};
use dinolab_eval::knn::l2_normalise;
use dinolab_eval::whitening::Whitening;
use dinolab_features::Preprocess;

use self::token_views::TokenViews;
use crate::environment::Environment;
use crate::error::Result;
use crate::feature_input::{
    FeatureChoice, PreprocessOptions, by_name, features_of, report_skipped,
};
use crate::feature_set::{FeatureSet, labels_file, names_file};
use crate::model::{Model, ModelOptions};
use crate::patch_tokens::{Layout, PatchTokens};
use crate::result_folder::check_out;
use crate::sources;
use crate::whitening::WhiteningOptions;

/// What is embedded, and how.
#[derive(Clone, Debug)]
pub struct EmbedRequest<'a> {
    /// A folder, list, archive or VOC tree.
    pub images: &'a Path,
    /// `.npy` or `.safetensors`; a folder for parts.
    pub out: &'a Path,
    /// What is written.
    pub options: EmbedOptions,
    /// The weights `W`.
    pub weights: &'a Path,
    /// How their network is made.
    pub model: ModelOptions,
}

/// What is written of images.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct EmbedOptions {
    /// Resize whole images to a square of this side, or to HEIGHTxWIDTH, instead of cropping the
    /// centre
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "PX", value_parser = crate::values::size, conflicts_with_all = ["resize", "crop"])
    )]
    pub size: Option<Size>,
    /// What is taken of the network.
    #[cfg_attr(feature = "clap", command(flatten))]
    pub choice: FeatureChoice,
    /// Whether features are whitened, fitted to those that are written.
    #[cfg_attr(feature = "clap", command(flatten))]
    pub whitening: WhiteningOptions,
    /// Write the patch tokens of each image instead of one feature vector
    #[cfg_attr(
        feature = "clap",
        arg(long, conflicts_with_all = ["feature", "avgpool_patchtokens", "whiten", "whitening"])
    )]
    pub patch_tokens: bool,
    /// With --patch-tokens: do not crop; write one array [rows, columns, width] per image (.safetensors or
    /// --format parquet)
    #[cfg_attr(
        feature = "clap",
        arg(long, requires = "patch_tokens", conflicts_with_all = ["size", "crop"])
    )]
    pub whole: bool,
    /// How images are prepared.
    #[cfg_attr(feature = "clap", command(flatten))]
    pub preprocess: PreprocessOptions,
}

/// What was written; in words by [`Display`](fmt::Display).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Images.
    pub images: usize,
    /// Width of a feature.
    pub width: usize,
    /// What the file holds.
    pub kind: EmbeddedKind,
    /// The file.
    pub out: PathBuf,
    /// The file of the images' paths.
    pub names: PathBuf,
    /// The file of the images' classes, if they have some.
    pub labels: Option<PathBuf>,
    /// The file of the whitening, if there was one.
    pub whitening: Option<PathBuf>,
    /// Images that were left out.
    pub skipped: usize,
}

/// What a file of features holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbeddedKind {
    /// One row for each image.
    Rows,
    /// One grid of patch tokens for each image: rows and columns.
    Grids(usize, usize),
    /// One array of patch tokens for each image.
    Arrays,
}

impl fmt::Display for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (images, width, skipped) = (self.images, self.width, self.skipped);
        let (out, names) = (self.out.display(), self.names.display());
        match self.kind {
            EmbeddedKind::Rows => write!(
                f,
                "{images} features of width {width} in {out}, their paths in {names}; {skipped} images \
                 skipped"
            )?,
            EmbeddedKind::Grids(rows, columns) => write!(
                f,
                "patch tokens [{images}, {rows}, {columns}, {width}] in {out}\n\
                 their paths in {names}; {skipped} images skipped"
            )?,
            EmbeddedKind::Arrays => write!(
                f,
                "patch tokens of {images} images, [rows, columns, {width}] each, in {out}\n\
                 their paths in {names}; {skipped} images skipped"
            )?,
        }
        if let Some(labels) = &self.labels {
            write!(f, "\ntheir classes in {}", labels.display())?;
        }
        match &self.whitening {
            Some(whitening) => write!(f, "\nwhitened by the transform in {}", whitening.display()),
            None => Ok(()),
        }
    }
}

/// Embeds.
///
/// # Errors
/// Images or weights that cannot be used, a file that cannot be written.
pub fn embed(env: &Environment<'_>, request: &EmbedRequest<'_>) -> Result<Embedded> {
    let out = request.out;
    ensure_setting!(
        !out.is_dir() && FeatureSet::is_file_of(out),
        "out",
        out.display(),
        "must end in .npy or .safetensors"
    );
    ensure_setting!(
        !request.options.whole || out.extension().is_some_and(|ext| ext == "safetensors"),
        "out",
        out.display(),
        "with `whole`, images of different sizes go to a file that ends in .safetensors, or to `format` parquet"
    );
    check_whitening(&request.options)?;
    check_out(out)?;
    let model = Model::load(env, request.weights, &request.model)?;
    let most = SourceOptions::default().max_pixels;
    let source = sources::open_as(env, request.images, most, model.pixels())?;
    let preprocess = request.options.preprocess.of(&model);
    if request.options.patch_tokens {
        return patch_tokens(env, request, &model, &*source, &preprocess);
    }
    let mut features = features_of(
        env,
        &model,
        &*source,
        &preprocess,
        request.options.size,
        request.options.preprocess.batch_size,
        request.options.choice.of(&model, 1)?,
    )?;
    let whitening = match request.options.whitening.is_on() {
        true => {
            l2_normalise(&mut features.data, features.dim)?;
            request.options.whitening.of(&features.data, features.dim)?
        }
        false => None,
    };
    match &whitening {
        Some(whitening) => {
            whitening.apply(&mut features.data)?;
            features.write_whitened(out, whitening)?;
        }
        None => features.write(out)?,
    }
    Ok(Embedded {
        images: features.len(),
        width: features.dim,
        kind: EmbeddedKind::Rows,
        out: out.to_owned(),
        names: names_file(out),
        labels: features.labels.is_some().then(|| labels_file(out)),
        whitening: whitening.map(|_| Whitening::file_of(out)),
        skipped: source.len() - features.len(),
    })
}

/// Refuses to whiten patch tokens.
fn check_whitening(options: &EmbedOptions) -> Result<()> {
    ensure_setting!(
        !(options.patch_tokens && options.whitening.is_on()),
        "patch-tokens",
        "",
        "whitening is of one row per image"
    );
    Ok(())
}

fn patch_tokens(
    env: &Environment<'_>,
    request: &EmbedRequest<'_>,
    model: &Model,
    source: &dyn Source,
    preprocess: &Preprocess,
) -> Result<Embedded> {
    let views = TokenViews::of(request, model, preprocess)?;
    let view = |_: usize, image: &Image| views.view(image);
    let layout = match request.options.whole {
        true => Layout::PerImage,
        false => Layout::Joint,
    };
    let order = by_name(source);
    let progress = env.progress("image", order.len());
    let tokens = PatchTokens {
        n_last_blocks: request.options.choice.n_last_blocks.unwrap_or(1),
    };
    let written = tokens.write(
        &model.backbone,
        source,
        &order,
        (&view, preprocess),
        views.at_once(request.options.preprocess.batch_size),
        (request.out, layout),
        &mut |done| progress.set(done, ""),
    )?;
    progress.finish();
    report_skipped(env, &written.skipped, source);
    Ok(Embedded {
        images: written.indices.len(),
        width: written.dim,
        kind: match (layout, written.grid) {
            (Layout::Joint, Some((rows, columns))) => EmbeddedKind::Grids(rows, columns),
            _ => EmbeddedKind::Arrays,
        },
        out: request.out.to_owned(),
        names: names_file(request.out),
        labels: written.labelled.then(|| labels_file(request.out)),
        whitening: None,
        skipped: written.skipped.len(),
    })
}
