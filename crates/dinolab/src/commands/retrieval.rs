//! `dinolab eval retrieval`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dinolab_data::Image;
use dinolab_data::augment::eval;
use dinolab_data::augment::resize::CropBox;
use dinolab_eval::feature_set::FeatureSet;
use dinolab_eval::knn::{Labelled, l2_normalise};
use dinolab_eval::network::Features;
use dinolab_eval::network::descriptor::{Descriptor, DescriptorExtractor, View};
use dinolab_eval::retrieval::{
    Difficulty, GroundTruth, LabelledScore, Query, labelled, query_ranks, score,
};
use dinolab_nn::check_patches;
use serde_json::{Map, Value, json};

use crate::inputs::{PreprocessArgs, feature_sets, labelled as rows_with_labels};
use crate::model::OptionalModelArgs;
use crate::named::NamedImages;
use crate::output::{self, Cell, Table};
use crate::progress::Progress;

/// Are images of the same thing found first? Mean average precision
///
/// Example: dinolab eval retrieval --weights W --ground-truth roxford5k/gnd_roxford5k.pkl
///
/// By the revisited Oxford/Paris protocol, with its ground-truth file; or for any labelled
/// folder, in which each image asks for the others of its class:
/// dinolab eval retrieval --weights runs/photos photos
///
/// or with separate sets (images or saved features): --train database --val queries
#[derive(clap::Args)]
pub struct Args {
    /// Labelled images (class = first folder level) or saved features; each asks for the others
    images: Option<PathBuf>,
    /// The benchmark's ground truth, .pkl or .json: imlist, qimlist, gnd [easy, hard, junk, bbx]
    #[arg(long, value_name = "FILE", conflicts_with = "images")]
    ground_truth: Option<PathBuf>,
    /// Folder of the benchmark's images [default: jpg beside the ground truth]
    #[arg(long, value_name = "DIR", requires = "ground_truth")]
    image_folder: Option<PathBuf>,
    /// Longest side of the benchmark's images as the network sees them; smaller ones stay
    #[arg(long, default_value_t = 224, requires = "ground_truth")]
    imsize: usize,
    /// Average the class token over the scales 1, 1/√2 and 1/2 of each image
    #[arg(
        long,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        default_value_t = false,
        default_missing_value = "true",
        requires = "ground_truth"
    )]
    multiscale: bool,
    /// Cut queries to their box, as the benchmark asks; false: whole images, as the reference does
    #[arg(
        long,
        action = clap::ArgAction::Set,
        default_value_t = true,
        requires = "ground_truth"
    )]
    query_crop: bool,
    /// Labelled images to search, or saved features
    #[arg(long, value_name = "IMAGES", conflicts_with_all = ["images", "ground_truth"], requires = "val")]
    train: Option<PathBuf>,
    /// Labelled images that ask, or saved features
    #[arg(long, value_name = "IMAGES", requires = "train")]
    val: Option<PathBuf>,
    /// Places up to which precision (and recall) are measured
    #[arg(long, value_delimiter = ',', default_value = "1,5,10")]
    k: Vec<usize>,
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
    ensure_usage!(
        !args.k.is_empty() && !args.k.contains(&0),
        "--k: must be at least 1"
    );
    match (&args.ground_truth, &args.images, &args.train, &args.val) {
        (Some(file), ..) => revisited(args, file),
        (None, Some(images), ..) => {
            let [set] = feature_sets(
                [("images", images.as_path())],
                &args.model,
                &args.preprocess,
            )?;
            let set = rows_with_labels(set, "", images)?;
            labelled_sets(args, set, None)
        }
        (None, None, Some(train), Some(val)) => {
            let paths = [("--train", train.as_path()), ("--val", val.as_path())];
            let [searched, asking] = feature_sets(paths, &args.model, &args.preprocess)?;
            let searched = rows_with_labels(searched, "--train", train)?;
            let asking = rows_with_labels(asking, "--val", val)?;
            labelled_sets(args, searched, Some(asking))
        }
        _ => bail_usage!("give labelled images, --train and --val, or --ground-truth"),
    }
}

fn revisited(args: &Args, file: &Path) -> Result<()> {
    let truth = GroundTruth::read(file)?;
    let beside = file.parent().unwrap_or(Path::new("")).join("jpg");
    let folder = args.image_folder.as_ref().unwrap_or(&beside);
    ensure!(
        folder.is_dir(),
        "{}: no such folder; name the benchmark's images with --image-folder",
        folder.display()
    );
    let model = args.model.load()?;
    let descriptor = match args.multiscale {
        true => Descriptor::multi_scale(),
        false => Descriptor::ClassToken(vec![1.0]),
    };
    let colours = (model.preprocess.mean, model.preprocess.std);
    check_patches(args.imsize, args.imsize, model.vit.config().patch_size)
        .with_context(|| format!("--imsize {}", args.imsize))?;
    let describer =
        DescriptorExtractor::new(&model.vit, colours, View::Fit(args.imsize), descriptor)?;
    let (database, queries) = (
        NamedImages::new(folder, &truth.images),
        NamedImages::new(folder, &truth.queries),
    );
    let total = (truth.images.len() + truth.queries.len()) as u64;
    let mut progress = Progress::new("image", total, 0);
    let batch = args.preprocess.batch_size();
    let describe = |count: usize,
                    load: &(dyn Fn(usize) -> dinolab_eval::Result<Image> + Sync),
                    progress: &mut dyn FnMut(usize)| {
        let all: Vec<usize> = (0..count).collect();
        complete(describer.extract_loaded(&all, batch, load, progress)?)
    };
    let found = describe(truth.images.len(), &|i| database.image(i), &mut |done| {
        progress.set(done as u64, "");
    })?;
    let asked = describe(
        truth.queries.len(),
        &|i| {
            let image = queries.image(i)?;
            match (args.query_crop, truth.truth[i].bbx) {
                (true, Some(_)) => query_part(&image, &truth.truth[i], queries.name(i)),
                _ => Ok(image),
            }
        },
        &mut |done| progress.set((truth.images.len() + done) as u64, ""),
    )?;
    progress.finish();
    if args.query_crop && truth.truth.iter().any(|query| query.bbx.is_none()) {
        errln!("warning: some queries have no box; the whole image asks");
    }

    let ranks = query_ranks(&truth, &found, &asked, describer.dim())?;
    let names: Vec<String> = std::iter::once("setting".to_owned())
        .chain(["mAP %".to_owned()])
        .chain(args.k.iter().map(|k| format!("mP@{k} %")))
        .chain(["queries".to_owned()])
        .collect();
    let mut table = Table::named(names);
    let mut settings = Map::new();
    for difficulty in Difficulty::ALL {
        let score = score(difficulty, &ranks, &args.k);
        let counted = score.per_query.iter().flatten().count();
        let precision = score.precision.iter().map(|p| {
            let known = (counted > 0).then_some(100.0 * p);
            Cell::number(known, 2)
        });
        let cells = [
            difficulty.name().into(),
            Cell::number(score.map.map(|map| 100.0 * map), 2),
        ];
        table.row(
            cells
                .into_iter()
                .chain(precision)
                .chain([Cell::count(counted)]),
        );
        let per_query: Map<String, Value> = truth
            .queries
            .iter()
            .zip(&score.per_query)
            .map(|(name, ap)| (name.clone(), json!(ap)))
            .collect();
        settings.insert(
            difficulty.name().into(),
            json!({
                "map": score.map,
                "precision": at(&args.k, &score.precision),
                "queries": counted,
                "average_precision": per_query,
            }),
        );
    }
    let result = json!({
        "protocol": "revisited",
        "images": truth.images.len(),
        "queries": truth.queries.len(),
        "imsize": args.imsize,
        "multiscale": args.multiscale,
        "query_crop": args.query_crop,
        "settings": settings,
    });
    output::print(args.json, &result, &table)
}

/// Normalised features of every image; the protocol knows of no missing ones.
fn complete(mut features: Features) -> Result<Vec<f32>> {
    if let Some((_, why)) = features.skipped.first() {
        bail!(
            "{} images of the ground truth cannot be used; the first: {why}",
            features.skipped.len()
        );
    }
    l2_normalise(&mut features.data, features.dim)?;
    Ok(features.data)
}

/// The part of a query image that asks. Coordinates are rounded, and cut to the image.
fn query_part(image: &Image, query: &Query, name: &str) -> dinolab_eval::Result<Image> {
    let Some([left, top, right, bottom]) = query.bbx else {
        return Ok(image.clone());
    };
    let whole = |v: f64, limit: usize| v.round_ties_even().clamp(0.0, limit as f64) as usize;
    let (left, right) = (whole(left, image.width), whole(right, image.width));
    let (top, bottom) = (whole(top, image.height), whole(bottom, image.height));
    if right <= left || bottom <= top {
        return Err(dinolab_eval::Error::Invalid {
            what: "bbx",
            reason: format!("the box of query {name} lies outside its image"),
        });
    }
    let part = CropBox {
        top,
        left,
        height: bottom - top,
        width: right - left,
    };
    Ok(eval::crop(image, part)?)
}

fn labelled_sets(args: &Args, mut database: FeatureSet, queries: Option<FeatureSet>) -> Result<()> {
    l2_normalise(&mut database.data, database.dim)?;
    let classes = database.classes();
    let numbers = database.label_numbers(&classes)?;
    let set = Labelled {
        features: &database.data,
        dim: database.dim,
        labels: &numbers,
    };
    let score = match queries {
        None => labelled(set, None, &args.k),
        Some(mut queries) => {
            l2_normalise(&mut queries.data, queries.dim)?;
            let numbers = queries.label_numbers(&classes)?;
            let asked = Labelled {
                features: &queries.data,
                dim: queries.dim,
                labels: &numbers,
            };
            labelled(set, Some(asked), &args.k)
        }
    }
    .context("retrieval")?;
    let LabelledScore {
        map,
        r_precision,
        ref precision,
        ref recall,
        queries: counted,
        without_match,
        ..
    } = score;
    let mut table = Table::new(["figure", "%"]);
    table.row(["mAP".into(), Cell::number(100.0 * map, 2)]);
    table.row(["R-precision".into(), Cell::number(100.0 * r_precision, 2)]);
    for (name, values) in [("mP", precision), ("recall", recall)] {
        for (k, value) in args.k.iter().zip(values) {
            let name = format!("{name}@{k}");
            table.row([name.as_str().into(), Cell::number(100.0 * value, 2)]);
        }
    }
    if without_match > 0 {
        errln!("{without_match} queries left out: no other image has their label");
    }
    let result = json!({
        "protocol": "labelled",
        "images": database.len(),
        "queries": counted,
        "queries_without_match": without_match,
        "map": map,
        "r_precision": r_precision,
        "precision": at(&args.k, precision),
        "recall": at(&args.k, recall),
    });
    output::print(args.json, &result, &table)
}

/// Figures by their `k`.
fn at(ks: &[usize], values: &[f64]) -> Map<String, Value> {
    ks.iter()
        .zip(values)
        .map(|(k, value)| (k.to_string(), json!(value)))
        .collect()
}
