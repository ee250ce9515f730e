//! Copy detection: whether altered copies are found among distractors.

mod figures;
mod queries;

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use dinolab_data::{Image, Source};
use dinolab_eval::copy::{Attack, CopyScore, Family};
use dinolab_eval::knn::l2_normalise;
use dinolab_eval::whitening::CovarianceAccumulator;
use dinolab_eval::whitening::{Whitening, WhiteningCentre};
use dinolab_features::Features;
use dinolab_features::descriptor::{Descriptor, DescriptorExtractor, View};
use dinolab_files::write_whole;
use dinolab_nn::{Backbone, Feature, check_patches};
use dinolab_view::{Rgb, encode_png};

pub use self::figures::{CopyFigures, CopyReport};
use self::queries::Queries;
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::event::Progress;
use crate::model::{Model, ModelOptions};
use crate::result_folder::ResultFolder;
use crate::{result_names, sources};

/// What is evaluated, and how.
#[derive(Clone, Debug)]
pub struct CopyRequest<'a> {
    /// The originals: a folder, list or archive.
    pub originals: &'a Path,
    /// Copies from files, instead of making them.
    pub queries: Option<&'a Path>,
    /// How many first characters of their names copy and original share.
    pub match_prefix: Option<usize>,
    /// The copies to make.
    pub attacks: Vec<Attack>,
    /// Seed of places and letters.
    pub seed: u64,
    /// A folder that the copies that were made are written into, with a `queries.tsv`.
    pub save_queries: Option<&'a Path>,
    /// Images among which the originals are looked for.
    pub distractors: Option<&'a Path>,
    /// Images to learn PCA whitening from.
    pub whitening: Option<&'a Path>,
    /// What whitening measures deviations from.
    pub whitening_centre: WhiteningCentre,
    /// Side of the square that images are resized to.
    pub imsize: usize,
    /// The class token, the pooled patch tokens, or both, as in the paper.
    pub feature: Feature,
    /// Exponent of the generalised mean over patch tokens.
    pub gem: f64,
    /// Rank cut-off for average precision; 0 for none.
    pub top: usize,
    /// Images through the network at once.
    pub batch_size: usize,
    /// The weights `W`.
    pub weights: &'a Path,
    /// How their network is made.
    pub model: ModelOptions,
}

/// Which copies are made, and how strong they are.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct AttackOptions {
    /// Kinds of copies to make: original, jpeg, crop, blur, contrast, text, flip, rotate
    #[cfg_attr(
        feature = "clap",
        arg(
            long,
            value_name = "KIND,…",
            value_delimiter = ',',
            default_value = "original,jpeg,crop,blur,contrast,text",
            conflicts_with = "queries"
        )
    )]
    pub attacks: Vec<String>,
    /// JPEG qualities, 1–100
    #[cfg_attr(
        feature = "clap",
        arg(
            long,
            value_name = "N,…",
            value_delimiter = ',',
            default_value = "3,5,8,10,15,20,30,50,75"
        )
    )]
    pub jpeg: Vec<f64>,
    /// Shrink images to this fraction of their area before JPEG compression (Copydays: 0.0625)
    #[cfg_attr(feature = "clap", arg(long, value_name = "X", default_value_t = 1.0))]
    pub jpeg_area: f64,
    /// Percentages of the area that crops remove
    #[cfg_attr(
        feature = "clap",
        arg(
            long,
            value_name = "X,…",
            value_delimiter = ',',
            default_value = "10,15,20,30,40,50,60,70,80"
        )
    )]
    pub crop: Vec<f64>,
    /// Standard deviations of Gaussian blur, in percent of the shorter side
    #[cfg_attr(
        feature = "clap",
        arg(
            long,
            value_name = "X,…",
            value_delimiter = ',',
            default_value = "0.5,1,2,4"
        )
    )]
    pub blur: Vec<f64>,
    /// Contrast factors
    #[cfg_attr(
        feature = "clap",
        arg(
            long,
            value_name = "X,…",
            value_delimiter = ',',
            default_value = "0.3,0.6,1.5,2.5"
        )
    )]
    pub contrast: Vec<f64>,
    /// Heights of overlaid text, in percent of the image height
    #[cfg_attr(
        feature = "clap",
        arg(
            long,
            value_name = "X,…",
            value_delimiter = ',',
            default_value = "10,20,40"
        )
    )]
    pub text: Vec<f64>,
    /// Rotation angles in degrees, counter-clockwise
    #[cfg_attr(
        feature = "clap",
        arg(
            long,
            value_name = "X,…",
            value_delimiter = ',',
            default_value = "5,15,90,180",
            allow_hyphen_values = true
        )
    )]
    pub rotate: Vec<f64>,
}

impl AttackOptions {
    /// The copies to make, in the order of the kinds.
    ///
    /// # Errors
    /// A kind that there is not, a strength out of its range, none at all.
    pub fn attacks(&self) -> Result<Vec<Attack>> {
        let mut all = Vec::new();
        for name in &self.attacks {
            let family = Family::ALL
                .into_iter()
                .find(|family| family.name() == name)
                .with_context(|| {
                    let known = Family::ALL.map(Family::name).join(", ");
                    format!("`attacks` {name}: one of {known}")
                })?;
            let strengths: &[f64] = match family {
                Family::Original | Family::Flip => &[0.0],
                Family::Jpeg => &self.jpeg,
                Family::Crop => &self.crop,
                Family::Blur => &self.blur,
                Family::Contrast => &self.contrast,
                Family::Text => &self.text,
                Family::Rotate => &self.rotate,
            };
            for &strength in strengths {
                let attack = Attack::new(family, strength).of_setting(family.name(), "")?;
                all.push(match family {
                    Family::Jpeg => attack.with_jpeg_area(self.jpeg_area)?,
                    _ => attack,
                });
            }
        }
        ensure_setting!(!all.is_empty(), "attacks", "", "none given");
        Ok(all)
    }
}

/// Copies that count together.
struct Block {
    name: String,
    scores: Vec<CopyScore>,
}

/// Evaluates.
///
/// # Errors
/// Images or weights that cannot be used; copies without an original; files that cannot be written.
pub fn evaluate(env: &Environment<'_>, request: &CopyRequest<'_>) -> Result<CopyReport> {
    let model = Model::load_rgb(env, request.weights, &request.model)?;
    let open = |path: &Path| sources::open(env, path);
    let originals = open(request.originals)?;
    let attacks = &request.attacks;
    let queries = request
        .queries
        .map(|path| {
            Queries::open(env, path, &*originals, request.match_prefix).of_setting("queries", "")
        })
        .transpose()?;
    let distractors = request
        .distractors
        .map(|path| open(path).of_setting("distractors", ""))
        .transpose()?;
    let whitening = request
        .whitening
        .map(|path| open(path).of_setting("whitening", ""))
        .transpose()?;
    let colours = (model.preprocess.mean, model.preprocess.std);
    let descriptor = Descriptor::Gem(request.feature, request.gem);
    let imsize = request.imsize;
    check_patches(imsize, imsize, model.backbone.stride()).of_setting("imsize", imsize)?;
    let describer =
        DescriptorExtractor::new(&model.backbone, colours, View::Square(imsize), descriptor)?;

    let extra = [&distractors, &whitening];
    let extra: usize = extra.into_iter().flatten().map(|source| source.len()).sum();
    let asked = queries
        .as_ref()
        .map_or(attacks.len() * originals.len(), Queries::len);
    let mut work = Work {
        describer,
        env,
        batch_size: request.batch_size,
        progress: env.progress("image", originals.len() + extra + asked),
        done: 0,
        whitening: None,
        skipped: 0,
    };
    if let Some(source) = whitening {
        work.whitening = Some(work.learn(&*source, request.whitening_centre)?);
    }
    let known = work.source(&*originals)?;
    ensure!(
        !known.indices.is_empty(),
        "none of the originals can be used"
    );
    let mut database = known.data;
    let mut row_of = vec![None; originals.len()];
    for (row, &index) in known.indices.iter().enumerate() {
        row_of[index] = Some(row);
    }
    let mut distracting = 0;
    if let Some(source) = distractors {
        let found = work.source(&*source)?;
        distracting = found.indices.len();
        database.extend(found.data);
    }
    let top = (request.top > 0).then_some(request.top);
    let judged = |features: &Features, positives: &[Vec<usize>]| {
        CopyScore::of_queries(&database, &features.data, features.dim, positives, top)
    };

    let mut blocks: Vec<Block> = Vec::new();
    match &queries {
        Some(queries) => {
            for (name, members) in &queries.blocks {
                let load = |i: usize| queries.image(members[i].0);
                let name_of = |i: usize| queries.name(members[i].0);
                let found = work.loaded(members.len(), &load, &name_of)?;
                let rows =
                    |originals: &[usize]| originals.iter().filter_map(|&i| row_of[i]).collect();
                let positives: Vec<Vec<usize>> =
                    found.indices.iter().map(|&i| rows(&members[i].1)).collect();
                ensure!(
                    positives.iter().all(|rows| !rows.is_empty()),
                    "the original of a copy in {name} cannot be used"
                );
                blocks.push(Block {
                    name: name.clone(),
                    scores: judged(&found, &positives)?,
                });
            }
        }
        None => {
            let usable = &known.indices;
            let mut lines = String::new();
            let names: Vec<String> = usable.iter().map(|&i| originals.name(i)).collect();
            let paths = result_names::nested(&names, "png");
            let folder = match request.save_queries {
                Some(folder) => Some(Mutex::new(ResultFolder::open(folder)?)),
                None => None,
            };
            for attack in attacks {
                // A folder per alteration, the original's path below it.
                let saved = |i: usize| Path::new(&attack.to_string()).join(&paths[i]);
                let unsaved = Mutex::new(None);
                let load = |i: usize| {
                    let picture = originals.image(usable[i])?;
                    let copy = attack.apply(&picture, request.seed, usable[i] as u64)?;
                    if let Some(folder) = &folder {
                        let bytes = png(&copy)?;
                        let mut folder = folder.lock().unwrap_or_else(|e| e.into_inner());
                        let written = folder.write(saved(i), |path| whole(path, &bytes));
                        if let Err(error) = written {
                            // Not a fault of the image, which would be passed over.
                            let first = &mut *unsaved.lock().unwrap_or_else(|e| e.into_inner());
                            first.get_or_insert(error);
                        }
                    }
                    Ok(copy)
                };
                let name_of = |i: usize| format!("{attack} of {}", names[i]);
                let found = work.loaded(usable.len(), &load, &name_of)?;
                if let Some(error) = unsaved.into_inner().unwrap_or_else(|e| e.into_inner()) {
                    return Err(error);
                }
                for &i in &found.indices {
                    lines += &format!("{}\t{}\t{attack}\n", saved(i).display(), names[i]);
                }
                let positives: Vec<Vec<usize>> = found.indices.iter().map(|&i| vec![i]).collect();
                blocks.push(Block {
                    name: attack.to_string(),
                    scores: judged(&found, &positives)?,
                });
            }
            if let Some(folder) = folder {
                let mut folder = folder.into_inner().unwrap_or_else(|e| e.into_inner());
                folder.write("queries.tsv", |path| whole(path, lines.as_bytes()))?;
            }
        }
    }
    let skipped = work.skipped;
    drop(work);
    env.skipped_in_all(skipped);
    let originals = row_of.iter().flatten().count();
    Ok(figures::report(
        request,
        &blocks,
        [originals, distracting, skipped],
    ))
}

fn whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, |out| out.write_all(bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What is described, one part after the other, with one progress for all.
struct Work<'a> {
    env: &'a Environment<'a>,
    describer: DescriptorExtractor<'a>,
    batch_size: usize,
    progress: Progress<'a>,
    done: usize,
    whitening: Option<Whitening>,
    skipped: usize,
}

impl Work<'_> {
    fn learn(&mut self, source: &dyn Source, spread: WhiteningCentre) -> Result<Whitening> {
        const AT_A_TIME: usize = 1024;
        let mut moments = CovarianceAccumulator::new(self.describer.dim());
        let all: Vec<usize> = (0..source.len()).collect();
        for part in all.chunks(AT_A_TIME) {
            let load = |i: usize| Ok(source.image(part[i])?);
            let found = self.raw(part.len(), &load, &|i| source.name(part[i]))?;
            moments.add(&found.data)?;
        }
        let dim = self.describer.dim();
        if moments.count() < dim {
            self.env.warn(&format!(
                "whitening of {dim} dimensions learned from {} images only",
                moments.count()
            ));
        }
        Ok(Whitening::fit(&moments, spread)?)
    }

    /// Whitened features of unit length of a source's images.
    fn source(&mut self, source: &dyn Source) -> Result<Features> {
        let load = |i: usize| Ok(source.image(i)?);
        self.loaded(source.len(), &load, &|i| source.name(i))
    }

    fn loaded(
        &mut self,
        count: usize,
        load: &(dyn Fn(usize) -> dinolab_features::Result<Image> + Sync),
        name: &dyn Fn(usize) -> String,
    ) -> Result<Features> {
        let mut found = self.raw(count, load, name)?;
        if let Some(whitening) = &self.whitening {
            whitening.apply(&mut found.data)?;
        }
        l2_normalise(&mut found.data, found.dim)?;
        Ok(found)
    }

    fn raw(
        &mut self,
        count: usize,
        load: &(dyn Fn(usize) -> dinolab_features::Result<Image> + Sync),
        name: &dyn Fn(usize) -> String,
    ) -> Result<Features> {
        let all: Vec<usize> = (0..count).collect();
        let before = self.done;
        let progress = &self.progress;
        let found = self
            .describer
            .extract_loaded(&all, self.batch_size, load, &mut |done| {
                progress.set(before + done, "");
            })?;
        self.done += count;
        self.skipped += found.skipped.len();
        self.env.skipped(&found.skipped, name);
        Ok(found)
    }
}

/// An altered image as a PNG file.
fn png(image: &Image) -> dinolab_features::Result<Vec<u8>> {
    let encoded = Rgb::from_image(image).and_then(|picture| encode_png(&picture));
    encoded.map_err(|error| dinolab_features::Error::Invalid {
        what: "image",
        reason: error.to_string(),
    })
}
