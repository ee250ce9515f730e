//! `dinolab eval knn`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use dinolab_data::source::SourceOptions;
use dinolab_eval::knn::Knn;

use crate::evaluator;
use crate::model::ModelArgs;
use crate::progress::Progress;
use crate::sources;

/// Weighted k-nearest-neighbour accuracy of the features
///
/// Example: dinolab eval knn --weights runs/photos --train photos/train --val photos/val
#[derive(clap::Args)]
pub struct Args {
    /// Labelled images whose features vote (class = first folder level)
    #[arg(long)]
    train: PathBuf,
    /// Labelled images to classify
    #[arg(long)]
    val: PathBuf,
    /// Neighbours that vote, one accuracy for each
    #[arg(long, value_delimiter = ',', default_value = "10,20,100,200")]
    k: Vec<usize>,
    /// Temperature of the votes
    #[arg(long, default_value_t = 0.07)]
    temperature: f64,
    /// Bring the shortest side to this first [default: the run's, or 256]
    #[arg(long)]
    resize: Option<usize>,
    /// Cut out the centre of this side [default: the run's, or 224]
    #[arg(long)]
    crop: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let max_pixels = SourceOptions::default().max_pixels;
    let (bank, judged) = (
        sources::open(&args.train, max_pixels)?,
        sources::open(&args.val, max_pixels)?,
    );
    for (flag, source) in [("--train", &bank), ("--val", &judged)] {
        ensure!(
            !source.classes().is_empty(),
            "{flag}: has no labels; put each class in a folder of its own"
        );
    }
    let model = args.model.load()?;
    let mut preprocess = model.preprocess;
    preprocess.resize = args.resize.unwrap_or(preprocess.resize);
    preprocess.crop = args.crop.unwrap_or(preprocess.crop);
    let all = |n: usize| (0..n).collect::<Vec<_>>();
    let mut progress = Progress::new("image", (bank.len() + judged.len()) as u64, 0);
    let scores = evaluator::knn(
        &model.vit,
        (&*bank, &all(bank.len())),
        (&*judged, &all(judged.len())),
        &preprocess,
        &Knn {
            k: args.k.clone(),
            temperature: args.temperature,
        },
        &mut |done| progress.set(done as u64, ""),
    )?;
    progress.finish();
    if args.json {
        let rows: Vec<_> = scores
            .iter()
            .map(
                |score| serde_json::json!({ "k": score.k, "top1": score.top1, "top5": score.top5 }),
            )
            .collect();
        println!(
            "{}",
            serde_json::json!({ "knn": rows, "temperature": args.temperature })
        );
    } else {
        println!("{:>6} {:>8} {:>8}", "k", "top-1 %", "top-5 %");
        for score in scores {
            println!("{:>6} {:>8.2} {:>8.2}", score.k, score.top1, score.top5);
        }
    }
    Ok(())
}
