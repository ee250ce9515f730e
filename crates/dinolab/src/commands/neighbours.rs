//! `dinolab neighbours`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_run::Environment;
use dinolab_run::feature_input::{FeatureChoice, PreprocessOptions};
use dinolab_run::neighbours::{NeighbourRequest, Search, search};

use dinolab_run::whitening::WhiteningOptions;

use crate::args::ModelArgs;
use crate::output::OutputArgs;

/// Find the nearest images to an image, and near duplicates
///
/// Example: dinolab neighbours --weights runs/photos photos photos/cat.jpg --out near.html
///
/// Images are embedded once: their features are kept in the run's folder (or next to the weight
/// file, or at --index), and only what is new or changed is embedded again. Without a query the
/// index is brought up to date and nothing else.
///
/// Groups of images that are nearly the same:
/// dinolab neighbours --weights runs/photos photos --duplicates --out groups.html
#[derive(clap::Args)]
pub struct Args {
    /// Images to search: a folder, list, tar or VOC tree
    images: PathBuf,
    /// Image files, or names of images among those searched
    queries: Vec<String>,
    /// Number of neighbours of each query
    #[arg(long, value_name = "N", default_value_t = 10)]
    k: usize,
    /// Show the result as pictures: .png or .html
    #[arg(long, value_name = "SHEET")]
    out: Option<PathBuf>,
    /// File that keeps the features [default: in the run's folder, or next to the weights]
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// Find groups of near duplicates instead
    #[arg(long, conflicts_with = "queries")]
    duplicates: bool,
    /// Cosine similarity from which two images are near duplicates
    #[arg(
        long,
        default_value_t = 0.95,
        requires = "duplicates",
        allow_negative_numbers = true
    )]
    threshold: f64,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    choice: FeatureChoice,
    #[command(flatten)]
    whitening: WhiteningOptions,
    #[command(flatten)]
    preprocess: PreprocessOptions,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let request = NeighbourRequest {
        images: &args.images,
        search: match args.duplicates {
            true => Search::Duplicates {
                threshold: args.threshold,
            },
            false => Search::Nearest {
                queries: &args.queries,
                k: args.k,
            },
        },
        out: args.out.as_deref(),
        index: args.index.as_deref(),
        choice: args.choice,
        whitening: args.whitening.clone(),
        preprocess: args.preprocess,
        weights: args.model.weights(),
        model: args.model.options(),
    };
    let report = search(env, &request)?;
    errln!("{report}");
    // Without a question there is no answer but that of the lines above.
    if !args.output.json && args.queries.is_empty() && !args.duplicates {
        return Ok(());
    }
    args.output.print(&report)
}
