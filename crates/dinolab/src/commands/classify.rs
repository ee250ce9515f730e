//! `dinolab classify`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_run::Environment;
use dinolab_run::classify::{ClassifyRequest, classify};
use dinolab_run::feature_input::{FeatureChoice, PreprocessOptions};

use crate::args::OptionalModelArgs;
use crate::output::OutputArgs;

/// Classify images with a linear classifier trained by `eval linear`
///
/// Example: dinolab classify --weights runs/photos --classifier photos.classifier cat.jpg holidays
///
/// Prints the most likely classes of each image with their probabilities. Features saved by
/// `embed`, of the kind that the classifier was trained on, can be used instead of images;
/// --weights is then not needed.
#[derive(clap::Args)]
pub struct Args {
    /// Images, folders, lists, tar files, Parquet files or saved features
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Classifier file written by `eval linear --out`
    #[arg(long, value_name = "FILE")]
    classifier: PathBuf,
    /// Number of classes to print per image
    #[arg(long, value_name = "N", default_value_t = 1)]
    top: usize,
    /// Accept weights of the same sizes other than those the classifier was trained with
    #[arg(long, alias = "any-weights")]
    allow_other_weights: bool,
    /// Write the result to a .tsv file (one line per image and class) or a .json file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    /// Batch size for inference
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    #[command(flatten)]
    model: OptionalModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let request = ClassifyRequest {
        images: &args.images,
        classifier: &args.classifier,
        top: args.top,
        allow_other_weights: args.allow_other_weights,
        out: args.out.as_deref(),
        // The classifier says what it takes.
        features: args.model.features(
            FeatureChoice::default(),
            PreprocessOptions {
                resize: None,
                crop: None,
                batch_size: args.batch_size,
            },
        ),
    };
    let report = classify(env, &request)?;
    if let Some(out) = &args.out {
        errln!("{} images in {}", report.images.len(), out.display());
    }
    if args.output.json || args.out.is_none() {
        args.output.print(&report)?;
    }
    if let Some(accuracy) = report.top1 {
        errln!(
            "accuracy {accuracy:.2}% on {} labelled images",
            report.labelled
        );
    }
    Ok(())
}
