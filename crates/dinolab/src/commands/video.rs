//! `dinolab eval video`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use dinolab_data::Mask;
use dinolab_eval::Embedder;
use dinolab_eval::davis::{
    DavisSummary, Sequence, Statistics, Tree, Year, score_first_mask, score_folder, score_sequence,
    write_mask,
};
use dinolab_eval::network::video_segmentation::{REFERENCE_SIDE, VideoSegmentation};
use dinolab_eval::propagation::Propagation;
use dinolab_nn::{Vit, init::Init};

use crate::model::{Model, OptionalModelArgs};
use crate::output::{self, Cell, Table};
use crate::progress::Progress;
use crate::results::ResultFolder;

/// Follows objects through videos (DAVIS) by the features alone: J and F
///
/// Example: dinolab eval video --weights runs/photos DAVIS --out masks --baselines
///
/// The mask of a sequence's first frame flows to the others by the similarity of patches; nothing
/// is trained. Masks are written as palette PNGs, OUT/SEQUENCE/00000.png, as the benchmark's
/// evaluation takes them. Masks that exist already, from anywhere, are scored by
/// dinolab eval video --results masks DAVIS
#[derive(clap::Args)]
pub struct Args {
    /// A DAVIS tree, with JPEGImages, Annotations and ImageSets
    #[arg(value_name = "DAVIS_TREE")]
    tree: PathBuf,
    /// Folder to write masks to
    #[arg(long, alias = "output-dir", required_unless_present = "results")]
    out: Option<PathBuf>,
    /// Score the masks of this folder instead of making some
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "weights"])]
    results: Option<PathBuf>,
    /// The list of sequences, ImageSets/YEAR/SPLIT.txt
    #[arg(long, default_value = "val")]
    split: String,
    /// 2016 (one object) or 2017 (several) [default: 2017 where the tree has its lists]
    #[arg(long)]
    year: Option<Year>,
    /// The folder of frames and masks below JPEGImages and Annotations
    #[arg(long, default_value = "480p")]
    resolution: String,
    /// Bring the short side of frames to this many pixels
    #[arg(long, default_value_t = REFERENCE_SIDE)]
    size: usize,
    /// Frames just before that labels come from, beside the first
    #[arg(long, default_value_t = Propagation::default().n_last_frames)]
    n_last_frames: usize,
    /// Patches that an object may move per frame at most, in rows and columns; 0: any
    #[arg(long, default_value_t = Propagation::default().size_mask_neighborhood)]
    size_mask_neighborhood: usize,
    /// Similar patches that give their labels
    #[arg(long, default_value_t = Propagation::default().topk)]
    topk: usize,
    /// Temperature of the similarities
    #[arg(long, default_value_t = Propagation::default().temperature)]
    temperature: f64,
    /// Score the same network untrained and the first mask left in its place, too
    #[arg(long)]
    baselines: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: OptionalModelArgs,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let tree = Tree::open(&args.tree, args.year, &args.split, &args.resolution)?;
    match &args.results {
        Some(results) => {
            let mut progress = Progress::new("sequence", tree.sequences.len() as u64, 0);
            let summary = score_folder(&tree, results, &mut |done| progress.set(done as u64, ""))?;
            progress.finish();
            let mut scored = vec![Scored::new("masks", summary, None)];
            if args.baselines {
                scored.push(Scored::new("first mask copied", copied(&tree)?, None));
            }
            report(args, &tree, &scored)
        }
        None => follow(args, &tree),
    }
}

/// What one way of making masks is worth.
#[derive(serde::Serialize)]
struct Scored {
    method: &'static str,
    /// Frames through the network per second, reading and writing included.
    #[serde(skip_serializing_if = "Option::is_none")]
    frames_per_second: Option<f64>,
    #[serde(flatten)]
    summary: DavisSummary,
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

fn copied(tree: &Tree) -> Result<DavisSummary> {
    let scores = tree
        .sequences
        .iter()
        .map(|sequence| score_first_mask(sequence, tree.year))
        .collect::<dinolab_eval::Result<Vec<_>>>()?;
    DavisSummary::of(scores.concat()).context("the tree has no objects")
}

/// Makes masks, and scores them where the tree is annotated.
fn follow(args: &Args, tree: &Tree) -> Result<()> {
    ensure_usage!(args.size > 0, "--size 0: must be at least a patch");
    if let Some(bare) = tree.sequences.iter().find(|s| s.images.is_empty()) {
        bail!(
            "{}: sequence {} has no images in JPEGImages/{}",
            args.tree.display(),
            bare.name,
            args.resolution
        );
    }
    let out = args.out.as_ref().context("--out DIR is needed")?;
    let Model {
        vit, preprocess, ..
    } = args.model.load()?;
    let segmentation = VideoSegmentation {
        side: args.size,
        propagation: Propagation {
            n_last_frames: args.n_last_frames,
            size_mask_neighborhood: args.size_mask_neighborhood,
            topk: args.topk,
            temperature: args.temperature,
        },
    };
    let untrained = match args.baselines {
        true => Some(Embedder::new(untrained(&vit)?, preprocess.clone())?),
        false => None,
    };
    let embedder = Embedder::new(vit, preprocess)?;
    let frames: usize = tree.sequences.iter().map(|s| s.frames.len()).sum();
    let rounds = 1 + usize::from(args.baselines);
    let mut progress = Progress::new("frame", (frames * rounds) as u64, 0);
    let mut done = 0;
    let mut folder = ResultFolder::open(out)?;
    let mut masks_of =
        |embedder: &Embedder, mut out: Option<&mut ResultFolder>| -> Result<Followed> {
            let began = Instant::now();
            let mut objects = Vec::new();
            let mut scored = true;
            for sequence in &tree.sequences {
                let mut masks: Vec<Mask> = Vec::with_capacity(sequence.frames.len());
                let mut unwritten = None;
                let followed =
                    segmentation.propagate(embedder, sequence, tree.year, &mut |frame, mask| {
                        if let Some(out) = &mut out {
                            let name = format!("{}/{}.png", sequence.name, sequence.frames[frame]);
                            out.write(name, |path| write_mask(path, &mask, tree.year))
                                .map_err(|error| stopped(&mut unwritten, error))?;
                        }
                        masks.push(mask);
                        done += 1;
                        progress.set(done as u64, &sequence.name);
                        Ok(())
                    });
                if let Some(error) = unwritten {
                    return Err(error);
                }
                followed?;
                match scorable(sequence) {
                    true => objects.extend(score_sequence(sequence, tree.year, |frame| {
                        Ok(masks[frame].clone())
                    })?),
                    false => scored = false,
                }
            }
            let rate = frames as f64 / began.elapsed().as_secs_f64();
            let summary = DavisSummary::of(objects).filter(|_| scored);
            Ok(Followed { summary, rate })
        };
    let own = masks_of(&embedder, Some(&mut folder))?;
    let Some(summary) = own.summary else {
        progress.finish();
        outln!(
            "masks of {frames} frames in {}; {:.2} frames/s; not scored, for want of annotations",
            out.display(),
            own.rate
        );
        return Ok(());
    };
    let mut scored = vec![Scored::new("network", summary, Some(own.rate))];
    if let Some(untrained) = untrained {
        let other = masks_of(&untrained, None)?;
        if let Some(summary) = other.summary {
            scored.push(Scored::new("untrained network", summary, Some(other.rate)));
        }
        scored.push(Scored::new("first mask copied", copied(tree)?, None));
    }
    progress.finish();
    report(args, tree, &scored)?;
    errln!("masks of {frames} frames in {}", out.display());
    Ok(())
}

/// Keeps the whole error for later, and ends the work with a word.
fn stopped(kept: &mut Option<anyhow::Error>, error: anyhow::Error) -> dinolab_eval::Error {
    let reason = error.to_string();
    *kept = Some(error);
    dinolab_eval::Error::Invalid {
        what: "masks",
        reason,
    }
}

struct Followed {
    /// `None` where a sequence is not annotated.
    summary: Option<DavisSummary>,
    rate: f64,
}

fn scorable(sequence: &Sequence) -> bool {
    sequence.is_annotated() && sequence.frames.len() >= 3
}

/// A network of the same sizes with its initial weights.
fn untrained(vit: &Vit) -> Result<Vit> {
    let device = vit.cls_token.flat().device();
    Ok(Vit::new(vit.config(), &mut Init::new(0), &device)?)
}

fn report(args: &Args, tree: &Tree, scored: &[Scored]) -> Result<()> {
    let mut table = Table::new([
        "method", "sequence", "object", "J&F %", "J mean", "J recall", "J decay", "F mean",
        "F recall", "F decay", "frames/s",
    ]);
    let statistics = |s: &Statistics| [s.mean, s.recall, s.decay].map(|v| percent(Some(v)));
    for one in scored {
        let summary = &one.summary;
        for object in &summary.objects {
            let both = (object.j.mean + object.f.mean) / 2.0;
            table.row(
                [
                    Cell::from(one.method),
                    object.sequence.as_str().into(),
                    Cell::count(object.object),
                    percent(Some(both)),
                ]
                .into_iter()
                .chain(statistics(&object.j))
                .chain(statistics(&object.f)),
            );
        }
        table.row(
            [
                Cell::from(one.method),
                "all".into(),
                Cell::Empty,
                percent(Some(summary.j_and_f)),
            ]
            .into_iter()
            .chain(statistics(&summary.j))
            .chain(statistics(&summary.f))
            .chain([Cell::number(one.frames_per_second, 2)]),
        );
    }
    let result = serde_json::json!({
        "year": tree.year,
        "split": args.split,
        "video": scored,
    });
    output::print(args.json, &result, &table)
}

fn percent(value: Option<f64>) -> Cell {
    Cell::number(value.map(|v| 100.0 * v), 1)
}
