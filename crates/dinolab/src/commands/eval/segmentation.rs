//! `dinolab eval segmentation`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_eval::network::FrozenSegmentation;
use dinolab_run::Environment;
use dinolab_run::class_masks::MaskOptions;
use dinolab_run::evaluate::segmentation::{SegmentationRequest, evaluate};

use crate::args::ModelArgs;
use crate::output::OutputArgs;

/// Evaluate frozen patch tokens by a linear segmentation layer (mean IoU)
///
/// Example: dinolab eval segmentation --weights runs/photos VOCdevkit/VOC2012
///
/// The layer learns the classes of pixels from the training split's masks and is evaluated on the
/// validation split: intersection over union per class, over all pixels together, void left
/// out. Of several learning rates the one with the best mean is shown, and all with --json.
#[derive(clap::Args)]
pub struct Args {
    /// A Pascal VOC tree [default: the built-in shapes]
    tree: Option<PathBuf>,
    /// Resize images to a square of this side [default: the run's attention pictures', or 480]
    #[arg(long, value_name = "PX")]
    size: Option<usize>,
    /// Number of passes over the training images
    #[arg(long, value_name = "N", default_value_t = FrozenSegmentation::default().epochs)]
    epochs: usize,
    /// Batch size of SGD
    #[arg(long, value_name = "N", default_value_t = FrozenSegmentation::default().batch_size)]
    batch_size: usize,
    /// Learning rates, falling to 0 by a cosine
    #[arg(
        long,
        value_name = "X,…",
        value_delimiter = ',',
        default_value = "0.003,0.01,0.03"
    )]
    lr: Vec<f64>,
    /// Random seed of the initial weights and of the order
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Keep at most this many MiB of tokens; those of further images are computed in each epoch
    #[arg(long, value_name = "N", default_value_t = 1024)]
    cache_mb: usize,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    masks: MaskOptions,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let request = SegmentationRequest {
        tree: args.tree.as_deref(),
        masks: args.masks.clone(),
        size: args.size,
        settings: FrozenSegmentation {
            epochs: args.epochs,
            batch_size: args.batch_size,
            seed: args.seed,
            cache_bytes: args.cache_mb << 20,
            ..Default::default()
        },
        lrs: &args.lr,
        weights: args.model.weights(),
        model: args.model.options(),
    };
    let report = evaluate(env, &request)?;
    if !args.output.json {
        errln!(
            "{}: {} training images, {} validation images, {} px, lr {}{}",
            report.images,
            report.train_images,
            report.val_images,
            report.size,
            report.lr,
            if report.runs.len() > 1 {
                ", the best of those given by the mean below"
            } else {
                ""
            }
        );
    }
    args.output.print(&report)
}
