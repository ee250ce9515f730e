//! Features of very many images, embedded part by part: by several processes, in any order and as often as it
//! takes.

mod tokens;
mod whitened;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use dinolab_data::Source;
use dinolab_data::source::{SourceOptions, Subset};
use dinolab_eval::knn::l2_normalise;

use super::{EmbedRequest, check_whitening};
use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::feature_input::{by_name, usable_features_of};
use crate::feature_set::FeatureSet;
use crate::feature_set::parts::{
    FeatureType, Grid, Hash, Manifest, Part, PartFolder, Shard, is_whole,
};
use crate::model::Model;
use crate::sources;

/// How a folder of parts is filled.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "clap", command(next_help_heading = "Parts"))]
pub struct PartOptions {
    /// Output format; parquet writes a resumable folder that several processes can fill
    #[cfg_attr(feature = "clap", arg(long, value_name = "FORMAT"))]
    pub format: Option<PartFormat>,
    /// Write shard K of N [default: from the Slurm array, else 1/1]
    #[cfg_attr(feature = "clap", arg(long, value_name = "K/N", requires = "format"))]
    pub shard: Option<Shard>,
    /// Number of images per Parquet file [default: 10000, or 100 with --patch-tokens]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", requires = "format"))]
    pub part_size: Option<usize>,
    /// Type in which to store features
    #[cfg_attr(
        feature = "clap",
        arg(
            long,
            value_name = "TYPE",
            value_enum,
            default_value_t,
            requires = "format"
        )
    )]
    pub feature_type: FeatureType,
}

/// The format of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum PartFormat {
    /// Parquet.
    Parquet,
}

impl PartOptions {
    /// The share of this process: as asked for, or as a Slurm array says.
    ///
    /// # Errors
    /// An array whose numbers do not follow each other.
    pub fn shard(&self) -> Result<Shard> {
        if let Some(shard) = self.shard {
            return Ok(shard);
        }
        let found = Shard::of_slurm(|name| std::env::var(name).ok());
        let found = found.map_err(|reason| Error::setting("shard", "", reason))?;
        Ok(found.unwrap_or(Shard::WHOLE))
    }
}

/// What a process did; in words by [`Display`](fmt::Display).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedParts {
    /// The folder.
    pub folder: PathBuf,
    /// Images of the whole set.
    pub images: usize,
    /// Parts of the whole set.
    pub parts: usize,
    /// Parts that were written.
    pub written: usize,
    /// Parts that were there already.
    pub there: usize,
    /// Images that could not be used, of the parts that were written.
    pub skipped: usize,
    /// Parts of other processes that the whitening waits for.
    pub waits_for: usize,
}

impl fmt::Display for EmbeddedParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} parts written in {}, {} were there; the set has {} images in {} parts; {} images skipped",
            self.written,
            self.folder.display(),
            self.there,
            self.images,
            self.parts,
            self.skipped
        )?;
        match self.waits_for {
            0 => Ok(()),
            parts => write!(
                f,
                "\nnot whitened yet: {parts} parts of other processes are missing; run the same command again when \
                 they are there"
            ),
        }
    }
}

/// Embeds the parts of this process's share that are not in the folder yet. A second process at the same part does harm to
/// nobody: both write the same file, each under a name of its own until it is whole.
///
/// # Errors
/// Images or weights that cannot be used; a folder of another set, other weights or another preparation; a file
/// that cannot be written.
pub fn embed_parts(
    env: &Environment<'_>,
    request: &EmbedRequest<'_>,
    options: &PartOptions,
) -> Result<EmbeddedParts> {
    let default = match request.options.patch_tokens {
        true => TOKEN_PART,
        false => FEATURE_PART,
    };
    let part_size = options.part_size.unwrap_or(default);
    let (kind, shard) = (options.feature_type, options.shard()?);
    ensure_setting!(part_size > 0, "part-size", part_size, "must be at least 1");
    check_whitening(&request.options)?;
    let folder = &PartFolder::open(request.out, &env.remote)?;
    let model = Model::load(env, request.weights, &request.model)?;
    let most = SourceOptions::default().max_pixels;
    let source = sources::open_as(env, request.images, most, model.pixels())?;
    let order = by_name(&*source);
    let manifest = manifest(request, &model, &*source, &order, (part_size, kind))?;
    let work = Work {
        env,
        request,
        model: &model,
        source,
        order,
        shard,
    };
    if request.options.patch_tokens {
        return work.tokens(folder, manifest);
    }
    match request.options.whitening.whiten {
        true => work.whitened(folder, manifest),
        false => work.features(folder, &manifest),
    }
}

/// Images of a part, by default.
const FEATURE_PART: usize = 10_000;
/// Those of a part of patch tokens, of which an image has hundreds.
const TOKEN_PART: usize = 100;

/// The rows of a part.
struct PartRows {
    rows: FeatureSet,
    /// Of patch tokens whose grids differ: the grid of each row.
    grids: Vec<Grid>,
}

impl From<FeatureSet> for PartRows {
    fn from(rows: FeatureSet) -> Self {
        let grids = Vec::new();
        Self { rows, grids }
    }
}

/// A set of images and what embeds it.
struct Work<'a> {
    env: &'a Environment<'a>,
    request: &'a EmbedRequest<'a>,
    model: &'a Model,
    source: Arc<dyn Source>,
    /// The images in the order of their names.
    order: Vec<usize>,
    shard: Shard,
}

impl Work<'_> {
    /// Writes the features of this process's parts, whitened by the transform that is read, if there is one.
    fn features(&self, folder: &PartFolder, manifest: &Manifest) -> Result<EmbeddedParts> {
        let (request, model) = (self.request, self.model);
        let options = &request.options;
        let preprocess = options.preprocess.of(model);
        self.fill(folder, manifest, |images| {
            let mut features = usable_features_of(
                self.env,
                model,
                images,
                &preprocess,
                options.size,
                options.preprocess.batch_size,
                manifest.feature,
            )?;
            if options.whitening.whitening.is_some() && !features.is_empty() {
                l2_normalise(&mut features.data, features.dim)?;
                if let Some(whitening) = options.whitening.of(&features.data, features.dim)? {
                    whitening.apply(&mut features.data)?;
                }
            }
            Ok(features.into())
        })
    }

    /// Writes those of this process's parts that are not there, with the rows that `of` makes of their images.
    fn fill(
        &self,
        folder: &PartFolder,
        manifest: &Manifest,
        of: impl Fn(&dyn Source) -> Result<PartRows>,
    ) -> Result<EmbeddedParts> {
        let identity = manifest.claim(folder)?;
        let mut done = self.begun(folder, manifest);
        for part in self.shard.of(manifest.parts()) {
            if is_whole(folder, &identity, part)? {
                done.there += 1;
                continue;
            }
            let images = self.images_of(part, manifest);
            let subset = Subset::new(Arc::clone(&self.source), images.to_vec())?;
            let PartRows { rows, grids } = of(&subset)?;
            let mut part = Part::new(
                &identity,
                part,
                manifest.kind,
                &self.names(images),
                rows,
                !self.source.classes().is_empty(),
            );
            if let Some(shape) = manifest.patch_tokens {
                part = part.of_tokens(shape, grids);
            }
            done.skipped += part.skipped.len();
            part.write(folder)?;
            done.written += 1;
        }
        Ok(done)
    }

    /// The images of a part.
    fn images_of(&self, part: usize, manifest: &Manifest) -> &[usize] {
        let first = part * manifest.part_size;
        &self.order[first..self.order.len().min(first + manifest.part_size)]
    }

    fn names(&self, images: &[usize]) -> Vec<String> {
        let names = images.iter().map(|&index| self.source.name(index));
        names.collect()
    }

    /// Nothing is done yet.
    fn begun(&self, folder: &PartFolder, manifest: &Manifest) -> EmbeddedParts {
        EmbeddedParts {
            folder: PathBuf::from(folder.to_string()),
            images: self.order.len(),
            parts: manifest.parts(),
            written: 0,
            there: 0,
            skipped: 0,
            waits_for: 0,
        }
    }
}

/// What the folder will be of.
fn manifest(
    request: &EmbedRequest<'_>,
    model: &Model,
    source: &dyn Source,
    order: &[usize],
    (part_size, kind): (usize, FeatureType),
) -> Result<Manifest> {
    let mut names = Hash::default();
    for &index in order {
        names.name(&source.name(index));
    }
    let whitening = request.options.whitening.whitening.as_deref();
    let whitening = whitening.map(|path| {
        let bytes = std::fs::read(path);
        bytes.with_context(|| path.display().to_string())
    });
    let whitening = whitening.transpose()?.map(|bytes| {
        let mut hash = Hash::default();
        hash.bytes(&bytes);
        hash.digits()
    });
    Ok(Manifest {
        images: order.len(),
        part_size,
        names: names.digits(),
        weights: Manifest::hash_of(&model.backbone),
        feature: match request.options.patch_tokens {
            true => tokens::blocks(request, model)?,
            false => request.options.choice.of(model, 1)?,
        },
        kind,
        precision: request.model.precision,
        preprocess: request.options.preprocess.of(model),
        size: request.options.size.map(|size| size.to_string()),
        whitening,
        ..Manifest::default()
    })
}
