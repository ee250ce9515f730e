//! Accuracy of a linear classifier on frozen features.

mod labelled_set;

use std::path::Path;
use std::sync::Arc;

use dinolab_data::Source;
use dinolab_data::random::{Purpose, Random};
use dinolab_eval::feature_rows::{FeatureRows, LabelledRows, RowsInMemory};
use dinolab_eval::linear::{EpochScore, LinearConfig, LinearRun, Problem, train_rows};
use dinolab_features::BlockFeatures;
use dinolab_features::Preprocess;
use dinolab_features::RandomView;
use serde::Serialize;

use self::labelled_set::LabelledSet;
use crate::classifier_file::{Backbone, ClassifierFile, Protocol};
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::feature_input::{FeatureInput, FeatureOptions, by_name, features_of, report_skipped};
use crate::feature_set::FeatureSet;
use crate::model::Model;
use crate::result_folder::check_out;
use crate::sources;
use crate::table::{Cell, Report, Table};
use crate::values::Pair;

/// What is evaluated, and how.
#[derive(Clone, Debug)]
pub struct LinearRequest<'a> {
    /// Labelled images to learn from (class = first folder level), or saved features.
    pub train: &'a Path,
    /// Labelled images to evaluate on, or saved features.
    pub val: &'a Path,
    /// Epochs, batch and seed.
    pub config: LinearConfig,
    /// Learning rates for a batch of 256, each of which trains a classifier.
    pub lrs: &'a [f64],
    /// Whether each training image is seen in a random view in each epoch.
    pub augment: bool,
    /// The fraction of the image that those views cover.
    pub crops_scale: Pair,
    /// Whether features are brought to zero mean and unit variance.
    pub standardise: bool,
    /// Where the classifier of the best learning rate is written.
    pub out: Option<&'a Path>,
    /// How features are made.
    pub features: FeatureOptions<'a>,
}

/// The figures.
#[derive(Clone, Debug, Serialize)]
pub struct LinearReport {
    /// The best learning rate.
    pub lr: f64,
    /// By what it was chosen.
    pub lr_chosen_by: &'static str,
    /// Its last epoch.
    pub last: EpochScore,
    /// Its best epoch.
    pub best: EpochScore,
    /// For each learning rate.
    pub runs: Vec<LinearRates>,
    /// Epochs, batch and seed.
    pub protocol: LinearConfig,
    /// Whether training images were seen in random views.
    pub augment: bool,
    /// Whether features were standardised.
    pub standardise: bool,
    /// Width of a feature.
    pub feature_width: usize,
    /// Images that were learned from.
    pub train_images: usize,
    /// Images that were evaluated on.
    pub val_images: usize,
    /// Classes.
    pub classes: usize,
}

/// The figures of one learning rate.
#[derive(Clone, Debug, Serialize)]
pub struct LinearRates {
    /// The learning rate.
    pub lr: f64,
    /// The last epoch.
    pub last: EpochScore,
    /// The best epoch.
    pub best: EpochScore,
    /// All epochs.
    pub history: Vec<EpochScore>,
}

/// What is known before the classifiers learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearSizes {
    /// Images to learn from.
    pub train_images: usize,
    /// Images to evaluate on.
    pub val_images: usize,
    /// Classes.
    pub classes: usize,
    /// Width of a feature.
    pub feature_width: usize,
}

/// The network and how its features are made, if there is one.
struct Network {
    model: Model,
    blocks: BlockFeatures,
    preprocess: Preprocess,
}

/// Evaluates; `begins` hears the sizes before the classifiers learn.
///
/// # Errors
/// Images, features or weights that cannot be used; sets without labels; a loss that is no longer a
/// number.
pub fn evaluate(
    env: &Environment<'_>,
    request: &LinearRequest<'_>,
    begins: &mut dyn FnMut(LinearSizes),
) -> Result<LinearReport> {
    let is_saved = |path, setting| FeatureSet::is_saved(path, &env.remote).of_setting(setting, "");
    let saved = [
        is_saved(request.train, "train")?,
        is_saved(request.val, "val")?,
    ];
    ensure_setting!(
        !(request.augment && saved[0]),
        "augment",
        "",
        "{} holds features, not images",
        request.train.display()
    );
    if let Some(out) = request.out {
        check_out(out)?;
    }
    let view = RandomView {
        size: dinolab_data::Size::square(1),
        scale: (request.crops_scale.0, request.crops_scale.1),
    };
    view.check().of_setting("crops-scale", "")?;
    let options = &request.features;
    let network = (!saved[0] || !saved[1])
        .then(|| {
            let model = options.load_rgb(env)?;
            let blocks = BlockFeatures::default().n_last_blocks;
            Ok::<_, crate::Error>(Network {
                blocks: options.choice.of(&model, blocks)?,
                preprocess: options.preprocess.of(&model),
                model,
            })
        })
        .transpose()?;
    let images = |saved: bool, path: &Path, setting| {
        (!saved)
            .then(|| sources::open(env, path).of_setting(setting, ""))
            .transpose()
    };
    let train_source = images(saved[0], request.train, "train")?;
    let val_source = images(saved[1], request.val, "val")?;
    let [train_input, val_input] = [("train", request.train), ("val", request.val)]
        .map(|(setting, path)| FeatureInput { setting, path });
    let read = |input: FeatureInput<'_>, source: &Option<Arc<dyn Source>>| {
        let (Some(source), Some(network)) = (source, &network) else {
            return LabelledSet::open(env, input);
        };
        let features = features_of(
            env,
            &network.model,
            &**source,
            &network.preprocess,
            None,
            options.preprocess.batch_size,
            network.blocks,
        )?;
        LabelledSet::of(env, features, input)
    };
    let val = read(val_input, &val_source)?;
    let mut fresh = match (&network, &train_source) {
        (Some(network), Some(source)) if request.augment => {
            Some(Augmented::new(env, network, source.clone(), view, request))
        }
        _ => None,
    };
    let train_set = match &mut fresh {
        Some(fresh) => LabelledSet::of(env, fresh.first()?, train_input)?,
        None => read(train_input, &train_source)?,
    };
    learn(
        env,
        request,
        // A classifier of saved features does not know which network made them.
        network.as_ref().filter(|_| !saved[0]),
        (train_set, val),
        fresh,
        begins,
    )
}

fn learn(
    env: &Environment<'_>,
    request: &LinearRequest<'_>,
    network: Option<&Network>,
    (train_set, val): (LabelledSet, LabelledSet),
    mut fresh: Option<Augmented<'_>>,
    begins: &mut dyn FnMut(LinearSizes),
) -> Result<LinearReport> {
    let dim = train_set.dim();
    ensure!(
        dim == val.dim(),
        "the features are of different widths: {dim} and {}",
        val.dim()
    );
    let classes = train_set.classes();
    let (labels, val_labels) = (
        train_set.label_numbers(&classes)?,
        val.label_numbers(&classes)?,
    );
    let standardiser = request
        .standardise
        .then(|| train_set.standardiser())
        .transpose()?;
    let [rows, val_rows] = [
        train_set.into_rows(standardiser.as_ref())?,
        val.into_rows(standardiser.as_ref())?,
    ];
    let config = &request.config;
    let sizes = LinearSizes {
        train_images: labels.len(),
        val_images: val_labels.len(),
        classes: classes.len(),
        feature_width: dim,
    };
    begins(sizes);
    let problem = Problem {
        dim,
        classes: classes.len(),
        labels: &labels,
        validation: LabelledRows {
            rows: &*val_rows,
            labels: &val_labels,
        },
    };
    let mut features = |epoch: usize| -> dinolab_features::Result<Box<dyn FeatureRows + '_>> {
        match &mut fresh {
            Some(fresh) if epoch > 0 => {
                let mut data = fresh.epoch(epoch)?;
                if let Some(standardiser) = &standardiser {
                    standardiser.apply(&mut data);
                }
                Ok(Box::new(RowsInMemory::new(data, dim)?))
            }
            _ => Ok(Box::new(&*rows)),
        }
    };
    let progress = env.progress("epoch", config.epochs);
    let lrs = request.lrs;
    let runs = train_rows(&mut features, &problem, lrs, config, &mut |scores| {
        let epoch = scores.first().map_or(0, |score| score.epoch);
        let line: Vec<String> = scores
            .iter()
            .zip(lrs)
            .map(|(score, lr)| {
                let EpochScore { loss, accuracy, .. } = score;
                format!("lr {lr}: loss {loss:.3}, top-1 {:.2}%", accuracy.top1)
            })
            .collect();
        progress.set(epoch, &line.join("  "));
    })?;
    progress.finish();
    let chosen = LinearRun::best_of(&runs).context("lr: at least one is needed")?;
    if let Some(path) = request.out {
        let classifier = match &standardiser {
            Some(standardiser) => standardiser.fold_into(&chosen.classifier),
            None => chosen.classifier.clone(),
        };
        let file = ClassifierFile {
            classifier,
            classes: classes.clone(),
            backbone: network.map(|network| {
                Backbone::of(&network.model.backbone, network.blocks, &network.preprocess)
            }),
            protocol: Protocol {
                config: config.clone(),
                lr: chosen.lr,
                augment: request.augment,
                standardise: request.standardise,
                images: labels.len(),
                top1: chosen.last().accuracy.top1,
            },
        };
        file.write(path)?;
    }
    let of = |run: &LinearRun| LinearRates {
        lr: run.lr,
        last: run.last().clone(),
        best: run.best().clone(),
        history: run.history.clone(),
    };
    Ok(LinearReport {
        lr: chosen.lr,
        lr_chosen_by: "top-1 accuracy on the validation images after the last epoch",
        last: chosen.last().clone(),
        best: chosen.best().clone(),
        runs: runs.iter().map(of).collect(),
        protocol: config.clone(),
        augment: request.augment,
        standardise: request.standardise,
        feature_width: sizes.feature_width,
        train_images: sizes.train_images,
        val_images: sizes.val_images,
        classes: sizes.classes,
    })
}

/// Training features of random views.
struct Augmented<'a> {
    env: &'a Environment<'a>,
    network: &'a Network,
    source: Arc<dyn Source>,
    view: RandomView,
    seed: u64,
    batch_size: usize,
    /// Images that can be used, in the order of their names.
    usable: Vec<usize>,
}

impl<'a> Augmented<'a> {
    fn new(
        env: &'a Environment<'a>,
        network: &'a Network,
        source: Arc<dyn Source>,
        view: RandomView,
        request: &LinearRequest<'_>,
    ) -> Self {
        let mut usable = by_name(&*source);
        // Views of the others would be made for nothing in every epoch.
        if !source.classes().is_empty() {
            usable.retain(|&index| source.label(index).is_some());
        }
        Self {
            env,
            view: RandomView {
                size: network.preprocess.crop,
                ..view
            },
            usable,
            network,
            source,
            seed: request.config.seed,
            batch_size: request.features.preprocess.batch_size,
        }
    }

    /// The first epoch's features, with the labels of all that can be used.
    fn first(&mut self) -> Result<FeatureSet> {
        let features = self.embed(0)?;
        report_skipped(self.env, &features.skipped, &*self.source);
        self.usable.clone_from(&features.indices);
        Ok(FeatureSet::of_source(features, &*self.source))
    }

    /// Another epoch's features of the same images.
    fn epoch(&self, epoch: usize) -> dinolab_features::Result<Vec<f32>> {
        let features = self.embed(epoch)?;
        match features.skipped.first() {
            None => Ok(features.data),
            Some((index, reason)) => Err(dinolab_features::Error::Invalid {
                what: "training images",
                reason: format!(
                    "{} could be used before: {reason}",
                    self.source.name(*index)
                ),
            }),
        }
    }

    fn embed(&self, epoch: usize) -> dinolab_features::Result<dinolab_features::Features> {
        let view = |index: usize, image: &dinolab_data::Image| {
            let mut random = Random::new(self.seed, epoch as u64, index as u64, Purpose::Crops);
            self.view.draw(image, &mut random)
        };
        let progress = self.env.progress("image", self.usable.len());
        let features = self.network.blocks.embed_views(
            &self.network.model.backbone,
            &*self.source,
            &self.usable,
            (&view, &self.network.preprocess),
            self.batch_size,
            &mut |done| progress.set(done, &format!("views of epoch {}", epoch + 1)),
        )?;
        progress.finish();
        Ok(features)
    }
}

impl Report for LinearReport {
    fn table(&self) -> Table {
        let mut table = Table::new([
            "lr",
            "last top-1 %",
            "last top-5 %",
            "best top-1 %",
            "at epoch",
            "last loss",
        ]);
        for run in &self.runs {
            let (last, best) = (&run.last, &run.best);
            table.row([
                Cell::Number(run.lr.to_string()),
                Cell::number(last.accuracy.top1, 2),
                Cell::number(last.accuracy.top5, 2),
                Cell::number(best.accuracy.top1, 2),
                Cell::count(best.epoch),
                Cell::number(last.loss, 4),
            ]);
        }
        table
    }
}

#[cfg(all(test, feature = "parquet"))]
mod tests;
