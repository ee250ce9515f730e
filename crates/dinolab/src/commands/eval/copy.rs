//! `dinolab eval copy`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_eval::whitening::WhiteningCentre;
use dinolab_nn::Feature;
use dinolab_run::Environment;
use dinolab_run::evaluate::copy::{AttackOptions, CopyRequest, evaluate};

use crate::args::ModelArgs;
use crate::output::OutputArgs;

/// Evaluate copy detection: altered copies among distractors (mean average precision)
///
/// Example: dinolab eval copy --weights W originals --distractors others --whitening more
///
/// Copies are made of the originals, or given: --queries is a folder in which a copy has its
/// original's name (cat.jpg, or cat-1.png), or a .tsv of copy, original and, if wanted, the name
/// of the block that it counts in.
#[derive(clap::Args)]
pub struct Args {
    /// The originals: a folder, list or tar
    originals: PathBuf,
    /// Copies to look up, instead of making them
    #[arg(long, value_name = "IMAGES")]
    queries: Option<PathBuf>,
    /// Copy and original share this many first characters of their names (Copydays' strong: 4)
    #[arg(long, value_name = "CHARACTERS", requires = "queries")]
    match_prefix: Option<usize>,
    #[command(flatten)]
    attacks: AttackOptions,
    /// Random seed of places and letters
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write the copies that were made into this folder, with a queries.tsv
    #[arg(long, value_name = "DIR", conflicts_with = "queries")]
    save_queries: Option<PathBuf>,
    /// Images among which the originals are looked for
    #[arg(long, value_name = "IMAGES")]
    distractors: Option<PathBuf>,
    /// Images to learn PCA whitening from; none without it
    #[arg(long, value_name = "IMAGES")]
    whitening: Option<PathBuf>,
    /// What whitening measures deviations from: origin (as the reference) or mean
    #[arg(
        long,
        alias = "whitening-about",
        default_value = "origin",
        value_parser = ["origin", "mean"]
    )]
    whitening_centre: String,
    /// Resize images to a square of this side
    #[arg(long, value_name = "PX", default_value_t = 320)]
    imsize: usize,
    /// Descriptor of an image: class (the class token), patches (the generalised mean of the patch
    /// tokens) or both, as in the paper
    #[arg(long, value_name = "FEATURE", default_value_t = Feature::Both)]
    feature: Feature,
    /// Exponent of the generalised mean over patch tokens
    #[arg(long, value_name = "X", default_value_t = 4.0)]
    gem: f64,
    /// Rank cut-off for average precision; 0 = none
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Batch size for inference
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch_size: usize,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let request = CopyRequest {
        originals: &args.originals,
        queries: args.queries.as_deref(),
        match_prefix: args.match_prefix,
        attacks: args.attacks.attacks()?,
        seed: args.seed,
        save_queries: args.save_queries.as_deref(),
        distractors: args.distractors.as_deref(),
        whitening: args.whitening.as_deref(),
        whitening_centre: match args.whitening_centre.as_str() {
            "mean" => WhiteningCentre::Mean,
            _ => WhiteningCentre::Origin,
        },
        imsize: args.imsize,
        feature: args.feature,
        gem: args.gem,
        top: args.top,
        batch_size: args.batch_size,
        weights: args.model.weights(),
        model: args.model.options(),
    };
    args.output.print(&evaluate(env, &request)?)
}
