//! `dinolab eval transfer`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_features::transfer::{FineTune, Share};
use dinolab_run::Environment;
use dinolab_run::class_masks::MaskOptions;
use dinolab_run::evaluate::transfer::{TransferRequest, TransferTask, evaluate};
use dinolab_run::feature_input::FeatureChoice;
use dinolab_run::values::Pair;

use crate::args::ModelArgs;
use crate::output::OutputArgs;

/// Compare fine-tuning from the weights with training from scratch
///
/// Example: dinolab eval transfer --weights runs/photos --train photos/train --val photos/val --labels 5%
///
/// Trains a linear head on the frozen network, the whole network from the weights, and the same
/// network from random weights, on the same few labelled images in the same order, with the same
/// views, steps and optimiser. Each is trained with every seed and learning rate; the best rate of
/// each is marked. With a VOC tree instead of --train, the task is segmentation.
#[derive(clap::Args)]
pub struct Args {
    /// Pascal VOC tree (for segmentation), or labelled images of which a part is held out [default:
    /// the built-in shapes]
    images: Option<PathBuf>,
    /// Labelled training images
    #[arg(
        long,
        value_name = "IMAGES",
        requires = "val",
        conflicts_with = "images"
    )]
    train: Option<PathBuf>,
    /// Labelled validation images
    #[arg(long, value_name = "IMAGES", requires = "train")]
    val: Option<PathBuf>,
    /// Task to learn [default: segmentation for a VOC tree, else classification]
    #[arg(long)]
    task: Option<TransferTask>,
    /// Labelled training images: a percentage of each class (5%) or a number per class (20);
    /// segmentation: of all images [default: 5%; segmentation: 100%]
    #[arg(long, value_name = "N|N%")]
    labels: Option<Share>,
    #[command(flatten)]
    choice: FeatureChoice,
    /// Random seeds; each draws its own labelled images, order, views and initial weights
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "0,1,2"
    )]
    seeds: Vec<u64>,
    /// Learning rates of AdamW for the networks trained as a whole, from the weights and from
    /// scratch
    #[arg(
        long,
        value_name = "X,…",
        value_delimiter = ',',
        default_value = "0.0003,0.001"
    )]
    lr: Vec<f64>,
    /// Learning rates of AdamW for the linear head on the frozen network
    #[arg(
        long,
        value_name = "X,…",
        value_delimiter = ',',
        default_value = "0.001,0.01"
    )]
    frozen_lr: Vec<f64>,
    /// Number of epochs over the labelled images
    #[arg(long, value_name = "N", default_value_t = FineTune::default().epochs)]
    epochs: usize,
    /// Batch size
    #[arg(long, value_name = "N", default_value_t = FineTune::default().batch_size)]
    batch_size: usize,
    /// Fraction of the steps for linear learning-rate warm-up
    #[arg(long, value_name = "X", default_value_t = FineTune::default().warmup)]
    warmup: f64,
    /// Weight decay
    #[arg(long, value_name = "X", default_value_t = FineTune::default().weight_decay)]
    weight_decay: f64,
    /// Multiply the learning rate by this for each block further from the head; 1 disables it
    #[arg(long, value_name = "X", default_value_t = FineTune::default().layer_decay)]
    layer_decay: f64,
    /// Fraction of the image area that training views cover
    #[arg(long, value_name = "MIN,MAX", default_value = "0.25,1")]
    crops_scale: Pair,
    /// Classification: resize the shorter side of validation images to this [default: the run's, or
    /// 256]
    #[arg(long, value_name = "PX")]
    resize: Option<usize>,
    /// Side of training views and of validation images [default: the run's, or 224; segmentation:
    /// the run's --attention-size, or 480]
    #[arg(long, value_name = "PX")]
    crop: Option<usize>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    masks: MaskOptions,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let request = TransferRequest {
        images: args.images.as_deref(),
        sets: args
            .train
            .as_deref()
            .zip(args.val.as_deref())
            .map(<[_; 2]>::from),
        task: args.task,
        share: args.labels,
        choice: args.choice,
        seeds: args.seeds.clone(),
        lrs: args.lr.clone(),
        frozen_lrs: args.frozen_lr.clone(),
        fine_tune: FineTune {
            epochs: args.epochs,
            batch_size: args.batch_size,
            warmup: args.warmup,
            weight_decay: args.weight_decay,
            layer_decay: args.layer_decay,
        },
        crops_scale: args.crops_scale,
        resize: args.resize,
        crop: args.crop,
        masks: args.masks.clone(),
        weights: args.model.weights(),
        model: args.model.options(),
    };
    let report = evaluate(env, &request)?;
    if !args.output.json {
        errln!(
            "{} of {} images labelled, {} validation images; {} steps each; ± is the standard \
             deviation over {} seeds",
            report.labelled_images,
            report.train_images,
            report.val_images,
            report.steps,
            report.seeds.len()
        );
    }
    args.output.print(&report)?;
    if !args.output.json {
        let margin = report.margin;
        outln!("fine-tuned minus from scratch: {margin:+.2} points, each at its best lr");
    }
    Ok(())
}
