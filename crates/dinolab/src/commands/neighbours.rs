//! `dinolab neighbours`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_run::Environment;
use dinolab_run::feature_input::{FeatureChoice, PreprocessOptions};
use dinolab_run::neighbours::{NeighbourRequest, Search, search};

use dinolab_run::whitening::WhiteningOptions;

use crate::args::ModelArgs;
use crate::output::OutputArgs;

/// Find the images most similar to an image, or near duplicates
///
/// Example: dinolab neighbours --weights runs/photos photos photos/cat.jpg --out near.html
///
/// Images are embedded once: their features are kept in an index in the run folder (or next to the
/// weight file, or at --index), and only new and changed images are embedded later. Without a
/// query, the command only updates the index.
///
/// To find groups of near duplicates: dinolab neighbours --weights runs/photos photos --duplicates
/// --out groups.html
#[derive(clap::Args)]
pub struct Args {
    /// Images to search: a folder, list, tar file or shards, Parquet file or VOC tree
    images: PathBuf,
    /// Query images: files, or names of images in IMAGES
    queries: Vec<String>,
    /// Number of neighbours to list for each query
    #[arg(long, value_name = "N", default_value_t = 10)]
    k: usize,
    /// Also write the result as a contact sheet, .png or .html
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Index file that stores the features [default: in the run folder, or next to the weights]
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// List groups of near duplicates instead of neighbours
    #[arg(long, conflicts_with = "queries")]
    duplicates: bool,
    /// Minimum cosine similarity of near duplicates
    #[arg(
        long,
        value_name = "X",
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
