//! `dinolab eval video`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use dinolab_eval::davis::{Propagation, Year};
use dinolab_features::VideoSegmentation;
use dinolab_run::Environment;
use dinolab_run::evaluate::video::{DavisTree, VideoRequest, evaluate, score};

use crate::args::OptionalModelArgs;
use crate::output::OutputArgs;

/// Evaluate video object segmentation on DAVIS by label propagation (J&F)
///
/// Example: dinolab eval video --weights runs/photos DAVIS --out masks --baselines
///
/// The mask of a sequence's first frame is propagated to the other frames by patch similarity;
/// nothing is trained. Masks are written as palette PNGs, OUT/SEQUENCE/00000.png, as the official
/// evaluation expects. To score existing masks, from any program: dinolab eval video --results
/// masks DAVIS
#[derive(clap::Args)]
pub struct Args {
    /// DAVIS tree, with JPEGImages, Annotations and ImageSets
    #[arg(value_name = "DAVIS_TREE")]
    tree: PathBuf,
    /// Output folder for masks
    #[arg(
        long,
        value_name = "DIR",
        alias = "output-dir",
        required_unless_present = "results"
    )]
    out: Option<PathBuf>,
    /// Score the masks in this folder instead of computing masks
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "weights"])]
    results: Option<PathBuf>,
    /// List of sequences: ImageSets/YEAR/SPLIT.txt
    #[arg(long, default_value = "val")]
    split: String,
    /// Year of the benchmark: 2016 (one object) or 2017 (several objects) [default: 2017 if the
    /// tree has its lists]
    #[arg(long)]
    year: Option<Year>,
    /// Subfolder of JPEGImages and Annotations to read
    #[arg(long, default_value = "480p")]
    resolution: String,
    /// Resize the shorter side of frames to this
    #[arg(long, value_name = "PX", default_value_t = VideoSegmentation::REFERENCE_SIDE)]
    size: usize,
    /// Number of preceding context frames, in addition to the first
    #[arg(long, value_name = "N", default_value_t = Propagation::default().n_last_frames)]
    n_last_frames: usize,
    /// Search radius in rows and columns of patches; 0 disables the limit
    #[arg(long, value_name = "N", default_value_t = Propagation::default().size_mask_neighborhood)]
    size_mask_neighborhood: usize,
    /// Number of most similar patches that labels are propagated from
    #[arg(long, value_name = "N", default_value_t = Propagation::default().topk)]
    topk: usize,
    /// Temperature of the similarities
    #[arg(long, value_name = "X", default_value_t = Propagation::default().temperature)]
    temperature: f64,
    /// Also score the untrained network and a static copy of the first mask
    #[arg(long)]
    baselines: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    model: OptionalModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let tree = DavisTree {
        path: &args.tree,
        split: &args.split,
        year: args.year,
        resolution: &args.resolution,
    };
    if let Some(results) = &args.results {
        let report = score(env, tree, results, args.baselines)?;
        return args.output.print(&report);
    }
    let out = args.out.as_ref().context("--out DIR is needed")?;
    let request = VideoRequest {
        tree,
        out,
        size: args.size,
        propagation: Propagation {
            n_last_frames: args.n_last_frames,
            size_mask_neighborhood: args.size_mask_neighborhood,
            topk: args.topk,
            temperature: args.temperature,
        },
        baselines: args.baselines,
        weights: args.model.weights(),
        model: args.model.options(),
    };
    let report = evaluate(env, &request)?;
    let (frames, rate) = report
        .made
        .map_or((0, 0.0), |made| (made.frames, made.frames_per_second));
    let out = out.display();
    if report.video.is_empty() {
        outln!(
            "masks of {frames} frames in {out}; {rate:.2} frames/s; not scored: no annotations found"
        );
        return Ok(());
    }
    args.output.print(&report)?;
    errln!("masks of {frames} frames in {out}");
    Ok(())
}
