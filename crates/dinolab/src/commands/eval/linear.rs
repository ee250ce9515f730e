//! `dinolab eval linear`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_eval::linear::LinearConfig;
use dinolab_run::Environment;
use dinolab_run::evaluate::linear::{LinearRequest, evaluate};
use dinolab_run::feature_input::{FeatureChoice, PreprocessOptions};
use dinolab_run::values::Pair;

use crate::args::OptionalModelArgs;
use crate::output::OutputArgs;

/// Evaluate frozen features with a linear classifier
///
/// Example: dinolab eval linear --weights runs/photos --train photos/train --val photos/val --out photos.classifier
///
/// The protocol of facebookresearch/dino ("the reference"): features of the last four blocks, SGD
/// with momentum and a cosine schedule, no weight decay, 100 epochs. By default, training images
/// are centre-cropped and embedded once. --augment embeds a new random view of each in every epoch,
/// as the reference does, which costs one forward pass of the training set per epoch.
///
/// Features saved by `dinolab embed --n-last-blocks 4` can be used instead of images; --weights is
/// then not needed.
#[derive(clap::Args)]
pub struct Args {
    /// Labelled training images (class = first folder level), or saved features
    #[arg(long, value_name = "IMAGES")]
    train: PathBuf,
    /// Labelled validation images, or saved features
    #[arg(long, value_name = "IMAGES")]
    val: PathBuf,
    #[command(flatten)]
    choice: FeatureChoice,
    /// Number of epochs
    #[arg(long, value_name = "N", default_value_t = LinearConfig::default().epochs)]
    epochs: usize,
    /// Batch size of SGD
    #[arg(long, value_name = "N", default_value_t = LinearConfig::default().batch_size)]
    batch_size_per_gpu: usize,
    /// Learning rates for a batch of 256, scaled with the batch size; each trains one classifier. The reference has 0.001
    #[arg(
        long,
        value_name = "X,…",
        value_delimiter = ',',
        default_value = "0.001,0.01,0.1"
    )]
    lr: Vec<f64>,
    /// Random seed of initial weights, order and views
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Train on a new random view (resized crop and flip) of each image in every epoch
    #[arg(long)]
    augment: bool,
    /// With --augment: fraction of the image area that views cover
    #[arg(long, value_name = "MIN,MAX", default_value = "0.08,1")]
    crops_scale: Pair,
    /// Standardise features (zero mean, unit variance over the training set); not in the reference
    #[arg(long)]
    standardise: bool,
    /// Write the classifier of the best learning rate to this file, for `dinolab classify`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    preprocess: PreprocessOptions,
    #[command(flatten)]
    model: OptionalModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let request = LinearRequest {
        train: &args.train,
        val: &args.val,
        config: LinearConfig {
            epochs: args.epochs,
            batch_size: args.batch_size_per_gpu,
            seed: args.seed,
            ..Default::default()
        },
        lrs: &args.lr,
        augment: args.augment,
        crops_scale: args.crops_scale,
        standardise: args.standardise,
        out: args.out.as_deref(),
        features: args.model.features(args.choice, args.preprocess),
    };
    let report = evaluate(env, &request, &mut |sizes| {
        errln!(
            "{} images of {} classes, features of width {} from {}; {} validation images",
            sizes.train_images,
            sizes.classes,
            sizes.feature_width,
            if args.augment {
                "a random view of each image in each epoch"
            } else {
                "the centre of each image (--augment for random views)"
            },
            sizes.val_images
        );
    })?;
    if let Some(path) = &args.out {
        let (lr, path) = (report.lr, path.display());
        errln!("classifier (last epoch, lr {lr}) in {path}");
    }
    args.output.print(&report)
}
