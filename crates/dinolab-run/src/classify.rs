//! Classes of images by a linear classifier on the features of a network.

use std::io::Write;
use std::path::{Path, PathBuf};

use dinolab_files::write_whole;
use dinolab_nn::BackboneConfig;
use serde::Serialize;

use crate::classifier_file::{Backbone, ClassifierFile};
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::feature_input::{FeatureOptions, features_of};
use crate::feature_set::FeatureSet;
use crate::image_files;
use crate::model::Model;
use crate::result_folder::check_out;
use crate::table::{Cell, Report, Table};

/// What is classified, and how.
#[derive(Clone, Debug)]
pub struct ClassifyRequest<'a> {
    /// Images, folders, lists, archives, or saved features.
    pub images: &'a [PathBuf],
    /// A file of [`evaluate::linear`](crate::evaluate::linear).
    pub classifier: &'a Path,
    /// Classes to name for each image.
    pub top: usize,
    /// Whether other weights of the same sizes may be used than those it was trained on.
    pub allow_other_weights: bool,
    /// A `.tsv` or `.json` file for the answers.
    pub out: Option<&'a Path>,
    /// How features are made; images are prepared as they were for the classifier.
    pub features: FeatureOptions<'a>,
}

/// All answers.
#[derive(Clone, Debug, Serialize)]
pub struct ClassifyReport {
    /// For each image.
    pub images: Vec<Classified>,
    /// The percentage of labelled images whose likeliest class is their own.
    pub top1: Option<f64>,
    /// Images that were left out.
    pub skipped: usize,
    /// How many images have a label.
    #[serde(skip)]
    pub labelled: usize,
}

/// The classes of an image.
#[derive(Clone, Debug, Serialize)]
pub struct Classified {
    /// Its name.
    pub image: String,
    /// The class it is known to be of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The likeliest first.
    pub classes: Vec<ClassProbability>,
}

/// A class with its probability.
#[derive(Clone, Debug, Serialize)]
pub struct ClassProbability {
    /// Its name.
    pub class: String,
    /// 0–1.
    pub probability: f32,
}

/// Classifies, and writes the file if there is one.
///
/// # Errors
/// Images, features or weights that cannot be used, or do not belong to the classifier.
pub fn classify(env: &Environment<'_>, request: &ClassifyRequest<'_>) -> Result<ClassifyReport> {
    ensure_setting!(request.top > 0, "top", 0, "must be at least 1");
    if let Some(out) = request.out {
        ensure_setting!(
            matches!(
                out.extension().and_then(|e| e.to_str()),
                Some("tsv" | "json")
            ),
            "out",
            out.display(),
            "must end in .tsv or .json"
        );
        check_out(out)?;
    }
    let file = ClassifierFile::read(request.classifier)?;
    let (mut saved, mut images) = (Vec::new(), Vec::new());
    for path in request.images {
        match FeatureSet::is_saved(path, &env.remote)? {
            true => saved.push(path),
            false => images.push(path.clone()),
        }
    }
    let mut all = Vec::new();
    let mut skipped = 0;
    if !images.is_empty() {
        let Some(backbone) = &file.backbone else {
            bail!(
                "{} was trained on saved features: it can classify features, but does not know \
                 which network made them",
                request.classifier.display()
            );
        };
        let sources = image_files::open(env, &images)?;
        let model = request.features.load_rgb(env)?;
        check(request, backbone, &model)?;
        for source in sources {
            let set = features_of(
                env,
                &model,
                &*source,
                &backbone.preprocess,
                None,
                request.features.preprocess.batch_size,
                backbone.features,
            )?;
            skipped += source.len() - set.len();
            all.extend(answers(&file, &set, request.top)?);
        }
    }
    for path in &saved {
        let set = FeatureSet::load(path, &env.remote)?;
        ensure!(
            set.dim == file.classifier.dim,
            "{}: features of width {}, the classifier takes {}",
            path.display(),
            set.dim,
            file.classifier.dim
        );
        all.extend(answers(&file, &set, request.top)?);
    }
    let known: Vec<bool> = all
        .iter()
        .filter_map(|answer| Some(answer.label.as_ref()? == &answer.classes.first()?.class))
        .collect();
    let right = known.iter().filter(|&&right| right).count();
    let report = ClassifyReport {
        images: all,
        top1: (!known.is_empty()).then(|| 100.0 * right as f64 / known.len() as f64),
        skipped,
        labelled: known.len(),
    };
    if let Some(out) = request.out {
        write(out, &report)?;
    }
    Ok(report)
}

/// Refuses a network that the classifier was not trained on.
fn check(request: &ClassifyRequest<'_>, backbone: &Backbone, model: &Model) -> Result<()> {
    let found = Backbone::of(&model.backbone, backbone.features, &backbone.preprocess);
    ensure!(
        found.config == backbone.config,
        "{} belongs to another network: {}; these weights have {}",
        request.classifier.display(),
        sizes(&backbone.config),
        sizes(&found.config),
    );
    ensure!(
        request.allow_other_weights || found.crc32 == backbone.crc32,
        "{} was trained on other weights of the same sizes (`allow-other-weights` uses these all the same)",
        request.classifier.display()
    );
    Ok(())
}

/// The sizes of a network in words.
fn sizes(config: &BackboneConfig) -> String {
    match config {
        BackboneConfig::Vit(vit) => format!(
            "width {}, depth {}, patch {}, image {}",
            vit.width, vit.depth, vit.patch_size, vit.image_size
        ),
        other => format!("{} with {:?} blocks", other.describe(), other.stages()),
    }
}

fn answers(file: &ClassifierFile, set: &FeatureSet, top: usize) -> Result<Vec<Classified>> {
    let probabilities = file.classifier.probabilities(&set.data)?;
    let rows = probabilities.chunks_exact(file.classes.len());
    Ok(rows
        .enumerate()
        .map(|(place, row)| {
            let mut order: Vec<usize> = (0..row.len()).collect();
            // Stable: of equal probabilities the lower class comes first.
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            let name =
                |names: &Option<Vec<String>>| names.as_ref().map(|names| names[place].clone());
            Classified {
                image: name(&set.names).unwrap_or_else(|| format!("row {place}")),
                label: set.labels.as_ref().and_then(|labels| labels[place].clone()),
                classes: order
                    .into_iter()
                    .take(top)
                    .map(|class| ClassProbability {
                        class: file.classes[class].clone(),
                        probability: row[class],
                    })
                    .collect(),
            }
        })
        .collect())
}

fn write(out: &Path, report: &ClassifyReport) -> Result<()> {
    let text = if out.extension().is_some_and(|e| e == "json") {
        serde_json::to_string_pretty(&serde_json::to_value(report)?)? + "\n"
    } else {
        let mut text = "image\trank\tclass\tprobability\n".to_owned();
        // A name with a tab or a line break would break the table.
        let plain = |name: &str| name.replace(['\t', '\n', '\r'], " ");
        for answer in &report.images {
            for (rank, guess) in answer.classes.iter().enumerate() {
                let (image, class) = (plain(&answer.image), plain(&guess.class));
                let (rank, probability) = (rank + 1, guess.probability);
                text += &format!("{image}\t{rank}\t{class}\t{probability}\n");
            }
        }
        text
    };
    write_whole(out, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", out.display()))
}

impl Report for ClassifyReport {
    fn table(&self) -> Table {
        let mut table = Table::new(["image", "class", "probability %"]);
        for answer in &self.images {
            for (rank, guess) in answer.classes.iter().enumerate() {
                table.row([
                    if rank == 0 { answer.image.as_str() } else { "" }.into(),
                    guess.class.as_str().into(),
                    Cell::number(100.0 * f64::from(guess.probability), 2),
                ]);
            }
        }
        table
    }
}
