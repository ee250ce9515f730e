//! Images by their features: a map, neighbours, clusters.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::body::Bytes;
use dinolab_data::Source;
use dinolab_eval::knn::{l2_normalise, nearest_neighbours};
use dinolab_eval::pca::Pca;
use dinolab_eval::whitening::CovarianceAccumulator;
use dinolab_run::feature_set::FeatureSet;
use serde::Serialize;

use crate::answer::{Answer, Failure};
use crate::clusters::{Clusters, clusters};
use crate::sample::sample;
use crate::unusual::Similar;

/// Rows that the directions of the map are fitted to, at most.
const FITTED: usize = 20_000;
/// The class of an image without one.
const UNLABELLED: u16 = u16::MAX;
/// Clusters at most.
pub const MOST_CLUSTERS: usize = 64;

/// Images and all that follows from their features.
pub struct Gallery {
    /// The checkpoint that made the features; `None` of features from a file.
    pub checkpoint: Option<PathBuf>,
    /// How many images the dataset has.
    pub available: usize,
    /// Width of a feature.
    pub dim: usize,
    /// `[N, dim]`, L2-normalised.
    pub features: Vec<f32>,
    /// Class names.
    pub classes: Vec<String>,
    names: Vec<String>,
    labels: Vec<u16>,
    source: Option<Arc<dyn Source>>,
    /// Where each row's image is in the source.
    places: Vec<Option<usize>>,
    projection: Projection,
    points: Bytes,
    clusters: Mutex<HashMap<usize, Arc<OnceLock<Clusters>>>>,
}

/// From features to the map, whose sides are 0–65,535.
struct Projection {
    pca: Option<Pca>,
    low: [f32; 2],
    scale: f32,
    explained: f64,
}

/// The map's description; its points follow as bytes.
#[derive(Clone, Debug, Serialize)]
pub struct GalleryFacts {
    rows: usize,
    available: usize,
    classes: Vec<String>,
    pictures: bool,
    explained: f64,
    checkpoint: Option<String>,
}

/// An image of the gallery.
#[derive(Clone, Debug, Serialize)]
pub struct Described {
    /// Its row.
    pub row: usize,
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: Option<String>,
    /// Whether a picture of it can be had.
    pub picture: bool,
}

impl Gallery {
    /// The gallery of `set`, whose images are in `source`, where they are known.
    pub fn new(
        set: FeatureSet,
        source: Option<Arc<dyn Source>>,
        places: Option<Vec<usize>>,
        checkpoint: Option<PathBuf>,
    ) -> Answer<Self> {
        let (dim, rows) = (set.dim, set.len());
        if rows == 0 {
            return Err(Failure::bad("There are no features to show."));
        }
        let classes = set.classes();
        let number: HashMap<&str, u16> =
            (0..).zip(&classes).map(|(i, c)| (c.as_str(), i)).collect();
        let labels = match &set.labels {
            None => vec![UNLABELLED; rows],
            Some(labels) => labels
                .iter()
                .map(|label| label.as_deref().and_then(|l| number.get(l).copied()))
                .map(|number| number.unwrap_or(UNLABELLED))
                .collect(),
        };
        let names = set
            .names
            .unwrap_or_else(|| (0..rows).map(|row| format!("row {row}")).collect());
        let places = match (places, &source) {
            (Some(places), _) => places.into_iter().map(Some).collect(),
            (None, Some(source)) => by_name(&**source, &names),
            (None, None) => vec![None; rows],
        };
        let mut features = set.data;
        l2_normalise(&mut features, dim)?;
        let projection = Projection::of(&features, dim)?;
        let points = projection.bytes(&features, &labels)?;
        Ok(Self {
            available: source.as_ref().map_or(rows, |source| source.len()),
            checkpoint,
            dim,
            features,
            classes,
            names,
            labels,
            source,
            places,
            projection,
            points,
            clusters: Mutex::default(),
        })
    }

    /// What it holds.
    pub fn facts(&self) -> GalleryFacts {
        let name = |path: &PathBuf| path.file_stem().map(|n| n.to_string_lossy().into_owned());
        GalleryFacts {
            rows: self.names.len(),
            available: self.available,
            classes: self.classes.clone(),
            pictures: self.source.is_some() && self.places.iter().any(Option::is_some),
            explained: self.projection.explained,
            checkpoint: self.checkpoint.as_ref().and_then(name),
        }
    }

    /// `x`, `y` and class of all rows, one after the other, as little-endian `u16`.
    pub fn points(&self) -> Bytes {
        self.points.clone()
    }

    /// Where a feature is on the map, 0–65,535.
    pub fn place_of(&self, feature: &[f32]) -> Answer<[u16; 2]> {
        let along = self.projection.along(feature)?;
        Ok(self.projection.place(along[0]))
    }

    /// `k` clusters. Those of a number that was asked for before are kept.
    pub fn clusters(&self, k: usize, visit: impl FnOnce(&Clusters)) {
        let k = k.clamp(1, MOST_CLUSTERS);
        let mut kept = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let made = kept.entry(k).or_default().clone();
        drop(kept);
        visit(made.get_or_init(|| clusters(&self.features, self.dim, k)));
    }

    /// The image of a row, in words.
    pub fn described(&self, row: usize) -> Answer<Described> {
        let missing = || Failure::missing("no such image");
        let label = *self.labels.get(row).ok_or_else(missing)?;
        Ok(Described {
            row,
            name: self.names[row].clone(),
            class: self.classes.get(usize::from(label)).cloned(),
            picture: self.source.is_some() && self.places[row].is_some(),
        })
    }

    /// The source of a row's image, and its place in it.
    pub fn image(&self, row: usize) -> Answer<(Arc<dyn Source>, usize)> {
        let place = self.places.get(row).copied().flatten();
        match (&self.source, place) {
            (Some(source), Some(place)) => Ok((source.clone(), place)),
            _ => Err(Failure::missing(
                "The image is not known; start the page with --images.",
            )),
        }
    }

    /// The feature of a row.
    pub fn feature(&self, row: usize) -> Answer<&[f32]> {
        self.features
            .chunks_exact(self.dim)
            .nth(row)
            .ok_or_else(|| Failure::missing("no such image"))
    }

    /// The `k` rows most similar to a feature, the nearest first; without row `own`.
    pub fn neighbours(
        &self,
        feature: &[f32],
        own: Option<usize>,
        k: usize,
    ) -> Answer<Vec<Similar>> {
        if feature.len() != self.dim {
            return Err(Failure::bad(format!(
                "The features of the map have a width of {}, those of the network {}.",
                self.dim,
                feature.len()
            )));
        }
        // One more than asked for, since an image of the gallery finds itself.
        let near = nearest_neighbours(&self.features, feature, self.dim, k + 1)?;
        let near = near.into_iter().flatten();
        Ok(near
            .filter(|neighbour| Some(neighbour.index) != own)
            .take(k)
            .map(|neighbour| Similar {
                row: neighbour.index,
                similarity: neighbour.similarity,
            })
            .collect())
    }
}

/// Where images of these names are in the source.
fn by_name(source: &dyn Source, names: &[String]) -> Vec<Option<usize>> {
    let places: HashMap<String, usize> = (0..source.len()).map(|i| (source.name(i), i)).collect();
    names.iter().map(|name| places.get(name).copied()).collect()
}

impl Projection {
    fn of(features: &[f32], dim: usize) -> Answer<Self> {
        let mut sums = CovarianceAccumulator::new(dim);
        let chosen = sample(features.len() / dim, FITTED);
        let rows: Vec<f32> = chosen
            .iter()
            .flat_map(|&row| &features[row * dim..][..dim])
            .copied()
            .collect();
        sums.add(&rows)?;
        // One image has no directions.
        let pca = match chosen.len() {
            0 | 1 => None,
            _ => Some(Pca::of(&sums, dim.min(2))?),
        };
        let mut made = Self {
            explained: pca.as_ref().map_or(0.0, |pca| explained(pca, &rows)),
            pca,
            low: [0.0; 2],
            scale: 1.0,
        };
        let along = made.along(features)?;
        let (mut low, mut high) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
        for point in &along {
            for axis in 0..2 {
                low[axis] = low[axis].min(point[axis]);
                high[axis] = high[axis].max(point[axis]);
            }
        }
        let widest = (high[0] - low[0]).max(high[1] - low[1]);
        made.scale = if widest > 0.0 { 65_535.0 / widest } else { 0.0 };
        // In the middle of the shorter axis.
        for axis in 0..2 {
            made.low[axis] = (low[axis] + high[axis] - widest) / 2.0;
        }
        Ok(made)
    }

    /// The first two components of rows.
    fn along(&self, rows: &[f32]) -> Answer<Vec<[f32; 2]>> {
        let Some(pca) = &self.pca else {
            return Ok(vec![[0.0; 2]; 1]);
        };
        let along = pca.project(rows)?;
        let found = along.chunks(pca.variances.len().max(1));
        Ok(found
            .map(|row| [0, 1].map(|axis| row.get(axis).copied().unwrap_or(0.0)))
            .collect())
    }

    fn place(&self, along: [f32; 2]) -> [u16; 2] {
        [0, 1].map(|axis: usize| ((along[axis] - self.low[axis]) * self.scale).round() as u16)
    }

    fn bytes(&self, features: &[f32], labels: &[u16]) -> Answer<Bytes> {
        let places: Vec<[u16; 2]> = self
            .along(features)?
            .into_iter()
            .map(|along| self.place(along))
            .collect();
        let across = places.iter().map(|place| place[0]);
        let up = places.iter().map(|place| place[1]);
        let all = across.chain(up).chain(labels.iter().copied());
        Ok(all.flat_map(u16::to_le_bytes).collect::<Vec<u8>>().into())
    }
}

/// The fraction of the variance of `rows` along the components.
fn explained(pca: &Pca, rows: &[f32]) -> f64 {
    let dim = pca.mean.len().max(1);
    let squares = rows
        .iter()
        .zip(pca.mean.iter().cycle())
        .map(|(&value, mean)| (f64::from(value) - mean).powi(2));
    let total = squares.sum::<f64>() / (rows.len() / dim).max(1) as f64;
    pca.variances.iter().sum::<f64>() / total.max(1e-30)
}
