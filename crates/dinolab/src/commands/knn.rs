//! `dinolab eval knn`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_eval::knn::{Knn, KnnScore, Labelled, l2_normalise};

use crate::inputs::{PreprocessArgs, feature_sets, labelled};
use crate::model::OptionalModelArgs;
use crate::output::{self, Cell, Table};

/// Weighted k-nearest-neighbour accuracy of the features
///
/// Example: dinolab eval knn --weights runs/photos --train photos/train --val photos/val
///
/// Features saved by `dinolab embed` serve as well, without weights:
/// dinolab eval knn --train train.npy --val val.npy
#[derive(clap::Args)]
pub struct Args {
    /// Labelled images whose features vote (class = first folder level), or saved features
    #[arg(long)]
    train: PathBuf,
    /// Labelled images to classify, or saved features
    #[arg(long)]
    val: PathBuf,
    /// Neighbours that vote, one accuracy for each
    #[arg(
        long,
        alias = "nb-knn",
        value_delimiter = ',',
        default_value = "10,20,100,200"
    )]
    k: Vec<usize>,
    /// Temperature of the votes
    #[arg(long, default_value_t = 0.07)]
    temperature: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    model: OptionalModelArgs,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let paths = [("--train", args.train.as_path()), ("--val", &args.val)];
    let [train, val] = feature_sets(paths, &args.model, &args.preprocess)?;
    let mut train = labelled(train, "--train", &args.train)?;
    let mut val = labelled(val, "--val", &args.val)?;
    for set in [&mut train, &mut val] {
        l2_normalise(&mut set.data, set.dim)?;
    }
    let classes = train.classes();
    let (train_labels, val_labels) = (train.label_numbers(&classes)?, val.label_numbers(&classes)?);
    let scores = Knn {
        k: args.k.clone(),
        temperature: args.temperature,
    }
    .evaluate(
        Labelled {
            features: &train.data,
            dim: train.dim,
            labels: &train_labels,
        },
        Labelled {
            features: &val.data,
            dim: val.dim,
            labels: &val_labels,
        },
    )?;
    let mut table = Table::new(["k", "top-1 %", "top-5 %"]);
    for KnnScore { k, top1, top5, .. } in &scores {
        table.row([
            Cell::count(*k),
            Cell::number(*top1, 2),
            Cell::number(*top5, 2),
        ]);
    }
    let rows: Vec<_> = scores
        .iter()
        .map(|score| serde_json::json!({ "k": score.k, "top1": score.top1, "top5": score.top5 }))
        .collect();
    let result = serde_json::json!({
        "knn": rows,
        "temperature": args.temperature,
        "train_images": train.len(),
        "val_images": val.len(),
        "classes": classes.len(),
    });
    output::print(args.json, &result, &table)
}
