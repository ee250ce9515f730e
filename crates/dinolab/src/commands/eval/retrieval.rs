//! `dinolab eval retrieval`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_run::Environment;
use dinolab_run::evaluate::retrieval::{LabelledRequest, RevisitedRequest, by_labels, revisited};
use dinolab_run::feature_input::{FeatureChoice, FeatureInput, PreprocessOptions};

use crate::args::OptionalModelArgs;
use crate::output::OutputArgs;

/// Evaluate image retrieval (mean average precision)
///
/// Example: dinolab eval retrieval --weights W --ground-truth roxford5k/gnd_roxford5k.pkl
///
/// With --ground-truth, follows the protocol of the revisited Oxford and Paris benchmarks. With
/// labelled images, each image is a query against all others: dinolab eval retrieval --weights
/// runs/photos photos
///
/// Database and queries can be separate sets (images or saved features): --train database --val
/// queries
#[derive(clap::Args)]
pub struct Args {
    /// Labelled images (class = first folder level) or saved features; each is a query against all
    /// others
    images: Option<PathBuf>,
    /// Ground truth of the benchmark, .pkl or .json, with imlist, qimlist and gnd (easy, hard,
    /// junk, bbx)
    #[arg(long, value_name = "FILE", conflicts_with = "images")]
    ground_truth: Option<PathBuf>,
    /// Folder of the benchmark's images [default: jpg next to the ground truth]
    #[arg(long, value_name = "DIR", requires = "ground_truth")]
    image_folder: Option<PathBuf>,
    /// Shrink the benchmark's images so that the longer side is at most this
    #[arg(
        long,
        value_name = "PX",
        default_value_t = 224,
        requires = "ground_truth"
    )]
    imsize: usize,
    /// Average the features at the scales 1, 1/√2 and 1/2 of each image
    #[arg(
        long,
        value_name = "BOOL",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        default_value_t = false,
        default_missing_value = "true",
        requires = "ground_truth"
    )]
    multiscale: bool,
    /// Crop queries to their bounding box, as the benchmark requires; false uses whole images, as
    /// facebookresearch/dino does
    #[arg(
        long,
        value_name = "BOOL",
        action = clap::ArgAction::Set,
        default_value_t = true,
        requires = "ground_truth"
    )]
    query_crop: bool,
    /// Labelled database images, or saved features
    #[arg(long, value_name = "IMAGES", conflicts_with_all = ["images", "ground_truth"], requires = "val")]
    train: Option<PathBuf>,
    /// Labelled query images, or saved features
    #[arg(long, value_name = "IMAGES", requires = "train")]
    val: Option<PathBuf>,
    /// Values of k for precision@k and recall@k
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "1,5,10"
    )]
    k: Vec<usize>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    choice: FeatureChoice,
    #[command(flatten)]
    preprocess: PreprocessOptions,
    #[command(flatten)]
    model: OptionalModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let input = |setting, path| FeatureInput { setting, path };
    match (&args.ground_truth, &args.images, &args.train, &args.val) {
        (Some(file), ..) => {
            let request = RevisitedRequest {
                ground_truth: file,
                image_folder: args.image_folder.as_deref(),
                imsize: args.imsize,
                multiscale: args.multiscale,
                query_crop: args.query_crop,
                k: &args.k,
                features: args.model.features(args.choice, args.preprocess),
            };
            args.output.print(&revisited(env, &request)?)
        }
        (None, Some(images), ..) => labelled(env, args, input("", images), None),
        (None, None, Some(train), Some(val)) => {
            labelled(env, args, input("train", train), Some(input("val", val)))
        }
        _ => bail_usage!("give labelled images, --train and --val, or --ground-truth"),
    }
}

fn labelled(
    env: &Environment<'_>,
    args: &Args,
    database: FeatureInput<'_>,
    queries: Option<FeatureInput<'_>>,
) -> Result<()> {
    let request = LabelledRequest {
        database,
        queries,
        k: &args.k,
        features: args.model.features(args.choice, args.preprocess),
    };
    let report = by_labels(env, &request)?;
    if report.queries_without_match > 0 {
        errln!(
            "{} queries left out: no other image has their label",
            report.queries_without_match
        );
    }
    args.output.print(&report)
}
