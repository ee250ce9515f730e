//! Learning a task from the weights against learning it from scratch.

use std::path::Path;
use std::sync::Arc;

use dinolab_data::shapes::{Shapes, ShapesOptions};
use dinolab_data::{Size, Source, source};
use dinolab_features::BlockFeatures;
use dinolab_features::Preprocess;
use dinolab_features::RandomView;
use dinolab_features::transfer::{
    FineTune, Score, Share, Task, TransferConfig, TransferMode, Trial,
};
use dinolab_nn::Backbone;
use serde::Serialize;

use crate::class_masks::MaskOptions;
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::event::Progress;
use crate::feature_input::FeatureChoice;
use crate::model::{Model, ModelOptions};
use crate::sources;
use crate::table::{Cell, Report, Table};
use crate::values::Pair;

/// What is to be learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum TransferTask {
    /// Predict the class of an image
    Classification,
    /// Predict the class of each pixel
    Segmentation,
}

/// What is evaluated, and how.
#[derive(Clone, Debug)]
pub struct TransferRequest<'a> {
    /// A Pascal VOC tree, or labelled images of which a part is held out; without it or `sets`, the
    /// built-in shapes.
    pub images: Option<&'a Path>,
    /// Labelled images to learn from and to evaluate on.
    pub sets: Option<[&'a Path; 2]>,
    /// By default segmentation for a VOC tree, else classification.
    pub task: Option<TransferTask>,
    /// The fraction of the training images that keep their labels; by default 5%, of segmentation all.
    pub share: Option<Share>,
    /// Of classification: what the head sees; by default of 4 blocks, or of all if there are fewer.
    pub choice: FeatureChoice,
    /// Each draws labelled images, order, views and initial weights anew.
    pub seeds: Vec<u64>,
    /// Learning rates for networks that learn.
    pub lrs: Vec<f64>,
    /// Learning rates for the head on frozen weights.
    pub frozen_lrs: Vec<f64>,
    /// Epochs, batch, warm-up and decay.
    pub fine_tune: FineTune,
    /// The fraction of the image that training views cover.
    pub crops_scale: Pair,
    /// What the shorter side of images to evaluate on becomes; by default the run's.
    pub resize: Option<usize>,
    /// Side of training views and of images to evaluate on; by default the run's.
    pub crop: Option<usize>,
    /// Images with masks, of segmentation; what is held out, and the built-in shapes.
    pub masks: MaskOptions,
    /// The weights `W`.
    pub weights: &'a Path,
    /// How their network is made.
    pub model: ModelOptions,
}

/// The figures.
#[derive(Clone, Debug, Serialize)]
pub struct TransferReport {
    /// What the two figures of a trial are.
    pub measure: [&'static str; 2],
    /// What the head sees.
    pub head: serde_json::Value,
    /// For each network and learning rate.
    pub trials: Vec<TransferTrial>,
    /// How far the fine-tuned network is ahead of the one from scratch, in points.
    pub margin: f64,
    /// By what the best learning rates were chosen.
    pub lr_chosen_by: &'static str,
    /// The fraction of the images that kept their labels.
    pub labels: String,
    /// How many they were.
    pub labelled_images: usize,
    /// Images to learn from.
    pub train_images: usize,
    /// Images to evaluate on.
    pub val_images: usize,
    /// Steps of each trial.
    pub steps: usize,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Epochs, batch, warm-up and decay.
    pub settings: FineTune,
    /// The fraction of the image that training views covered.
    pub crops_scale: Pair,
    /// Side of the images.
    pub size: serde_json::Value,
}

/// The figures of one network with one learning rate, over all seeds.
#[derive(Clone, Debug, Serialize)]
pub struct TransferTrial {
    /// Which network.
    pub network: TransferMode,
    /// Its learning rate.
    pub lr: f64,
    /// The mean of the first figure.
    pub mean: f64,
    /// Its standard deviation over the seeds.
    pub spread: Option<f64>,
    /// The mean of the second figure.
    pub second: Option<f64>,
    /// For each seed.
    pub scores: Vec<Score>,
    /// For each seed.
    pub losses: Vec<f64>,
    /// Whether it is the best learning rate of this network.
    pub best: bool,
}

/// What a task is called and made of, apart from itself.
struct Description {
    measure: [&'static str; 2],
    share: Share,
    counts: [usize; 2],
    head: serde_json::Value,
}

/// Evaluates.
///
/// # Errors
/// Images, masks or weights that cannot be used; a loss that is NaN or infinite.
pub fn evaluate(env: &Environment<'_>, request: &TransferRequest<'_>) -> Result<TransferReport> {
    let is_tree =
        |path: &&Path| path.join("JPEGImages").is_dir() && path.join("ImageSets").is_dir();
    let task = request
        .task
        .unwrap_or(match request.images.filter(is_tree) {
            Some(_) => TransferTask::Segmentation,
            None => TransferTask::Classification,
        });
    match task {
        TransferTask::Segmentation => segmentation(env, request),
        TransferTask::Classification => classification(env, request),
    }
}

fn view(request: &TransferRequest<'_>, size: Size) -> Result<RandomView> {
    let view = RandomView {
        size,
        scale: (request.crops_scale.0, request.crops_scale.1),
    };
    view.check().context("`crops-scale`, `crop`")?;
    Ok(view)
}

fn segmentation(env: &Environment<'_>, request: &TransferRequest<'_>) -> Result<TransferReport> {
    ensure_setting!(
        request.sets.is_none(),
        "task",
        "segmentation",
        "give a VOC tree instead of `train` and `val`"
    );
    let masks = request.masks.open(env, request.images)?;
    let model = Model::load_rgb(env, request.weights, &request.model)?;
    let patch = model.backbone.stride();
    let side = model.attention_size.map_or(480, Size::longest) / patch * patch;
    let task = Task::segmentation(
        (masks.train(), masks.train_images.clone()),
        (masks.val(), masks.val_images.clone()),
        view(request, request.crop.unwrap_or(side.max(patch)).into())?,
        &model.preprocess,
        &model.backbone,
    )?;
    let description = Description {
        measure: ["mean IoU %", "pixels %"],
        share: Share::Percent(100.0),
        counts: [masks.train_images.len(), masks.val_images.len()],
        head: "patch tokens".into(),
    };
    learn(env, request, &task, &model, description)
}

fn classification(env: &Environment<'_>, request: &TransferRequest<'_>) -> Result<TransferReport> {
    let model = Model::load_rgb(env, request.weights, &request.model)?;
    let (train, val) = labelled(env, request)?;
    let preprocess = Preprocess {
        resize: request.resize.map_or(model.preprocess.resize, Size::square),
        crop: request.crop.map_or(model.preprocess.crop, Size::square),
        ..model.preprocess.clone()
    };
    let view = view(request, preprocess.crop)?;
    let depth = model.backbone.config().depth();
    let blocks = depth.min(BlockFeatures::default().n_last_blocks);
    let blocks = request.choice.of(&model, blocks)?;
    let task = Task::classification(&*train, &*val, blocks, view, &preprocess, 64)?;
    let description = Description {
        measure: ["top-1 %", "top-5 %"],
        share: Share::Percent(5.0),
        counts: [train.len(), val.len()],
        head: serde_json::to_value(blocks)?,
    };
    learn(env, request, &task, &model, description)
}

/// Labelled images to learn from and to evaluate on.
fn labelled(
    env: &Environment<'_>,
    request: &TransferRequest<'_>,
) -> Result<(Arc<dyn Source>, Arc<dyn Source>)> {
    let masks = &request.masks;
    match (request.sets, request.images) {
        (Some([train, val]), _) => {
            let open = |path, setting| {
                let source = sources::open(env, path).of_setting(setting, "")?;
                sources::labelled(env, source, path)
            };
            Ok((open(train, "train")?, open(val, "val")?))
        }
        (None, Some(images)) => {
            let all = sources::open(env, images)?;
            ensure!(
                !all.classes().is_empty(),
                "{}: has no labels; put each class in its own folder",
                images.display()
            );
            let all = sources::labelled(env, all, images)?;
            let (train, val) =
                source::split(all, masks.holdout, masks.holdout_seed).of_setting("holdout", "")?;
            Ok((Arc::new(train), Arc::new(val)))
        }
        (None, None) => {
            let (count, size) = (masks.shapes_images, masks.shapes_size);
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
    env: &Environment<'_>,
    request: &TransferRequest<'_>,
    task: &Task<'_>,
    model: &Model,
    description: Description,
) -> Result<TransferReport> {
    let config = TransferConfig {
        fine_tune: request.fine_tune.clone(),
        share: request.share.unwrap_or(description.share),
        seeds: request.seeds.clone(),
        lrs: request.lrs.clone(),
        frozen_lrs: request.frozen_lrs.clone(),
    };
    let mut progress: Option<Progress<'_>> = None;
    let trials = config.compare(task, &model.backbone, &TransferMode::ALL, &mut |now| {
        let progress = progress.get_or_insert_with(|| env.progress("step", now.steps));
        let text = format!("{}, lr {}, seed {}", title(now.mode), now.lr, now.seed);
        progress.set(now.step, &text);
    })?;
    drop(progress);
    let labelled = config.share.draw(&task.groups(), 0)?.len();
    let [train_images, val_images] = description.counts;
    Ok(TransferReport {
        measure: description.measure,
        head: description.head,
        margin: margin(&trials),
        trials: trials
            .into_iter()
            .map(|trial| TransferTrial {
                network: trial.mode,
                lr: trial.lr,
                mean: trial.mean(),
                spread: trial.spread(),
                second: trial.second(),
                scores: trial.scores,
                losses: trial.losses,
                best: trial.best,
            })
            .collect(),
        lr_chosen_by: "the mean over seeds on the validation images, for each network alike",
        labels: config.share.to_string(),
        labelled_images: labelled,
        train_images,
        val_images,
        steps: config.fine_tune.steps(labelled),
        seeds: config.seeds,
        settings: config.fine_tune,
        crops_scale: request.crops_scale,
        size: serde_json::to_value(task.size())?,
    })
}

/// What a network is called.
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

impl Report for TransferReport {
    fn table(&self) -> Table {
        let [first, second] = self.measure;
        let mut table = Table::new(["network", "lr", first, "±", second, "loss", "best"]);
        for trial in &self.trials {
            let loss = trial.losses.iter().sum::<f64>() / trial.losses.len() as f64;
            table.row([
                title(trial.network).into(),
                Cell::Number(trial.lr.to_string()),
                Cell::number(trial.mean, 2),
                Cell::number(trial.spread, 2),
                Cell::number(trial.second, 2),
                Cell::number(loss, 3),
                if trial.best { "*" } else { "" }.into(),
            ]);
        }
        table
    }
}
