//! Mean IoU of a linear layer on frozen patch tokens.

use std::path::Path;

use dinolab_data::Size;
use dinolab_features::{FrozenSegmentation, SegmentationRun};
use dinolab_nn::{Backbone, check_patches};
use serde::Serialize;

use super::percent;
use crate::class_masks::MaskOptions;
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::event::Event;
use crate::model::{Model, ModelOptions};
use crate::table::{Cell, Report, Table};

/// What is evaluated, and how.
#[derive(Clone, Debug)]
pub struct SegmentationRequest<'a> {
    /// A Pascal VOC tree; without one, the built-in shapes.
    pub tree: Option<&'a Path>,
    /// Which of its images.
    pub masks: MaskOptions,
    /// Side of the square that images are resized to; by default that of the run's attention pictures,
    /// or 480.
    pub size: Option<usize>,
    /// Epochs, batch, seed and memory; its size does not matter.
    pub settings: FrozenSegmentation,
    /// Learning rates, each of which trains a layer.
    pub lrs: &'a [f64],
    /// The weights `W`.
    pub weights: &'a Path,
    /// How their network is made.
    pub model: ModelOptions,
}

/// The figures, in percent.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentationReport {
    /// Of the best learning rate.
    pub mean_iou: Option<f64>,
    /// Of the best learning rate.
    pub pixel_accuracy: Option<f64>,
    /// The best learning rate.
    pub lr: f64,
    /// By what it was chosen.
    pub lr_chosen_by: &'static str,
    /// For each learning rate.
    pub runs: Vec<SegmentationRates>,
    /// The images, in words.
    pub images: String,
    /// Images that were learned from.
    pub train_images: usize,
    /// Images that were evaluated on.
    pub val_images: usize,
    /// Images that were left out.
    pub skipped: usize,
    /// Side that images were resized to.
    pub size: usize,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images in a step.
    pub batch_size: usize,
    /// Of initial weights and order.
    pub seed: u64,
    /// Intersection over union of each class for the best learning rate, in the order of the classes.
    #[serde(skip)]
    pub classes: Vec<(String, Option<f64>)>,
}

/// The figures of one learning rate, in percent.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentationRates {
    /// The learning rate.
    pub lr: f64,
    /// Of the last epoch.
    pub loss: f64,
    /// Over the classes.
    pub mean_iou: Option<f64>,
    /// Over all pixels.
    pub pixel_accuracy: Option<f64>,
    /// Of each class.
    pub iou: serde_json::Map<String, serde_json::Value>,
}

/// Evaluates.
///
/// # Errors
/// Images, masks or weights that cannot be used; a loss that is NaN or infinite.
pub fn evaluate(
    env: &Environment<'_>,
    request: &SegmentationRequest<'_>,
) -> Result<SegmentationReport> {
    let masks = request.masks.open(env, request.tree)?;
    let model = Model::load_rgb(env, request.weights, &request.model)?;
    let patch = model.backbone.stride();
    let side = model.attention_size.map_or(480, Size::longest) / patch * patch;
    let settings = FrozenSegmentation {
        size: request.size.unwrap_or(side.max(patch)),
        ..request.settings.clone()
    };
    check_patches(settings.size, settings.size, patch).of_setting("size", settings.size)?;
    let images = settings.epochs * masks.train_images.len() + masks.val_images.len();
    let progress = env.progress("image", images);
    let mut unusable = Vec::new();
    let runs = settings.run(
        &model.backbone,
        &model.preprocess,
        (masks.train(), &masks.train_images),
        (masks.val(), &masks.val_images),
        request.lrs,
        &mut |done| progress.set(done, ""),
        &mut |name, reason| unusable.push((name.to_string(), reason.to_string())),
    )?;
    progress.finish();
    for (name, reason) in &unusable {
        env.events.hear(Event::Skipped { name, reason });
    }
    let skipped = masks.skipped + unusable.len();
    env.skipped_in_all(skipped);
    let best = SegmentationRun::best_of(&runs).context("lr: at least one is needed")?;
    let classes = |run: &SegmentationRun| -> Vec<(String, Option<f64>)> {
        let shares = run.meter.iou().into_iter().map(percent);
        masks.names.iter().cloned().zip(shares).collect()
    };
    let of = |run: &SegmentationRun| SegmentationRates {
        lr: run.lr,
        loss: run.loss,
        mean_iou: percent(run.meter.mean()),
        pixel_accuracy: percent(run.meter.pixel_accuracy()),
        iou: classes(run)
            .into_iter()
            .map(|(name, iou)| (name, iou.into()))
            .collect(),
    };
    Ok(SegmentationReport {
        mean_iou: percent(best.meter.mean()),
        pixel_accuracy: percent(best.meter.pixel_accuracy()),
        lr: best.lr,
        lr_chosen_by: "mean IoU on the validation images",
        runs: runs.iter().map(of).collect(),
        images: masks.description.clone(),
        train_images: masks.train_images.len(),
        val_images: masks.val_images.len(),
        skipped,
        size: settings.size,
        epochs: settings.epochs,
        batch_size: settings.batch_size,
        seed: settings.seed,
        classes: classes(best),
    })
}

impl Report for SegmentationReport {
    fn table(&self) -> Table {
        let mut table = Table::new(["class", "IoU %"]);
        for (name, iou) in &self.classes {
            table.row([name.as_str().into(), Cell::number(*iou, 1)]);
        }
        table.row(["mean over classes".into(), Cell::number(self.mean_iou, 1)]);
        let pixels = Cell::number(self.pixel_accuracy, 1);
        table.row(["pixel accuracy".into(), pixels]);
        table
    }
}
