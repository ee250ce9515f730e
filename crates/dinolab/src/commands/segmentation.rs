//! `dinolab eval segmentation`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use dinolab_data::Size;
use dinolab_eval::network::frozen_segmentation::{FrozenSegmentation, SegmentationRun, best_run};
use dinolab_nn::check_patches;

use crate::class_masks::{MaskArgs, Masks};
use crate::model::ModelArgs;
use crate::output::{self, Cell, Table};
use crate::progress::Progress;

/// Mean IoU of a linear layer on frozen patch tokens
///
/// Example: dinolab eval segmentation --weights runs/photos VOCdevkit/VOC2012
///
/// The layer learns the classes of pixels from the training split's masks and is judged on the
/// validation split: intersection over union per class, over all pixels together, void left
/// out. Of several learning rates the one with the best mean is shown, and all with --json.
#[derive(clap::Args)]
pub struct Args {
    /// A Pascal VOC tree [default: the built-in shapes]
    tree: Option<PathBuf>,
    /// Bring images to a square of this side [default: the run's attention pictures', or 480]
    #[arg(long)]
    size: Option<usize>,
    /// Passes over the training images
    #[arg(long, default_value_t = FrozenSegmentation::default().epochs)]
    epochs: usize,
    /// Images in a step of SGD
    #[arg(long, default_value_t = FrozenSegmentation::default().batch_size)]
    batch_size: usize,
    /// Learning rates, falling to 0 by a cosine
    #[arg(long, value_delimiter = ',', default_value = "0.003,0.01,0.03")]
    lr: Vec<f64>,
    /// Seed of the initial weights and of the order
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Keep at most so many MiB of tokens; those of further images are computed in each epoch
    #[arg(long, default_value_t = 1024)]
    cache_mb: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    masks: MaskArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let masks = args.masks.open(args.tree.as_deref())?;
    let model = args.model.load()?;
    let patch = model.vit.config().patch_size;
    let side = model.attend_size.map_or(480, Size::longest) / patch * patch;
    let settings = FrozenSegmentation {
        size: args.size.unwrap_or(side.max(patch)),
        epochs: args.epochs,
        batch_size: args.batch_size,
        seed: args.seed,
        cache_bytes: args.cache_mb << 20,
        ..Default::default()
    };
    check_patches(settings.size, settings.size, patch)
        .with_context(|| format!("--size {}", settings.size))?;
    let images = settings.epochs * masks.train_images.len() + masks.val_images.len();
    let mut progress = Progress::new("image", images as u64, 0);
    let mut unusable = Vec::new();
    let runs = settings.run(
        &model.vit,
        &model.preprocess,
        (masks.train(), &masks.train_images),
        (masks.val(), &masks.val_images),
        &args.lr,
        &mut |done| progress.set(done as u64, ""),
        &mut |name, reason| unusable.push(format!("skipped {name}: {reason}")),
    )?;
    progress.finish();
    unusable.iter().for_each(|line| errln!("{line}"));
    let skipped = masks.skipped + unusable.len();
    if skipped > 0 {
        errln!("{skipped} images skipped");
    }
    show(args, &settings, &masks, &runs, skipped)
}

fn percent(share: Option<f64>) -> Option<f64> {
    share.map(|share| 100.0 * share)
}

fn show(
    args: &Args,
    settings: &FrozenSegmentation,
    masks: &Masks,
    runs: &[SegmentationRun],
    skipped: usize,
) -> Result<()> {
    let best = &runs[best_run(runs)];
    let mut table = Table::new(["class", "IoU %"]);
    for (name, iou) in masks.names.iter().zip(best.meter.iou()) {
        table.row([name.as_str().into(), Cell::number(percent(iou), 1)]);
    }
    let mean = percent(best.meter.mean());
    let pixels = percent(best.meter.pixel_accuracy());
    table.row(["mean over classes".into(), Cell::number(mean, 1)]);
    table.row(["pixel accuracy".into(), Cell::number(pixels, 1)]);
    if !args.json {
        errln!(
            "{}: {} images to learn from, {} to judge by, {} px, lr {}{}",
            masks.description,
            masks.train_images.len(),
            masks.val_images.len(),
            settings.size,
            best.lr,
            if runs.len() > 1 {
                ", the best of those given by the mean below"
            } else {
                ""
            }
        );
    }
    let of = |run: &SegmentationRun| {
        let classes: serde_json::Map<String, serde_json::Value> = masks
            .names
            .iter()
            .zip(run.meter.iou())
            .map(|(name, iou)| (name.clone(), percent(iou).into()))
            .collect();
        serde_json::json!({
            "lr": run.lr,
            "loss": run.loss,
            "mean_iou": percent(run.meter.mean()),
            "pixel_accuracy": percent(run.meter.pixel_accuracy()),
            "iou": classes,
        })
    };
    let result = serde_json::json!({
        "mean_iou": mean,
        "pixel_accuracy": pixels,
        "lr": best.lr,
        "lr_chosen_by": "mean IoU on the validation images",
        "runs": runs.iter().map(of).collect::<Vec<_>>(),
        "images": masks.description,
        "train_images": masks.train_images.len(),
        "val_images": masks.val_images.len(),
        "skipped": skipped,
        "size": settings.size,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "seed": settings.seed,
    });
    output::print(args.json, &result, &table)
}
