//! `dinolab classify`.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dinolab_eval::feature_set::FeatureSet;
use dinolab_eval::network::{Backbone, ClassifierFile};
use dinolab_files::write_whole;

use crate::image_files;
use crate::inputs::block_features_of;
use crate::model::{Model, OptionalModelArgs};
use crate::output::{self, Cell, Table};
use crate::results::check_out;

/// Tells the classes of images by a classifier of `eval linear`
///
/// Example: dinolab classify --weights runs/photos --classifier photos.classifier cat.jpg holidays
///
/// Prints the likeliest classes of each image with their probabilities. Saved features of the
/// classifier's kind serve as well, without weights.
#[derive(clap::Args)]
pub struct Args {
    /// Images, folders, lists, tars, or saved features
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// What `eval linear --out` wrote
    #[arg(long, value_name = "C")]
    classifier: PathBuf,
    /// Classes to name per image
    #[arg(long, default_value_t = 1)]
    top: usize,
    /// Use other weights of the same sizes than those the classifier was trained on
    #[arg(long)]
    any_weights: bool,
    /// Write a line per image and class to a .tsv file, or the JSON to a .json file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Images through the network at a time
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    #[command(flatten)]
    model: OptionalModelArgs,
}

/// What was said of an image.
#[derive(serde::Serialize)]
struct Answer {
    image: String,
    /// The class it is known to be of.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    classes: Vec<Guess>,
}

#[derive(serde::Serialize)]
struct Guess {
    class: String,
    probability: f32,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    ensure_usage!(args.top > 0, "--top 0: must be at least 1");
    if let Some(out) = &args.out {
        ensure_usage!(
            matches!(
                out.extension().and_then(|e| e.to_str()),
                Some("tsv" | "json")
            ),
            "--out {}: must end in .tsv or .json",
            out.display()
        );
    }
    if let Some(out) = &args.out {
        check_out(out)?;
    }
    let file = ClassifierFile::read(&args.classifier)?;
    let (saved, images): (Vec<PathBuf>, Vec<PathBuf>) = args
        .images
        .iter()
        .cloned()
        .partition(|path| FeatureSet::is_file_of(path));
    let mut answers = Vec::new();
    let mut skipped = 0;
    if !images.is_empty() {
        let Some(backbone) = &file.backbone else {
            bail!(
                "{} was trained on saved features: it can classify features, but does not know \
                 which network made them",
                args.classifier.display()
            );
        };
        let sources = image_files::open(&images)?;
        let model = args.model.load()?;
        check(args, backbone, &model)?;
        for source in sources {
            let set = block_features_of(
                &model,
                &*source,
                &backbone.preprocess,
                None,
                args.batch_size,
                backbone.features,
            )?;
            skipped += source.len() - set.len();
            answers.extend(classify(&file, &set, args.top)?);
        }
    }
    for path in &saved {
        let set = FeatureSet::read(path)?;
        ensure!(
            set.dim == file.classifier.dim,
            "{}: features of width {}, the classifier takes {}",
            path.display(),
            set.dim,
            file.classifier.dim
        );
        answers.extend(classify(&file, &set, args.top)?);
    }
    show(args, &answers, skipped)
}

/// Refuses a network that the classifier was not trained on.
fn check(args: &Args, backbone: &Backbone, model: &Model) -> Result<()> {
    let found = Backbone::of(&model.vit, backbone.features, &backbone.preprocess);
    ensure!(
        found.vit == backbone.vit,
        "{} belongs to another network: width {}, depth {}, patch {}, image {}; these weights \
         have width {}, depth {}, patch {}, image {}",
        args.classifier.display(),
        backbone.vit.width,
        backbone.vit.depth,
        backbone.vit.patch_size,
        backbone.vit.image_size,
        found.vit.width,
        found.vit.depth,
        found.vit.patch_size,
        found.vit.image_size,
    );
    ensure!(
        args.any_weights || found.crc32 == backbone.crc32,
        "{} was trained on other weights of the same sizes (--any-weights uses these all the same)",
        args.classifier.display()
    );
    Ok(())
}

fn classify(file: &ClassifierFile, set: &FeatureSet, top: usize) -> Result<Vec<Answer>> {
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
            Answer {
                image: name(&set.names).unwrap_or_else(|| format!("row {place}")),
                label: set.labels.as_ref().and_then(|labels| labels[place].clone()),
                classes: order
                    .into_iter()
                    .take(top)
                    .map(|class| Guess {
                        class: file.classes[class].clone(),
                        probability: row[class],
                    })
                    .collect(),
            }
        })
        .collect())
}

fn show(args: &Args, answers: &[Answer], skipped: usize) -> Result<()> {
    let mut table = Table::new(["image", "class", "probability %"]);
    for answer in answers {
        for (rank, guess) in answer.classes.iter().enumerate() {
            table.row([
                if rank == 0 { answer.image.as_str() } else { "" }.into(),
                guess.class.as_str().into(),
                Cell::number(100.0 * f64::from(guess.probability), 2),
            ]);
        }
    }
    let known: Vec<bool> = answers
        .iter()
        .filter_map(|answer| Some(answer.label.as_ref()? == &answer.classes.first()?.class))
        .collect();
    let right = known.iter().filter(|&&right| right).count();
    let accuracy = (!known.is_empty()).then(|| 100.0 * right as f64 / known.len() as f64);
    let result = serde_json::json!({
        "images": answers,
        "top1": accuracy,
        "skipped": skipped,
    });
    if let Some(out) = &args.out {
        write(out, answers, &result)?;
        errln!("{} images in {}", answers.len(), out.display());
    }
    if args.json || args.out.is_none() {
        output::print(args.json, &result, &table)?;
    }
    if let Some(accuracy) = accuracy {
        errln!(
            "{accuracy:.2} % of {} labelled images are right",
            known.len()
        );
    }
    Ok(())
}

fn write(out: &Path, answers: &[Answer], result: &serde_json::Value) -> Result<()> {
    let text = if out.extension().is_some_and(|e| e == "json") {
        serde_json::to_string_pretty(result)? + "\n"
    } else {
        let mut text = "image\trank\tclass\tprobability\n".to_owned();
        // A name with a tab or a line break would break the table.
        let plain = |name: &str| name.replace(['\t', '\n', '\r'], " ");
        for answer in answers {
            for (rank, guess) in answer.classes.iter().enumerate() {
                let (image, class) = (plain(&answer.image), plain(&guess.class));
                writeln!(
                    text,
                    "{image}\t{}\t{class}\t{}",
                    rank + 1,
                    guess.probability
                )?;
            }
        }
        text
    };
    write_whole(out, |file| io::Write::write_all(file, text.as_bytes()))
        .with_context(|| format!("cannot write {}", out.display()))
}
