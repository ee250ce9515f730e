//! `dinolab eval segmentation`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_features::FrozenSegmentation;
use dinolab_run::Environment;
use dinolab_run::class_masks::MaskOptions;
use dinolab_run::evaluate::segmentation::{SegmentationRequest, evaluate};

use crate::args::ModelArgs;
use crate::output::OutputArgs;

/// Evaluate frozen patch tokens with a linear segmentation layer (mean IoU)
///
/// Example: dinolab eval segmentation --weights runs/photos VOCdevkit/VOC2012
///
/// The layer is trained on the class masks of the training split and evaluated on the validation
/// split: intersection over union (IoU) per class, over the pixels of all images together, without
/// void pixels. Of several learning rates, the table shows the one with the best mean IoU; --json
/// prints all.
#[derive(clap::Args)]
pub struct Args {
    /// Pascal VOC tree with class masks [default: the built-in shapes]
    tree: Option<PathBuf>,
    /// Resize images to a square of this side [default: the run's --attention-size, or 480]
    #[arg(long, value_name = "PX")]
    size: Option<usize>,
    /// Number of epochs
    #[arg(long, value_name = "N", default_value_t = FrozenSegmentation::default().epochs)]
    epochs: usize,
    /// Batch size of SGD
    #[arg(long, value_name = "N", default_value_t = FrozenSegmentation::default().batch_size)]
    batch_size: usize,
    /// Learning rates, each decreasing to 0 on a cosine schedule
    #[arg(
        long,
        value_name = "X,…",
        value_delimiter = ',',
        default_value = "0.003,0.01,0.03"
    )]
    lr: Vec<f64>,
    /// Random seed of initial weights and order
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Memory for computed patch tokens, in MiB; tokens that do not fit are recomputed in every
    /// epoch
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
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
