//! Video object segmentation on DAVIS by label propagation (J&F).

use std::path::Path;
use std::time::Instant;

use dinolab_data::Mask;
use dinolab_eval::davis::{DavisSummary, Propagation, Sequence, Statistics, Tree, Year};
use dinolab_features::Embedder;
use dinolab_features::VideoSegmentation;
use dinolab_nn::{AnyBackbone, Backbone, init::Init};
use serde::Serialize;

use super::percent;
use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::model::{Model, ModelOptions};
use crate::result_folder::ResultFolder;
use crate::table::{Cell, Report, Table};

/// A DAVIS tree, and which part of it.
#[derive(Clone, Copy, Debug)]
pub struct DavisTree<'a> {
    /// The tree.
    pub path: &'a Path,
    /// The list of sequences.
    pub split: &'a str,
    /// By default 2017 if the tree has its lists.
    pub year: Option<Year>,
    /// The folder of frames and masks.
    pub resolution: &'a str,
}

/// What masks are made of, and how.
#[derive(Clone, Debug)]
pub struct VideoRequest<'a> {
    /// The videos.
    pub tree: DavisTree<'a>,
    /// The folder that masks are written to.
    pub out: &'a Path,
    /// What the short side of frames becomes.
    pub size: usize,
    /// How labels are propagated.
    pub propagation: Propagation,
    /// Whether the untrained network and a static copy of the first mask are scored too.
    pub baselines: bool,
    /// The weights `W`.
    pub weights: Option<&'a Path>,
    /// How their network is made.
    pub model: ModelOptions,
}

/// The figures of masks.
#[derive(Clone, Debug, Serialize)]
pub struct VideoReport {
    /// Of the benchmark.
    pub year: Year,
    /// The list of sequences.
    pub split: String,
    /// For each way of making masks; empty if the tree is not annotated.
    pub video: Vec<Scored>,
    /// What was made, if masks were.
    #[serde(skip)]
    pub made: Option<MadeMasks>,
}

/// Masks that were made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MadeMasks {
    /// The number of frames.
    pub frames: usize,
    /// Reading and writing included.
    pub frames_per_second: f64,
}

/// What one way of making masks is worth.
#[derive(Clone, Debug, Serialize)]
pub struct Scored {
    /// Its name.
    pub method: &'static str,
    /// Frames through the network per second, reading and writing included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames_per_second: Option<f64>,
    /// Its scores.
    #[serde(flatten)]
    pub summary: DavisSummary,
}

impl Scored {
    fn new(method: &'static str, summary: DavisSummary, frames_per_second: Option<f64>) -> Self {
        Self {
            method,
            frames_per_second,
            summary,
        }
    }
}

impl DavisTree<'_> {
    fn open(&self) -> Result<Tree> {
        Ok(Tree::open(
            self.path,
            self.year,
            self.split,
            self.resolution,
        )?)
    }
}

/// Scores masks that exist already, from anywhere; with `baselines` a static copy of the first mask
/// too.
///
/// # Errors
/// A tree or masks that cannot be read.
pub fn score(
    env: &Environment<'_>,
    tree: DavisTree<'_>,
    results: &Path,
    baselines: bool,
) -> Result<VideoReport> {
    let davis = tree.open()?;
    let progress = env.progress("sequence", davis.sequences.len());
    let summary = davis.score_folder(results, &mut |done| progress.set(done, ""))?;
    progress.finish();
    let mut scored = vec![Scored::new("masks", summary, None)];
    if baselines {
        scored.push(Scored::new("first mask copied", copied(&davis)?, None));
    }
    Ok(VideoReport {
        year: davis.year,
        split: tree.split.to_owned(),
        video: scored,
        made: None,
    })
}

/// Makes masks, and scores them if the tree is annotated.
///
/// # Errors
/// A tree or weights that cannot be used, masks that cannot be written.
pub fn evaluate(env: &Environment<'_>, request: &VideoRequest<'_>) -> Result<VideoReport> {
    let tree = request.tree.open()?;
    let made = follow(env, request, &tree)?;
    Ok(VideoReport {
        year: tree.year,
        split: request.tree.split.to_owned(),
        video: made.scored,
        made: Some(MadeMasks {
            frames: made.frames,
            frames_per_second: made.frames_per_second,
        }),
    })
}

struct Made {
    frames: usize,
    frames_per_second: f64,
    scored: Vec<Scored>,
}

fn copied(tree: &Tree) -> Result<DavisSummary> {
    let scores = tree
        .sequences
        .iter()
        .map(|sequence| sequence.score_first_mask(tree.year))
        .collect::<dinolab_eval::Result<Vec<_>>>()?;
    DavisSummary::of(scores.concat()).context("the tree has no objects")
}

fn follow(env: &Environment<'_>, request: &VideoRequest<'_>, tree: &Tree) -> Result<Made> {
    let reason = "must be at least a patch";
    ensure_setting!(request.size > 0, "size", 0, "{reason}");
    if let Some(bare) = tree.sequences.iter().find(|s| s.images.is_empty()) {
        bail!(
            "{}: sequence {} has no images in JPEGImages/{}",
            request.tree.path.display(),
            bare.name,
            request.tree.resolution
        );
    }
    let weights = request
        .weights
        .context("`weights` W is required to compute features")?;
    let Model {
        backbone,
        preprocess,
        ..
    } = Model::load_rgb(env, weights, &request.model)?;
    let tracking = VideoSegmentation {
        side: request.size,
        propagation: request.propagation,
    };
    let untrained = match request.baselines {
        true => Some(Embedder::new(untrained(&backbone)?, preprocess.clone())?),
        false => None,
    };
    let embedder = Embedder::new(backbone, preprocess)?;
    let frames: usize = tree.sequences.iter().map(|s| s.frames.len()).sum();
    let rounds = 1 + usize::from(request.baselines);
    let progress = env.progress("frame", frames * rounds);
    let mut done = 0;
    let mut folder = ResultFolder::open(request.out)?;
    let mut masks_of = |embedder: &Embedder,
                        mut out: Option<&mut ResultFolder>|
     -> Result<PropagationResult> {
        let began = Instant::now();
        let mut objects = Vec::new();
        let mut scored = true;
        for sequence in &tree.sequences {
            let mut masks: Vec<Mask> = Vec::with_capacity(sequence.frames.len());
            let mut unwritten = None;
            let followed = tracking.propagate(embedder, sequence, tree.year, &mut |frame, mask| {
                if let Some(out) = &mut out {
                    let name = format!("{}/{}.png", sequence.name, sequence.frames[frame]);
                    out.write(name, |path| tree.year.write_mask(path, &mask))
                        .map_err(|error| stopped(&mut unwritten, error))?;
                }
                masks.push(mask);
                done += 1;
                progress.set(done, &sequence.name);
                Ok(())
            });
            if let Some(error) = unwritten {
                return Err(error);
            }
            followed?;
            match scorable(sequence) {
                true => {
                    objects.extend(sequence.score(tree.year, |frame| Ok(masks[frame].clone()))?)
                }
                false => scored = false,
            }
        }
        let rate = frames as f64 / began.elapsed().as_secs_f64();
        let summary = DavisSummary::of(objects).filter(|_| scored);
        Ok(PropagationResult { summary, rate })
    };
    let own = masks_of(&embedder, Some(&mut folder))?;
    let mut scored = Vec::new();
    if let Some(summary) = own.summary {
        scored.push(Scored::new("network", summary, Some(own.rate)));
        if let Some(untrained) = untrained {
            let other = masks_of(&untrained, None)?;
            if let Some(summary) = other.summary {
                scored.push(Scored::new("untrained network", summary, Some(other.rate)));
            }
            scored.push(Scored::new("first mask copied", copied(tree)?, None));
        }
    }
    progress.finish();
    Ok(Made {
        frames,
        frames_per_second: own.rate,
        scored,
    })
}

/// Keeps the whole error for later, and ends the work with a word.
fn stopped(kept: &mut Option<Error>, error: Error) -> dinolab_features::Error {
    let reason = error.to_string();
    *kept = Some(error);
    dinolab_features::Error::Invalid {
        what: "masks",
        reason,
    }
}

struct PropagationResult {
    /// `None` where a sequence is not annotated.
    summary: Option<DavisSummary>,
    rate: f64,
}

fn scorable(sequence: &Sequence) -> bool {
    sequence.is_annotated() && sequence.frames.len() >= 3
}

/// A network of the same sizes with its initial weights.
fn untrained(backbone: &AnyBackbone) -> Result<AnyBackbone> {
    let (config, device) = (backbone.config(), backbone.device());
    Ok(AnyBackbone::new(&config, &mut Init::new(0), &device)?)
}

impl Report for VideoReport {
    fn table(&self) -> Table {
        let mut table = Table::new([
            "method", "sequence", "object", "J&F %", "J mean", "J recall", "J decay", "F mean",
            "F recall", "F decay", "frames/s",
        ]);
        let cell = |share: f64| Cell::number(percent(Some(share)), 1);
        let statistics = |s: &Statistics| [s.mean, s.recall, s.decay].map(cell);
        for one in &self.video {
            let summary = &one.summary;
            for object in &summary.objects {
                let both = (object.j.mean + object.f.mean) / 2.0;
                let place = [
                    Cell::from(one.method),
                    object.sequence.as_str().into(),
                    Cell::count(object.object),
                    cell(both),
                ];
                let measures = statistics(&object.j).into_iter();
                table.row(
                    place
                        .into_iter()
                        .chain(measures)
                        .chain(statistics(&object.f)),
                );
            }
            let place = [
                Cell::from(one.method),
                "all".into(),
                Cell::Empty,
                cell(summary.j_and_f),
            ];
            let measures = statistics(&summary.j).into_iter();
            table.row(
                place
                    .into_iter()
                    .chain(measures)
                    .chain(statistics(&summary.f))
                    .chain([Cell::number(one.frames_per_second, 2)]),
            );
        }
        table
    }
}
