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
/// Copies are made from the originals, unless --queries gives them: a folder in which the name of a
/// copy begins with that of its original (cat.jpg, cat-1.png), or a .tsv file with columns copy,
/// original and, optionally, a group to report it in.
#[derive(clap::Args)]
pub struct Args {
    /// Original images: a folder, list or tar file
    originals: PathBuf,
    /// Use these copies as queries instead of making copies
    #[arg(long, value_name = "DIR|TSV")]
    queries: Option<PathBuf>,
    /// With --queries DIR: match a copy to its original by the first N characters of their names (4
    /// for the strong copies of Copydays)
    #[arg(long, value_name = "N", requires = "queries")]
    match_prefix: Option<usize>,
    #[command(flatten)]
    attacks: AttackOptions,
    /// Random seed of crop positions and letters
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write the copies made to this folder, with a queries.tsv
    #[arg(long, value_name = "DIR", conflicts_with = "queries")]
    save_queries: Option<PathBuf>,
    /// Distractors: further images to search
    #[arg(long, value_name = "IMAGES")]
    distractors: Option<PathBuf>,
    /// Images to fit PCA whitening on [default: no whitening]
    #[arg(long, value_name = "IMAGES")]
    whitening: Option<PathBuf>,
    /// Compute the variances of whitening about the origin (as facebookresearch/dino does) or about
    /// the mean
    #[arg(
        long,
        alias = "whitening-about",
        value_name = "CENTRE",
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
    /// Rank cut-off of average precision; 0 disables it
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
