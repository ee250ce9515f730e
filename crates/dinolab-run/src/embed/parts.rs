//! Features of very many images, embedded part by part: by several processes, in any order and as often as it
//! takes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use dinolab_data::Source;
use dinolab_data::source::{SourceOptions, Subset};
use dinolab_eval::knn::l2_normalise;

use super::EmbedRequest;
use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::feature_input::{by_name, usable_features_of};
use crate::feature_set::parts::{FeatureType, Hash, Manifest, Part, PartFolder, Shard, is_whole};
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
    /// Number of images per Parquet file
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "N", default_value_t = 10_000, requires = "format")
    )]
    pub part_size: usize,
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
        )
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
    let (part_size, kind, shard) = (options.part_size, options.feature_type, options.shard()?);
    ensure_setting!(part_size > 0, "part-size", part_size, "must be at least 1");
    ensure_setting!(
        !request.options.whitening.whiten,
        "whiten",
        "",
        "a transform is fitted to all images, and a part has some of them; fit it to a sample with \
         `whiten` and give its file here with `whitening`"
    );
    ensure_setting!(
        !request.options.patch_tokens,
        "patch-tokens",
        "",
        "go to .npy or .safetensors"
    );
    let folder = &PartFolder::open(request.out, &env.remote)?;
    let model = Model::load(env, request.weights, &request.model)?;
    let most = SourceOptions::default().max_pixels;
    let source = sources::open_as(env, request.images, most, model.pixels())?;
    let blocks = request.options.choice.of(&model, 1)?;
    let preprocess = request.options.preprocess.of(&model);
    let order = by_name(&*source);
    let manifest = manifest(request, &model, &*source, &order, (part_size, kind))?;
    let identity = manifest.claim(folder)?;
    let parts = manifest.parts();
    let mut done = EmbeddedParts {
        folder: request.out.to_owned(),
        images: order.len(),
        parts,
        written: 0,
        there: 0,
        skipped: 0,
    };
    for part in shard.of(parts) {
        if is_whole(folder, &identity, part)? {
            done.there += 1;
            continue;
        }
        let images = &order[part * part_size..order.len().min((part + 1) * part_size)];
        let subset = Subset::new(Arc::clone(&source), images.to_vec())?;
        let mut features = usable_features_of(
            env,
            &model,
            &subset,
            &preprocess,
            request.options.size,
            request.options.preprocess.batch_size,
            blocks,
        )?;
        if request.options.whitening.is_on() && !features.is_empty() {
            l2_normalise(&mut features.data, features.dim)?;
            if let Some(whitening) = request.options.whitening.of(&features.data, features.dim)? {
                whitening.apply(&mut features.data)?;
            }
        }
        let names: Vec<String> = images.iter().map(|&index| source.name(index)).collect();
        let labelled = !source.classes().is_empty();
        let part = Part::new(&identity, part, kind, &names, features, labelled);
        done.skipped += part.skipped.len();
        part.write(folder)?;
        done.written += 1;
    }
    Ok(done)
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
        feature: request.options.choice.of(model, 1)?,
        kind,
        precision: request.model.precision,
        preprocess: request.options.preprocess.of(model),
        size: request.options.size.map(|size| size.to_string()),
        whitening,
        ..Manifest::default()
    })
}
