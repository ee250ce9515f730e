//! `dinolab eval knn`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_eval::knn::Knn;
use dinolab_run::Environment;
use dinolab_run::evaluate::knn::{KnnRequest, evaluate};
use dinolab_run::feature_input::{FeatureChoice, PreprocessOptions};

use dinolab_run::whitening::WhiteningOptions;

use crate::args::OptionalModelArgs;
use crate::output::OutputArgs;

/// Evaluate features with weighted k-nearest-neighbour classification
///
/// Example: dinolab eval knn --weights runs/photos --train photos/train --val photos/val
///
/// Features saved by `dinolab embed` can be used instead of images; --weights is then not needed:
/// dinolab eval knn --train train.npy --val val.npy
#[derive(clap::Args)]
pub struct Args {
    /// Labelled training images, whose features vote (class = first folder level), or saved
    /// features
    #[arg(long, value_name = "IMAGES")]
    train: PathBuf,
    /// Labelled validation images, or saved features
    #[arg(long, value_name = "IMAGES")]
    val: PathBuf,
    /// Numbers of neighbours that vote; each gives one accuracy
    #[arg(
        long,
        alias = "nb-knn",
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "10,20,100,200"
    )]
    k: Vec<usize>,
    /// Temperature of the votes
    #[arg(long, value_name = "X", default_value_t = 0.07)]
    temperature: f64,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    choice: FeatureChoice,
    #[command(flatten)]
    whitening: WhiteningOptions,
    #[command(flatten)]
    preprocess: PreprocessOptions,
    #[command(flatten)]
    model: OptionalModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let request = KnnRequest {
        train: &args.train,
        val: &args.val,
        knn: Knn {
            k: args.k.clone(),
            temperature: args.temperature,
        },
        whitening: args.whitening.clone(),
        features: args.model.features(args.choice, args.preprocess),
    };
    args.output.print(&evaluate(env, &request)?)
}
