//! Retrieval: whether images of the same thing are found first.

#[cfg(feature = "parquet")]
mod stored;

use std::path::Path;

use dinolab_data::Image;
use dinolab_data::augment::eval;
use dinolab_data::augment::resize::CropBox;
use dinolab_eval::knn::{Labelled, l2_normalise};
use dinolab_eval::retrieval::{Difficulty, GroundTruth, LabelledScore, Query, Score};
use dinolab_features::Features;
use dinolab_features::descriptor::{Descriptor, DescriptorExtractor, View};
use dinolab_nn::{Backbone, check_patches};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::percent;
use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::feature_input::{
    FeatureInput, FeatureOptions, feature_sets, labelled as rows_with_labels,
};
use crate::feature_set::FeatureSet;
use crate::image_lookup::ImageLookup;
use crate::table::{Cell, Report, Table};

/// The revisited Oxford and Paris benchmarks.
#[derive(Clone, Debug)]
pub struct RevisitedRequest<'a> {
    /// The ground truth, `.pkl` or `.json`.
    pub ground_truth: &'a Path,
    /// The folder of its images; by default `jpg` next to it.
    pub image_folder: Option<&'a Path>,
    /// Longest side of images as the network sees them.
    pub imsize: usize,
    /// Whether the feature is averaged over three scales.
    pub multiscale: bool,
    /// Whether queries are cut to their box.
    pub query_crop: bool,
    /// Values of k for precision at k.
    pub k: &'a [usize],
    /// How features are made.
    pub features: FeatureOptions<'a>,
}

/// The figures of the revisited benchmarks, as fractions.
#[derive(Clone, Debug, Serialize)]
pub struct RevisitedReport {
    /// `revisited`.
    pub protocol: &'static str,
    /// Images that are searched.
    pub images: usize,
    /// Queries.
    pub queries: usize,
    /// Longest side of images.
    pub imsize: usize,
    /// Whether three scales were averaged.
    pub multiscale: bool,
    /// Whether queries were cut to their box.
    pub query_crop: bool,
    /// By the name of the difficulty.
    pub settings: Map<String, Value>,
    /// Values of k for precision at k.
    #[serde(skip)]
    pub k: Vec<usize>,
    /// In the order of the difficulties.
    #[serde(skip)]
    pub difficulties: Vec<DifficultyScore>,
}

/// The figures of one difficulty, as fractions.
#[derive(Clone, Debug)]
pub struct DifficultyScore {
    /// Its name.
    pub name: &'static str,
    /// Mean average precision; `None` without queries that count.
    pub map: Option<f64>,
    /// For each k; `None` without queries that count.
    pub precision: Vec<Option<f64>>,
    /// Queries that count.
    pub queries: usize,
}

/// Labelled images, or saved features.
#[derive(Clone, Debug)]
pub struct LabelledRequest<'a> {
    /// Images that are searched.
    pub database: FeatureInput<'a>,
    /// Query images; without them each image of the database is a query against all others.
    pub queries: Option<FeatureInput<'a>>,
    /// Values of k for precision and recall at k.
    pub k: &'a [usize],
    /// How features are made.
    pub features: FeatureOptions<'a>,
}

/// The figures of labelled images, as fractions.
#[derive(Clone, Debug, Serialize)]
pub struct LabelledReport {
    /// `labelled`.
    pub protocol: &'static str,
    /// Images that are searched.
    pub images: usize,
    /// Queries that count.
    pub queries: usize,
    /// Queries that do not, since no other image has their label.
    pub queries_without_match: usize,
    /// Mean average precision.
    pub map: f64,
    /// Precision at the number of matches.
    pub r_precision: f64,
    /// By k.
    pub precision: Map<String, Value>,
    /// By k.
    pub recall: Map<String, Value>,
    /// Values of k.
    #[serde(skip)]
    pub k: Vec<usize>,
    /// For each k.
    #[serde(skip)]
    pub precision_at: Vec<f64>,
    /// For each k.
    #[serde(skip)]
    pub recall_at: Vec<f64>,
}

fn check_k(k: &[usize]) -> Result<()> {
    let good = !k.is_empty() && !k.contains(&0);
    ensure_setting!(good, "k", "", "must be at least 1");
    Ok(())
}

/// Evaluates by the revisited protocol.
///
/// # Errors
/// A ground truth, images or weights that cannot be used.
pub fn revisited(env: &Environment<'_>, request: &RevisitedRequest<'_>) -> Result<RevisitedReport> {
    check_k(request.k)?;
    let truth = GroundTruth::read(request.ground_truth)?;
    let parent = request.ground_truth.parent().unwrap_or(Path::new(""));
    let beside = parent.join("jpg");
    let folder = request.image_folder.unwrap_or(&beside);
    ensure!(
        folder.is_dir(),
        "{}: no such folder; name the benchmark's images with `image-folder`",
        folder.display()
    );
    let model = request.features.load_rgb(env)?;
    let choice = request.features.choice;
    ensure_setting!(
        choice.n_last_blocks.is_none() && choice.avgpool_patchtokens.is_none(),
        "ground-truth",
        "",
        "the benchmark takes the last block's feature, without `n-last-blocks` and \
         `avgpool-patchtokens`"
    );
    let feature = choice.of(&model, 1)?.feature;
    let descriptor = match request.multiscale {
        true => Descriptor::multi_scale(feature),
        false => Descriptor::Feature(feature, vec![1.0]),
    };
    let colours = (model.preprocess.mean, model.preprocess.std);
    let imsize = request.imsize;
    check_patches(imsize, imsize, model.backbone.stride()).of_setting("imsize", imsize)?;
    let describer =
        DescriptorExtractor::new(&model.backbone, colours, View::Fit(imsize), descriptor)?;
    let (database, queries) = (
        ImageLookup::new(folder, &truth.images),
        ImageLookup::new(folder, &truth.queries),
    );
    let progress = env.progress("image", truth.images.len() + truth.queries.len());
    let batch = request.features.preprocess.batch_size;
    let describe = |count: usize,
                    load: &(dyn Fn(usize) -> dinolab_features::Result<Image> + Sync),
                    progress: &mut dyn FnMut(usize)| {
        let all: Vec<usize> = (0..count).collect();
        complete(describer.extract_loaded(&all, batch, load, progress)?)
    };
    let found = describe(truth.images.len(), &|i| database.image(i), &mut |done| {
        progress.set(done, "");
    })?;
    let asked = describe(
        truth.queries.len(),
        &|i| {
            let image = queries.image(i)?;
            match (request.query_crop, truth.truth[i].bbx) {
                (true, Some(_)) => query_part(&image, &truth.truth[i], queries.name(i)),
                _ => Ok(image),
            }
        },
        &mut |done| progress.set(truth.images.len() + done, ""),
    )?;
    progress.finish();
    if request.query_crop && truth.truth.iter().any(|query| query.bbx.is_none()) {
        env.warn("some queries have no box; the whole image is the query");
    }

    let places = truth.ranks(&found, &asked, describer.dim())?;
    let mut settings = Map::new();
    let mut difficulties = Vec::new();
    for difficulty in Difficulty::ALL {
        let score = Score::of(difficulty, &places, request.k);
        let counted = score.per_query.iter().flatten().count();
        let known = |p: &f64| (counted > 0).then_some(*p);
        difficulties.push(DifficultyScore {
            name: difficulty.name(),
            map: score.map,
            precision: score.precision.iter().map(known).collect(),
            queries: counted,
        });
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
                "precision": at(request.k, &score.precision),
                "queries": counted,
                "average_precision": per_query,
            }),
        );
    }
    Ok(RevisitedReport {
        protocol: "revisited",
        images: truth.images.len(),
        queries: truth.queries.len(),
        imsize,
        multiscale: request.multiscale,
        query_crop: request.query_crop,
        settings,
        k: request.k.to_vec(),
        difficulties,
    })
}

/// Evaluates by labels.
///
/// # Errors
/// Images, features or weights that cannot be used; sets without labels.
pub fn by_labels(env: &Environment<'_>, request: &LabelledRequest<'_>) -> Result<LabelledReport> {
    check_k(request.k)?;
    #[cfg(feature = "parquet")]
    if FeatureSet::is_folder(request.database.path, &env.remote)
        .of_argument(request.database.setting)?
    {
        return stored::by_labels(env, request);
    }
    let (mut database, queries) = match request.queries {
        None => {
            let [set] = feature_sets(env, [request.database], &request.features)?;
            (rows_with_labels(env, set, request.database)?, None)
        }
        Some(queries) => {
            let inputs = [request.database, queries];
            let [searched, asking] = feature_sets(env, inputs, &request.features)?;
            let searched = rows_with_labels(env, searched, request.database)?;
            (searched, Some(rows_with_labels(env, asking, queries)?))
        }
    };
    l2_normalise(&mut database.data, database.dim)?;
    let classes = database.classes();
    let numbers = database.label_numbers(&classes)?;
    let set = Labelled {
        features: &database.data,
        dim: database.dim,
        labels: &numbers,
    };
    let score = match queries {
        None => LabelledScore::of(set, None, request.k).map_err(Error::from),
        Some(queries) => against(set, queries, &classes, request.k),
    }
    .context("retrieval")?;
    Ok(LabelledReport::of(score, database.len()))
}

impl LabelledReport {
    /// The report of a score in a database of so many images.
    fn of(score: LabelledScore, images: usize) -> Self {
        Self {
            protocol: "labelled",
            images,
            queries: score.queries,
            queries_without_match: score.without_match,
            map: score.map,
            r_precision: score.r_precision,
            precision: at(&score.ks, &score.precision),
            recall: at(&score.ks, &score.recall),
            k: score.ks,
            precision_at: score.precision,
            recall_at: score.recall,
        }
    }
}

fn against(
    set: Labelled<'_>,
    mut queries: FeatureSet,
    classes: &[String],
    k: &[usize],
) -> Result<LabelledScore> {
    l2_normalise(&mut queries.data, queries.dim)?;
    let numbers = queries.label_numbers(classes)?;
    let asked = Labelled {
        features: &queries.data,
        dim: queries.dim,
        labels: &numbers,
    };
    Ok(LabelledScore::of(set, Some(asked), k)?)
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
fn query_part(image: &Image, query: &Query, name: &str) -> dinolab_features::Result<Image> {
    let Some([left, top, right, bottom]) = query.bbx else {
        return Ok(image.clone());
    };
    let whole = |v: f64, limit: usize| v.round_ties_even().clamp(0.0, limit as f64) as usize;
    let (left, right) = (whole(left, image.width), whole(right, image.width));
    let (top, bottom) = (whole(top, image.height), whole(bottom, image.height));
    if right <= left || bottom <= top {
        return Err(dinolab_features::Error::Invalid {
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

/// Figures by their `k`.
fn at(ks: &[usize], values: &[f64]) -> Map<String, Value> {
    ks.iter()
        .zip(values)
        .map(|(k, value)| (k.to_string(), json!(value)))
        .collect()
}

impl Report for RevisitedReport {
    fn table(&self) -> Table {
        let precision = self.k.iter().map(|k| format!("mP@{k} %"));
        let names = ["setting".to_owned(), "mAP %".to_owned()].into_iter();
        let names = names.chain(precision).chain(["queries".to_owned()]);
        let mut table = Table::named(names.collect());
        for score in &self.difficulties {
            let first = [score.name.into(), Cell::number(percent(score.map), 2)];
            let precision = score.precision.iter();
            let precision = precision.map(|p| Cell::number(percent(*p), 2));
            let cells = first.into_iter().chain(precision);
            table.row(cells.chain([Cell::count(score.queries)]));
        }
        table
    }
}

impl Report for LabelledReport {
    fn table(&self) -> Table {
        let mut table = Table::new(["figure", "%"]);
        let mut row = |name: &str, share: f64| {
            table.row([name.into(), Cell::number(100.0 * share, 2)]);
        };
        row("mAP", self.map);
        row("R-precision", self.r_precision);
        for (name, values) in [("mP", &self.precision_at), ("recall", &self.recall_at)] {
            for (k, value) in self.k.iter().zip(values) {
                row(&format!("{name}@{k}"), *value);
            }
        }
        table
    }
}
