//! `dinolab eval copy`.

mod queries;
mod report;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use dinolab_data::source::SourceOptions;
use dinolab_data::{Image, Source};
use dinolab_eval::copy::{Attack, CopyScore, Family, evaluate};
use dinolab_eval::knn::l2_normalise;
use dinolab_eval::network::Features;
use dinolab_eval::network::descriptor::{Descriptor, DescriptorExtractor, View};
use dinolab_eval::whitening::CovarianceAccumulator;
use dinolab_eval::whitening::{Whitening, WhiteningCentre};
use dinolab_files::write_whole;
use dinolab_view::{Rgb, encode_png};

use self::queries::Queries;
use dinolab_nn::check_patches;

use crate::model::ModelArgs;
use crate::progress::Progress;
use crate::results::ResultFolder;
use crate::{result_names, sources};

/// Are altered copies found among distractors? Mean average precision per alteration
///
/// Example: dinolab eval copy --weights W originals --distractors others --whitening more
///
/// Copies are made of the originals, or given: --queries is a folder in which a copy has its
/// original's name (cat.jpg, or cat-1.png), or a .tsv of copy, original and, if wanted, the name
/// of the block that it counts in.
#[derive(clap::Args)]
pub struct Args {
    /// The originals: a folder, list or tar
    originals: PathBuf,
    /// Copies to look up, instead of making them
    #[arg(long, value_name = "IMAGES")]
    queries: Option<PathBuf>,
    /// Copy and original share this many first characters of their names (Copydays' strong: 4)
    #[arg(long, value_name = "CHARACTERS", requires = "queries")]
    match_prefix: Option<usize>,
    /// Kinds of copies to make: original, jpeg, crop, blur, contrast, text, flip, rotate
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "original,jpeg,crop,blur,contrast,text",
        conflicts_with = "queries"
    )]
    attacks: Vec<String>,
    /// Qualities of JPEGs, 1–100
    #[arg(long, value_delimiter = ',', default_value = "3,5,8,10,15,20,30,50,75")]
    jpeg: Vec<f64>,
    /// Share of the surface that pictures are shrunk to before they become JPEGs (Copydays: 0.0625)
    #[arg(long, default_value_t = 1.0)]
    jpeg_area: f64,
    /// Percent of the surface that crops lose
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "10,15,20,30,40,50,60,70,80"
    )]
    crop: Vec<f64>,
    /// Standard deviation of blurs, in percent of the shorter side
    #[arg(long, value_delimiter = ',', default_value = "0.5,1,2,4")]
    blur: Vec<f64>,
    /// Factors of contrast
    #[arg(long, value_delimiter = ',', default_value = "0.3,0.6,1.5,2.5")]
    contrast: Vec<f64>,
    /// Height of letters laid over, in percent of the picture's
    #[arg(long, value_delimiter = ',', default_value = "10,20,40")]
    text: Vec<f64>,
    /// Degrees of rotations, counter-clockwise
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "5,15,90,180",
        allow_hyphen_values = true
    )]
    rotate: Vec<f64>,
    /// Seed of places and letters
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the copies that were made into this folder, with a queries.tsv
    #[arg(long, value_name = "DIR", conflicts_with = "queries")]
    save_queries: Option<PathBuf>,
    /// Images among which the originals are looked for
    #[arg(long, value_name = "IMAGES")]
    distractors: Option<PathBuf>,
    /// Images to learn PCA whitening from; none without it
    #[arg(long, value_name = "IMAGES")]
    whitening: Option<PathBuf>,
    /// What the whitening measures spread about: origin (as the reference) or mean
    #[arg(long, default_value = "origin", value_parser = ["origin", "mean"])]
    whitening_about: String,
    /// Side of the square that images are brought to
    #[arg(long, default_value_t = 320)]
    imsize: usize,
    /// Exponent of the generalised mean over patch tokens
    #[arg(long, default_value_t = 4.0)]
    gem: f64,
    /// Places that count; 0: all
    #[arg(long, default_value_t = 20)]
    top: usize,
    /// Images through the network at a time
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// Copies that count together.
struct Block {
    name: String,
    scores: Vec<CopyScore>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let model = args.model.load()?;
    let open = |path: &Path| sources::open(path, SourceOptions::default().max_pixels);
    let originals = open(&args.originals)?;
    let attacks = attacks(args)?;
    let queries = args
        .queries
        .as_ref()
        .map(|path| Queries::open(path, &*originals, args.match_prefix).context("--queries"))
        .transpose()?;
    let distractors = args
        .distractors
        .as_ref()
        .map(|path| open(path).context("--distractors"))
        .transpose()?;
    let whitening = args
        .whitening
        .as_ref()
        .map(|path| open(path).context("--whitening"))
        .transpose()?;
    let colours = (model.preprocess.mean, model.preprocess.std);
    let descriptor = Descriptor::ClassAndGem(args.gem);
    check_patches(args.imsize, args.imsize, model.vit.config().patch_size)
        .with_context(|| format!("--imsize {}", args.imsize))?;
    let describer =
        DescriptorExtractor::new(&model.vit, colours, View::Square(args.imsize), descriptor)?;

    let extra = [&distractors, &whitening];
    let extra: usize = extra.into_iter().flatten().map(|source| source.len()).sum();
    let asked = queries
        .as_ref()
        .map_or(attacks.len() * originals.len(), Queries::len);
    let mut work = Work {
        describer,
        batch_size: args.batch_size,
        progress: Progress::new("image", (originals.len() + extra + asked) as u64, 0),
        done: 0,
        whitening: None,
        skipped: 0,
    };
    if let Some(source) = whitening {
        let centre = match args.whitening_about.as_str() {
            "mean" => WhiteningCentre::Mean,
            _ => WhiteningCentre::Origin,
        };
        work.whitening = Some(work.learn(&*source, centre)?);
    }
    let known = work.source(&*originals)?;
    ensure!(!known.indices.is_empty(), "no original can be used");
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
    let top = (args.top > 0).then_some(args.top);
    let judged = |features: &Features, positives: &[Vec<usize>]| {
        evaluate(&database, &features.data, features.dim, positives, top)
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
            let folder = match &args.save_queries {
                Some(folder) => Some(Mutex::new(ResultFolder::open(folder)?)),
                None => None,
            };
            for attack in &attacks {
                // A folder per alteration, the original's path below it.
                let saved = |i: usize| Path::new(&attack.to_string()).join(&paths[i]);
                let unsaved = Mutex::new(None);
                let load = |i: usize| {
                    let picture = originals.image(usable[i])?;
                    let copy = attack.apply(&picture, args.seed, usable[i] as u64)?;
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
    work.progress.finish();
    if work.skipped > 0 {
        errln!("{} images skipped", work.skipped);
    }
    let skipped = work.skipped;
    report::report(
        args,
        &blocks,
        [row_of.iter().flatten().count(), distracting, skipped],
    )
}

/// An altered image as a PNG file.
fn png(image: &Image) -> dinolab_eval::Result<Vec<u8>> {
    let encoded = Rgb::from_image(image).and_then(|picture| encode_png(&picture));
    encoded.map_err(|error| dinolab_eval::Error::Invalid {
        what: "image",
        reason: error.to_string(),
    })
}

fn whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, |out| out.write_all(bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What is described, one part after the other, with one progress for all.
struct Work<'a> {
    describer: DescriptorExtractor<'a>,
    batch_size: usize,
    progress: Progress,
    done: usize,
    whitening: Option<Whitening>,
    skipped: usize,
}

impl Work<'_> {
    fn learn(&mut self, source: &dyn Source, centre: WhiteningCentre) -> Result<Whitening> {
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
            errln!(
                "warning: whitening of {dim} dimensions learned from {} images only",
                moments.count()
            );
        }
        Ok(Whitening::learn(&moments, 0.5, centre)?)
    }

    /// Whitened features of length 1 of a source's images.
    fn source(&mut self, source: &dyn Source) -> Result<Features> {
        let load = |i: usize| Ok(source.image(i)?);
        self.loaded(source.len(), &load, &|i| source.name(i))
    }

    fn loaded(
        &mut self,
        count: usize,
        load: &(dyn Fn(usize) -> dinolab_eval::Result<Image> + Sync),
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
        load: &(dyn Fn(usize) -> dinolab_eval::Result<Image> + Sync),
        name: &dyn Fn(usize) -> String,
    ) -> Result<Features> {
        let all: Vec<usize> = (0..count).collect();
        let before = self.done;
        let progress = &mut self.progress;
        let found = self
            .describer
            .extract_loaded(&all, self.batch_size, load, &mut |done| {
                progress.set((before + done) as u64, "");
            })?;
        self.done += count;
        self.skipped += found.skipped.len();
        for (index, reason) in &found.skipped {
            self.progress
                .line(&format!("skipped {}: {reason}", name(*index)));
        }
        Ok(found)
    }
}

/// The copies to make, in the order of the flags.
fn attacks(args: &Args) -> Result<Vec<Attack>> {
    let mut all = Vec::new();
    for name in &args.attacks {
        let family = Family::ALL
            .into_iter()
            .find(|family| family.name() == name)
            .with_context(|| {
                let known = Family::ALL.map(Family::name).join(", ");
                format!("--attacks {name}: one of {known}")
            })?;
        let strengths: &[f64] = match family {
            Family::Original | Family::Flip => &[0.0],
            Family::Jpeg => &args.jpeg,
            Family::Crop => &args.crop,
            Family::Blur => &args.blur,
            Family::Contrast => &args.contrast,
            Family::Text => &args.text,
            Family::Rotate => &args.rotate,
        };
        for &strength in strengths {
            let attack = Attack::new(family, strength).with_context(|| format!("--{name}"))?;
            all.push(match family {
                Family::Jpeg => attack.with_jpeg_area(args.jpeg_area)?,
                _ => attack,
            });
        }
    }
    ensure_usage!(!all.is_empty(), "--attacks: none given");
    Ok(all)
}
