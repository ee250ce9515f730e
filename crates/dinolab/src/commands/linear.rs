//! `dinolab eval linear`.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use dinolab_data::Source;
use dinolab_data::random::{Purpose, Random};
use dinolab_data::source::SourceOptions;
use dinolab_eval::feature_set::FeatureSet;
use dinolab_eval::linear::{
    EpochScore, Examples, LinearConfig, LinearRun, Problem, Standardiser, best_run, train,
};
use dinolab_eval::network::{
    Backbone, BlockFeatures, ClassifierFile, Preprocess, Protocol, RandomView,
};

use crate::inputs::{PreprocessArgs, block_features_of, by_name, labelled, tell_skipped};
use crate::model::{Model, OptionalModelArgs};
use crate::output::{self, Cell, Table};
use crate::progress::Progress;
use crate::results::check_out;
use crate::sources;
use crate::values::Pair;

/// Accuracy of a linear classifier on frozen features
///
/// Example: dinolab eval linear --weights runs/photos --train photos/train --val photos/val --out photos.classifier
///
/// The reference's protocol: class tokens of the last four blocks, SGD with momentum and a
/// cosine, no weight decay, 100 epochs. Training images are embedded once, from their centres;
/// --augment gives them a random view in each epoch, as the reference does, at the price of as
/// many passes through the network. Features saved by `dinolab embed --n-last-blocks 4` serve as
/// well, without weights.
#[derive(clap::Args)]
pub struct Args {
    /// Labelled images to learn from (class = first folder level), or saved features
    #[arg(long)]
    train: PathBuf,
    /// Labelled images to judge by, or saved features
    #[arg(long)]
    val: PathBuf,
    /// Concatenate the class tokens of so many last blocks
    #[arg(long, default_value_t = BlockFeatures::default().n_last_blocks)]
    n_last_blocks: usize,
    /// Add the mean of the last block's patch tokens: true or false
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set)]
    avgpool_patchtokens: bool,
    /// Passes over the training set
    #[arg(long, default_value_t = LinearConfig::default().epochs)]
    epochs: usize,
    /// Rows in a step of SGD
    #[arg(long, default_value_t = LinearConfig::default().batch_size)]
    batch_size_per_gpu: usize,
    /// Learning rates for a batch of 256, scaled to the batch; each trains a classifier
    #[arg(long, value_delimiter = ',', default_value = "0.001")]
    lr: Vec<f64>,
    /// Seed of initial weights, order and views
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A random view of each training image in each epoch: resized crop and flip
    #[arg(long)]
    augment: bool,
    /// Share of the image that those views cover
    #[arg(long, value_name = "MIN,MAX", default_value = "0.08,1")]
    crops_scale: Pair,
    /// Bring features to mean 0 and deviation 1 over the training set; not in the reference
    #[arg(long)]
    standardise: bool,
    /// Write the classifier of the best learning rate, for `dinolab classify`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    model: OptionalModelArgs,
}

/// The network and how its features are made, where there is one.
struct Network {
    model: Model,
    preprocess: Preprocess,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let blocks = BlockFeatures {
        n_last_blocks: args.n_last_blocks,
        avgpool_patchtokens: args.avgpool_patchtokens,
    };
    let saved = [&args.train, &args.val].map(|path| FeatureSet::is_file_of(path));
    ensure_usage!(
        !(args.augment && saved[0]),
        "--augment: {} holds features, not images",
        args.train.display()
    );
    if let Some(out) = &args.out {
        check_out(out)?;
    }
    let view = RandomView {
        size: dinolab_data::Size::square(1),
        scale: (args.crops_scale.0, args.crops_scale.1),
    };
    view.check().context("--crops-scale")?;
    let images = |path: &PathBuf, flag: &'static str| {
        sources::open(path, SourceOptions::default().max_pixels).context(flag)
    };
    let network = (!saved[0] || !saved[1])
        .then(|| {
            let model = args.model.load()?;
            let preprocess = args.preprocess.of(&model);
            Ok::<_, anyhow::Error>(Network { model, preprocess })
        })
        .transpose()?;
    let train_source = (!saved[0])
        .then(|| images(&args.train, "--train"))
        .transpose()?;
    let val_source = (!saved[1])
        .then(|| images(&args.val, "--val"))
        .transpose()?;
    let batch_size = args.preprocess.batch_size();
    let embed = |path: &PathBuf, source: &Option<Arc<dyn Source>>, flag| match (source, &network) {
        (Some(source), Some(network)) => block_features_of(
            &network.model,
            &**source,
            &network.preprocess,
            None,
            batch_size,
            blocks,
        ),
        _ => FeatureSet::read(path).context(flag),
    };
    let val = embed(&args.val, &val_source, "--val")?;
    let mut fresh = match (&network, &train_source) {
        (Some(network), Some(source)) if args.augment => {
            Some(Augmented::new(network, source.clone(), blocks, view, args))
        }
        _ => None,
    };
    let train_set = match &mut fresh {
        Some(fresh) => fresh.first()?,
        None => embed(&args.train, &train_source, "--train")?,
    };
    learn(args, blocks, network.as_ref(), (train_set, val), fresh)
}

fn learn(
    args: &Args,
    blocks: BlockFeatures,
    network: Option<&Network>,
    (train_set, val): (FeatureSet, FeatureSet),
    mut fresh: Option<Augmented>,
) -> Result<()> {
    let mut train_set = labelled(train_set, "--train", &args.train)?;
    let mut val = labelled(val, "--val", &args.val)?;
    ensure!(
        train_set.dim == val.dim,
        "the features are of different widths: {} and {}",
        train_set.dim,
        val.dim
    );
    let classes = train_set.classes();
    let (labels, val_labels) = (
        train_set.label_numbers(&classes)?,
        val.label_numbers(&classes)?,
    );
    let standardiser = args
        .standardise
        .then(|| Standardiser::of(&train_set.data, train_set.dim))
        .transpose()?;
    if let Some(standardiser) = &standardiser {
        standardiser.apply(&mut train_set.data);
        standardiser.apply(&mut val.data);
    }
    let config = LinearConfig {
        epochs: args.epochs,
        batch_size: args.batch_size_per_gpu,
        seed: args.seed,
        ..Default::default()
    };
    errln!(
        "{} images of {} classes, features of width {} from {}; {} to judge by",
        train_set.len(),
        classes.len(),
        train_set.dim,
        if args.augment {
            "a random view of each image in each epoch"
        } else {
            "the centre of each image (--augment for random views)"
        },
        val.len()
    );
    let problem = Problem {
        dim: train_set.dim,
        classes: classes.len(),
        labels: &labels,
        validation: Examples {
            features: &val.data,
            labels: &val_labels,
        },
    };
    let cached = train_set.data.as_slice();
    let mut features = |epoch: usize| match &mut fresh {
        Some(fresh) if epoch > 0 => {
            let mut data = fresh.epoch(epoch)?;
            if let Some(standardiser) = &standardiser {
                standardiser.apply(&mut data);
            }
            Ok(Cow::Owned(data))
        }
        _ => Ok(Cow::Borrowed(cached)),
    };
    let mut progress = Progress::new("epoch", config.epochs as u64, 0);
    let runs = train(&mut features, &problem, &args.lr, &config, &mut |scores| {
        let epoch = scores.first().map_or(0, |score| score.epoch);
        let line: Vec<String> = scores
            .iter()
            .zip(&args.lr)
            .map(|(score, lr)| {
                let EpochScore { loss, accuracy, .. } = score;
                format!("lr {lr}: loss {loss:.3}, top-1 {:.2} %", accuracy.top1)
            })
            .collect();
        progress.set(epoch as u64, &line.join("  "));
    })?;
    progress.finish();
    let chosen = &runs[best_run(&runs)];
    if let Some(path) = &args.out {
        let classifier = match &standardiser {
            Some(standardiser) => standardiser.fold_into(&chosen.classifier),
            None => chosen.classifier.clone(),
        };
        let file = ClassifierFile {
            classifier,
            classes: classes.clone(),
            backbone: network
                .filter(|_| !FeatureSet::is_file_of(&args.train))
                .map(|network| Backbone::of(&network.model.vit, blocks, &network.preprocess)),
            protocol: Protocol {
                config: config.clone(),
                lr: chosen.lr,
                augment: args.augment,
                standardise: args.standardise,
                images: labels.len(),
                top1: chosen.last().accuracy.top1,
            },
        };
        file.write(path)?;
        errln!(
            "classifier (last epoch, lr {}) in {}",
            chosen.lr,
            path.display()
        );
    }
    show(
        args,
        &config,
        &runs,
        chosen,
        [labels.len(), val.len(), classes.len()],
        train_set.dim,
    )
}

fn show(
    args: &Args,
    config: &LinearConfig,
    runs: &[LinearRun],
    chosen: &LinearRun,
    [train_images, val_images, classes]: [usize; 3],
    dim: usize,
) -> Result<()> {
    let mut table = Table::new([
        "lr",
        "last top-1 %",
        "last top-5 %",
        "best top-1 %",
        "at epoch",
        "last loss",
    ]);
    for run in runs {
        let (last, best) = (run.last(), run.best());
        table.row([
            Cell::Number(run.lr.to_string()),
            Cell::number(last.accuracy.top1, 2),
            Cell::number(last.accuracy.top5, 2),
            Cell::number(best.accuracy.top1, 2),
            Cell::count(best.epoch),
            Cell::number(last.loss, 4),
        ]);
    }
    let result = serde_json::json!({
        "lr": chosen.lr,
        "lr_chosen_by": "top-1 accuracy on the validation images after the last epoch",
        "last": chosen.last(),
        "best": chosen.best(),
        "runs": runs.iter().map(|run| serde_json::json!({
            "lr": run.lr,
            "last": run.last(),
            "best": run.best(),
            "history": run.history,
        })).collect::<Vec<_>>(),
        "protocol": config,
        "augment": args.augment,
        "standardise": args.standardise,
        "feature_width": dim,
        "train_images": train_images,
        "val_images": val_images,
        "classes": classes,
    });
    output::print(args.json, &result, &table)
}

/// Training features of random views.
struct Augmented<'a> {
    network: &'a Network,
    source: Arc<dyn Source>,
    blocks: BlockFeatures,
    view: RandomView,
    seed: u64,
    batch_size: usize,
    /// Images that can be used, in the order of their names.
    usable: Vec<usize>,
}

impl<'a> Augmented<'a> {
    fn new(
        network: &'a Network,
        source: Arc<dyn Source>,
        blocks: BlockFeatures,
        view: RandomView,
        args: &Args,
    ) -> Self {
        let mut usable = by_name(&*source);
        // Views of the others would be made for nothing in every epoch.
        if !source.classes().is_empty() {
            usable.retain(|&index| source.label(index).is_some());
        }
        Self {
            view: RandomView {
                size: network.preprocess.crop,
                ..view
            },
            usable,
            network,
            source,
            blocks,
            seed: args.seed,
            batch_size: args.preprocess.batch_size(),
        }
    }

    /// The first epoch's features, with the labels of all that can be used.
    fn first(&mut self) -> Result<FeatureSet> {
        let features = self.embed(0)?;
        tell_skipped(&features, &*self.source);
        self.usable.clone_from(&features.indices);
        Ok(FeatureSet::of_source(features, &*self.source))
    }

    /// Another epoch's features of the same images.
    fn epoch(&self, epoch: usize) -> dinolab_eval::Result<Vec<f32>> {
        let features = self.embed(epoch)?;
        match features.skipped.first() {
            None => Ok(features.data),
            Some((index, reason)) => Err(dinolab_eval::Error::Invalid {
                what: "training images",
                reason: format!(
                    "{} could be used before: {reason}",
                    self.source.name(*index)
                ),
            }),
        }
    }

    fn embed(&self, epoch: usize) -> dinolab_eval::Result<dinolab_eval::network::Features> {
        let view = |index: usize, image: &dinolab_data::Image| {
            let mut random = Random::new(self.seed, epoch as u64, index as u64, Purpose::Crops);
            let at = self.view.place(image, &mut random);
            self.view.render(image, at)
        };
        let mut progress = Progress::new("image", self.usable.len() as u64, 0);
        let features = self.blocks.embed_views(
            &self.network.model.vit,
            &*self.source,
            &self.usable,
            (&view, &self.network.preprocess),
            self.batch_size,
            &mut |done| progress.set(done as u64, &format!("views of epoch {}", epoch + 1)),
        )?;
        progress.finish();
        Ok(features)
    }
}
