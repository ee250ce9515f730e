//! `dinolab eval attention`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_data::source::MaskKind;
use dinolab_eval::attention::REFERENCE_MASS;
use dinolab_run::Environment;
use dinolab_run::evaluate::attention::{AttentionRequest, evaluate};

use crate::args::ModelArgs;
use crate::output::OutputArgs;

/// Evaluate class-token attention against object masks (Jaccard index)
///
/// Example: dinolab eval attention --weights runs/photos VOCdevkit/VOC2012
///
/// For each head, the smallest set of patches that covers --threshold of the attention is compared
/// with the ground-truth masks; each object is scored with its best head. Baselines: the same
/// network with random weights, a uniform attention map, and the whole image.
#[derive(clap::Args)]
pub struct Args {
    /// Pascal VOC tree with object masks [default: built-in shapes that are never trained on]
    images: Option<PathBuf>,
    /// Split of the VOC tree
    #[arg(long, default_value = "val")]
    split: String,
    /// Ground truth: objects (each object separately, if the tree has such masks) or classes (all
    /// pixels of a class in an image)
    #[arg(long, default_value = "objects")]
    masks: String,
    /// Resize images to a square of this side [default: the run's --attention-size, or 480]
    #[arg(long, value_name = "PX")]
    size: Option<usize>,
    /// Fraction of the attention that a mask covers, 0–1
    #[arg(long, value_name = "X", default_value_t = REFERENCE_MASS)]
    threshold: f64,
    /// Number of networks with random weights to average as a baseline
    #[arg(long, value_name = "N", alias = "random-networks", default_value_t = 1)]
    random_baselines: u64,
    /// Number of images of the built-in shapes set, if no tree is given
    #[arg(long, value_name = "N", default_value_t = 512)]
    shapes_images: usize,
    /// Side of the images of the built-in shapes set
    #[arg(long, value_name = "PX", default_value_t = 64)]
    shapes_size: usize,
    /// Random seed of the built-in shapes and the random weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let masks = match args.masks.as_str() {
        "objects" => MaskKind::Objects,
        "classes" => MaskKind::Classes,
        other => bail_usage!("--masks {other}: one of objects, classes"),
    };
    let request = AttentionRequest {
        images: args.images.as_deref(),
        split: &args.split,
        masks,
        size: args.size,
        threshold: args.threshold,
        random_baselines: args.random_baselines,
        shapes_images: args.shapes_images,
        shapes_size: args.shapes_size,
        seed: args.seed,
        weights: args.model.weights(),
        model: args.model.options(),
    };
    let report = evaluate(env, &request)?;
    if !args.output.json {
        outln!(
            "Jaccard index of {} objects in {} images at {} px, {} of the attention kept\n",
            report.objects,
            report.images,
            report.size,
            report.threshold
        );
    }
    args.output.print(&report)?;
    if !args.output.json {
        outln!("");
        out!("{}", report.classes_table());
    }
    Ok(())
}
