//! `dinolab eval copy`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_eval::whitening::Spread;
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
    /// Kinds of copies to make: original, jpeg, crop, blur, contrast, text, flip, rotate
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "original,jpeg,crop,blur,contrast,text",
        conflicts_with = "queries"
    )]
    attacks: Vec<String>,
    /// Qualities of JPEGs, 1–100
    #[arg(long, value_delimiter = ',', default_value = "3,5,8,10,15,20,30,50,75")]
    jpeg: Vec<f64>,
    /// Share of the surface that pictures are shrunk to before they become JPEGs (Copydays: 0.0625)
    #[arg(long, default_value_t = 1.0)]
    jpeg_area: f64,
    /// Percent of the surface that crops lose
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "10,15,20,30,40,50,60,70,80"
    )]
    crop: Vec<f64>,
    /// Standard deviation of blurs, in percent of the shorter side
    #[arg(long, value_delimiter = ',', default_value = "0.5,1,2,4")]
    blur: Vec<f64>,
    /// Factors of contrast
    #[arg(long, value_delimiter = ',', default_value = "0.3,0.6,1.5,2.5")]
    contrast: Vec<f64>,
    /// Height of letters laid over, in percent of the picture's
    #[arg(long, value_delimiter = ',', default_value = "10,20,40")]
    text: Vec<f64>,
    /// Degrees of rotations, counter-clockwise
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "5,15,90,180",
        allow_hyphen_values = true
    )]
    rotate: Vec<f64>,
    /// Random seed of places and letters
    #[arg(long, default_value_t = 0)]
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
    #[arg(long, default_value_t = 320)]
    imsize: usize,
    /// Exponent of the generalised mean over patch tokens
    #[arg(long, default_value_t = 4.0)]
    gem: f64,
    /// Rank cut-off for average precision; 0 = none
    #[arg(long, default_value_t = 20)]
    top: usize,
    /// Batch size for inference
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let attacks = AttackOptions {
        kinds: &args.attacks,
        jpeg: &args.jpeg,
        jpeg_area: args.jpeg_area,
        crop: &args.crop,
        blur: &args.blur,
        contrast: &args.contrast,
        text: &args.text,
        rotate: &args.rotate,
    };
    let request = CopyRequest {
        originals: &args.originals,
        queries: args.queries.as_deref(),
        match_prefix: args.match_prefix,
        attacks: attacks.attacks()?,
        seed: args.seed,
        save_queries: args.save_queries.as_deref(),
        distractors: args.distractors.as_deref(),
        whitening: args.whitening.as_deref(),
        whitening_about: match args.whitening_centre.as_str() {
            "mean" => Spread::AboutMean,
            _ => Spread::AboutOrigin,
        },
        imsize: args.imsize,
        gem: args.gem,
        top: args.top,
        batch_size: args.batch_size,
        weights: args.model.weights(),
        model: args.model.options(),
    };
    args.output.print(&evaluate(env, &request)?)
}
