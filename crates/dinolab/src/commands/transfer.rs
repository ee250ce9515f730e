//! `dinolab eval transfer`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use dinolab_data::shapes::{Shapes, ShapesOptions};
use dinolab_data::source::{self, SourceOptions};
use dinolab_data::{Size, Source};
use dinolab_eval::network::BlockFeatures;
use dinolab_eval::network::Preprocess;
use dinolab_eval::network::RandomView;
use dinolab_eval::network::transfer::{
    Classification, FineTune, Segmentation, Share, Task, TransferConfig, TransferMode, Trial,
    compare,
};

use crate::class_masks::MaskArgs;
use crate::model::{Model, ModelArgs};
use crate::output::{self, Cell, Table};
use crate::progress::Progress;
use crate::sources;
use crate::values::Pair;

/// Learning a task from the weights against learning it from scratch
///
/// Example: dinolab eval transfer --weights runs/photos --train photos/train --val photos/val --labels 5%
///
/// A linear head on frozen weights, the network fine-tuned from them, and the same network from
/// random weights learn the same few labelled images: same order, views, steps and optimiser.
/// Each runs with every seed and learning rate; the best rate of each is marked. With a VOC
/// tree instead of --train, the task is segmentation.
#[derive(clap::Args)]
pub struct Args {
    /// A Pascal VOC tree to segment, or labelled images of which a part is held out
    /// [default: the built-in shapes]
    images: Option<PathBuf>,
    /// Labelled images to learn from
    #[arg(long, requires = "val", conflicts_with = "images")]
    train: Option<PathBuf>,
    /// Labelled images to judge by
    #[arg(long, requires = "train")]
    val: Option<PathBuf>,
    /// classification or segmentation [default: segmentation for a VOC tree]
    #[arg(long)]
    task: Option<String>,
    /// Share of the training images that keep their labels, per class: 5%, or a number
    /// [default: 5%; of segmentation 100%]
    #[arg(long)]
    labels: Option<Share>,
    /// Of classification: the head sees the class tokens of so many last blocks [default: 4, or
    /// all where there are fewer]
    #[arg(long)]
    n_last_blocks: Option<usize>,
    /// Of classification: add the mean of the last block's patch tokens: true or false
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set)]
    avgpool_patchtokens: bool,
    /// Seeds; each draws labelled images, order, views and initial weights anew
    #[arg(long, value_delimiter = ',', default_value = "0,1,2")]
    seeds: Vec<u64>,
    /// Learning rates of AdamW for networks that learn, from the weights and from scratch
    #[arg(long, value_delimiter = ',', default_value = "0.0003,0.001")]
    lr: Vec<f64>,
    /// Learning rates of AdamW for the head on frozen weights
    #[arg(long, value_delimiter = ',', default_value = "0.001,0.01")]
    frozen_lr: Vec<f64>,
    /// Passes over the labelled images
    #[arg(long, default_value_t = FineTune::default().epochs)]
    epochs: usize,
    /// Images in a step
    #[arg(long, default_value_t = FineTune::default().batch_size)]
    batch_size: usize,
    /// Share of the steps in which the rate rises
    #[arg(long, default_value_t = FineTune::default().warmup)]
    warmup: f64,
    /// Weight decay
    #[arg(long, default_value_t = FineTune::default().weight_decay)]
    weight_decay: f64,
    /// Each block learns at this times the rate of the block above it
    #[arg(long, default_value_t = FineTune::default().layer_decay)]
    layer_decay: f64,
    /// Share of the image that training views cover
    #[arg(long, value_name = "MIN,MAX", default_value = "0.25,1")]
    crops_scale: Pair,
    /// Bring the shortest side of images to judge by to this first [default: the run's, or 256]
    #[arg(long)]
    resize: Option<usize>,
    /// Side of training views and of images to judge by [default: the run's, or 224; of
    /// segmentation the run's attention pictures', or 480]
    #[arg(long)]
    crop: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    masks: MaskArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let is_tree =
        |path: &PathBuf| path.join("JPEGImages").is_dir() && path.join("ImageSets").is_dir();
    let task = match args.task.as_deref() {
        Some(task @ ("classification" | "segmentation")) => task,
        Some(other) => bail_usage!("--task {other}: one of classification, segmentation"),
        None if args.images.as_ref().is_some_and(is_tree) => "segmentation",
        None => "classification",
    };
    let view = |size: Size| {
        let view = RandomView {
            size,
            scale: (args.crops_scale.0, args.crops_scale.1),
        };
        view.check().context("--crops-scale, --crop").map(|()| view)
    };
    if task == "segmentation" {
        ensure_usage!(
            args.train.is_none(),
            "--task segmentation: give a VOC tree instead of --train and --val"
        );
        let masks = args.masks.open(args.images.as_deref())?;
        let model = args.model.load()?;
        let patch = model.vit.config().patch_size;
        let side = model.attend_size.map_or(480, Size::longest) / patch * patch;
        let task = Segmentation::new(
            (masks.train(), masks.train_images.clone()),
            (masks.val(), masks.val_images.clone()),
            view(args.crop.unwrap_or(side.max(patch)).into())?,
            &model.preprocess,
            &model.vit,
        )?;
        let counts = [masks.train_images.len(), masks.val_images.len()];
        let names = ["mean IoU %", "pixels %"];
        let head = "patch tokens".into();
        return learn(
            args,
            &task,
            &model,
            names,
            Share::Percent(100.0),
            counts,
            head,
        );
    }
    let model = args.model.load()?;
    let (train, val) = labelled(args)?;
    let preprocess = Preprocess {
        resize: args.resize.map_or(model.preprocess.resize, Size::square),
        crop: args.crop.map_or(model.preprocess.crop, Size::square),
        ..model.preprocess.clone()
    };
    let view = view(preprocess.crop)?;
    let depth = model.vit.config().depth;
    let blocks = BlockFeatures {
        n_last_blocks: args
            .n_last_blocks
            .unwrap_or(depth.min(BlockFeatures::default().n_last_blocks)),
        avgpool_patchtokens: args.avgpool_patchtokens,
    };
    blocks.check(&model.vit)?;
    let task = Classification::new(&*train, &*val, blocks, view, &preprocess, 64)?;
    let counts = [train.len(), val.len()];
    let names = ["top-1 %", "top-5 %"];
    let head = serde_json::to_value(blocks)?;
    learn(
        args,
        &task,
        &model,
        names,
        Share::Percent(5.0),
        counts,
        head,
    )
}

/// Labelled images to learn from and to judge by.
fn labelled(args: &Args) -> Result<(Arc<dyn Source>, Arc<dyn Source>)> {
    let max_pixels = SourceOptions::default().max_pixels;
    match (&args.train, &args.val, &args.images) {
        (Some(train), Some(val), _) => Ok((
            sources::labelled(sources::open(train, max_pixels).context("--train")?, train)?,
            sources::labelled(sources::open(val, max_pixels).context("--val")?, val)?,
        )),
        (_, _, Some(images)) => {
            let all = sources::open(images, max_pixels)?;
            ensure!(
                !all.classes().is_empty(),
                "{}: has no labels; put each class in a folder of its own",
                images.display()
            );
            let all = sources::labelled(all, images)?;
            let (train, val) = source::split(all, args.masks.holdout(), args.masks.holdout_seed())
                .context("--holdout")?;
            Ok((Arc::new(train), Arc::new(val)))
        }
        _ => {
            let (count, size) = args.masks.shapes();
            let options = ShapesOptions {
                size,
                ..Default::default()
            };
            let val = sources::unseen_shapes(0, (count / 4).clamp(16, 1024), size)?;
            Ok((
                Arc::new(Shapes::with_options(0, count, options)?),
                Arc::new(val),
            ))
        }
    }
}

fn learn(
    args: &Args,
    task: &dyn Task,
    model: &Model,
    names: [&str; 2],
    share: Share,
    [train_images, val_images]: [usize; 2],
    head: serde_json::Value,
) -> Result<()> {
    let config = TransferConfig {
        fine_tune: FineTune {
            epochs: args.epochs,
            batch_size: args.batch_size,
            warmup: args.warmup,
            weight_decay: args.weight_decay,
            layer_decay: args.layer_decay,
        },
        share: args.labels.unwrap_or(share),
        seeds: args.seeds.clone(),
        lrs: args.lr.clone(),
        frozen_lrs: args.frozen_lr.clone(),
    };
    let mut progress: Option<Progress> = None;
    let trials = compare(task, &model.vit, &TransferMode::ALL, &config, &mut |now| {
        let progress = progress.get_or_insert_with(|| Progress::new("step", now.steps as u64, 0));
        let text = format!("{}, lr {}, seed {}", title(now.mode), now.lr, now.seed);
        progress.set(now.step as u64, &text);
    })?;
    if let Some(progress) = progress {
        progress.finish();
    }
    let mut table = Table::new(["network", "lr", names[0], "±", names[1], "loss", "best"]);
    for trial in &trials {
        let loss = trial.losses.iter().sum::<f64>() / trial.losses.len() as f64;
        table.row([
            title(trial.mode).into(),
            Cell::Number(trial.lr.to_string()),
            Cell::number(trial.mean(), 2),
            Cell::number(trial.spread(), 2),
            Cell::number(trial.second(), 2),
            Cell::number(loss, 3),
            if trial.best { "*" } else { "" }.into(),
        ]);
    }
    let labelled =
        dinolab_eval::network::transfer::labelled_share(&task.groups(), config.share, 0)?.len();
    let margin = margin(&trials);
    let result = serde_json::json!({
        "measure": names,
        "head": head,
        "trials": trials.iter().map(|trial| serde_json::json!({
            "network": trial.mode,
            "lr": trial.lr,
            "mean": trial.mean(),
            "spread": trial.spread(),
            "second": trial.second(),
            "scores": trial.scores,
            "losses": trial.losses,
            "best": trial.best,
        })).collect::<Vec<_>>(),
        "margin": margin,
        "lr_chosen_by": "the mean over seeds on the validation images, for each network alike",
        "labels": config.share.to_string(),
        "labelled_images": labelled,
        "train_images": train_images,
        "val_images": val_images,
        "steps": config.fine_tune.steps(labelled),
        "seeds": config.seeds,
        "settings": config.fine_tune,
        "crops_scale": args.crops_scale,
        "size": task.size(),
    });
    if !args.json {
        errln!(
            "{labelled} of {train_images} images labelled, {val_images} to judge by; {} steps each; \
             ± is the deviation over {} seeds",
            config.fine_tune.steps(labelled),
            config.seeds.len()
        );
    }
    output::print(args.json, &result, &table)?;
    if !args.json {
        outln!("fine-tuned is {margin:+.2} points from scratch, each at its best lr");
    }
    Ok(())
}

fn title(mode: TransferMode) -> &'static str {
    match mode {
        TransferMode::Frozen => "frozen, linear head",
        TransferMode::FineTuned => "fine-tuned",
        TransferMode::Scratch => "from scratch",
    }
}

/// How far the fine-tuned network is ahead of the one from scratch, in points.
fn margin(trials: &[Trial]) -> f64 {
    let best = |mode| {
        let found = trials.iter().find(|trial| trial.mode == mode && trial.best);
        found.map_or(f64::NAN, Trial::mean)
    };
    best(TransferMode::FineTuned) - best(TransferMode::Scratch)
}
