//! The map of a run's images, and what follows from it.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use dinolab_data::decode;
use dinolab_data::source::SourceOptions;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::{Answer, Failure, blocking, bytes};
use crate::gallery::{Described, Gallery};
use crate::network::Network;
use crate::site::{Site, SiteRun};
use crate::thumbnail;
use crate::unusual::{Similar, unusual as compared};

type Page = State<Arc<Site>>;

/// Neighbours that are shown of an image.
const NEIGHBOURS: usize = 18;
/// Images that are shown of a cluster.
const MEMBERS: usize = 24;
/// Clusters, unless another number is asked for.
const CLUSTERS: usize = 12;
/// Similarity of near duplicates, unless another one is asked for.
const DUPLICATES: f64 = 0.99;

/// An image and how similar it is.
#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    image: Described,
    similarity: f32,
}

/// How far the map is.
pub async fn progress(State(site): Page, Path(run): Path<usize>) -> Answer {
    Ok(Json(site.run(run)?.gallery.progress()).into_response())
}

/// Makes the map, with the newest checkpoint.
pub async fn start(State(site): Page, Path(run): Path<usize>) -> Answer {
    let gallery = &site.run(run)?.gallery;
    gallery.start()?;
    Ok(Json(gallery.progress()).into_response())
}

/// Places and classes of all images.
pub async fn points(State(site): Page, Path(run): Path<usize>) -> Answer {
    let gallery = site.run(run)?.gallery.ready()?;
    Ok(bytes("application/octet-stream", gallery.points(), false))
}

/// How many clusters.
#[derive(Deserialize)]
pub struct ClusterQuery {
    k: Option<usize>,
}

/// Clusters, the largest first, each with the images nearest to its centre.
pub async fn clusters(
    State(site): Page,
    Path(run): Path<usize>,
    Query(query): Query<ClusterQuery>,
) -> Answer {
    blocking(move || {
        let gallery = site.run(run)?.gallery.ready()?;
        let mut answer = Vec::new();
        gallery.clusters(query.k.unwrap_or(CLUSTERS), |clusters| {
            for rows in &clusters.members {
                let shown = rows.iter().take(MEMBERS);
                let images: Vec<_> = shown.filter_map(|&r| gallery.described(r).ok()).collect();
                let classes = classes(&gallery, rows);
                answer.push(json!({"size": rows.len(), "classes": classes, "images": images}));
            }
        });
        Ok(Json(answer).into_response())
    })
    .await
}

/// The three most frequent classes of some images, with their numbers.
fn classes(gallery: &Gallery, rows: &[usize]) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    let described = rows.iter().filter_map(|&row| gallery.described(row).ok());
    for class in described.filter_map(|image| image.class) {
        *counts.entry(class).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.truncate(3);
    counts
}

/// The cluster of each image, as little-endian `u16`.
pub async fn assignments(
    State(site): Page,
    Path(run): Path<usize>,
    Query(query): Query<ClusterQuery>,
) -> Answer {
    blocking(move || {
        let gallery = site.run(run)?.gallery.ready()?;
        let mut answer = Vec::new();
        gallery.clusters(query.k.unwrap_or(CLUSTERS), |clusters| {
            answer = clusters
                .of_row
                .iter()
                .flat_map(|c| c.to_le_bytes())
                .collect();
        });
        Ok(bytes("application/octet-stream", answer, false))
    })
    .await
}

/// How similar near duplicates are.
#[derive(Deserialize)]
pub struct UnusualQuery {
    threshold: Option<f64>,
}

/// Near duplicates and outliers.
pub async fn unusual(
    State(site): Page,
    Path(run): Path<usize>,
    Query(query): Query<UnusualQuery>,
) -> Answer {
    blocking(move || {
        let gallery = site.run(run)?.gallery.ready()?;
        let threshold = query.threshold.unwrap_or(DUPLICATES);
        let compared = compared(&gallery.features, gallery.dim, threshold)?;
        let groups: Vec<_> = compared
            .duplicates
            .iter()
            .map(|g| found(&gallery, g))
            .collect();
        let answer = json!({
            "compared": compared.compared,
            "groups": compared.groups,
            "duplicates": groups,
            "outliers": found(&gallery, &compared.outliers),
        });
        Ok(Json(answer).into_response())
    })
    .await
}

fn found(gallery: &Gallery, similar: &[Similar]) -> Vec<Found> {
    let described = similar.iter().map(|similar| {
        Some(Found {
            image: gallery.described(similar.row).ok()?,
            similarity: similar.similarity,
        })
    });
    described.flatten().collect()
}

/// An image and its neighbours.
pub async fn image(State(site): Page, Path((run, row)): Path<(usize, usize)>) -> Answer {
    blocking(move || {
        let gallery = site.run(run)?.gallery.ready()?;
        let near = gallery.neighbours(gallery.feature(row)?, Some(row), NEIGHBOURS)?;
        let answer = json!({
            "image": gallery.described(row)?,
            "neighbours": found(&gallery, &near),
        });
        Ok(Json(answer).into_response())
    })
    .await
}

/// The side of a picture.
#[derive(Deserialize)]
pub struct PictureQuery {
    side: Option<usize>,
}

/// A small picture of an image.
pub async fn picture(
    State(site): Page,
    Path((run, row)): Path<(usize, usize)>,
    Query(query): Query<PictureQuery>,
) -> Answer {
    blocking(move || {
        let (source, place) = site.run(run)?.gallery.ready()?.image(row)?;
        let png = thumbnail::png(&*source, place, query.side.unwrap_or(96))?;
        Ok(bytes("image/png", png, true))
    })
    .await
}

/// The network that made the features of the map; of saved features, the newest one.
fn network(run: &SiteRun, gallery: &Gallery) -> Answer<Arc<Network>> {
    match &gallery.checkpoint {
        Some(used) if used.is_file() => run.networks.load(used),
        _ => run.networks.load(&run.networks.newest()?),
    }
}

/// What the network sees in an image.
pub async fn attention(State(site): Page, Path((run, row)): Path<(usize, usize)>) -> Answer {
    blocking(move || {
        let run = site.run(run)?;
        let gallery = run.gallery.ready()?;
        let (source, place) = gallery.image(row)?;
        let seen = network(run, &gallery)?.see(&source.image(place)?)?;
        Ok(Json(seen).into_response())
    })
    .await
}

/// Neighbours, place and attention of a photograph that is not in the gallery.
pub async fn query(State(site): Page, Path(run): Path<usize>, body: Bytes) -> Answer {
    blocking(move || {
        let run = site.run(run)?;
        let gallery = run.gallery.ready()?;
        let network = network(run, &gallery)?;
        let pixels = network.embedder().preprocess().pixels();
        let most = SourceOptions::default().max_pixels;
        let image = decode::decode_to(pixels, "photograph", &body, most)
            .map_err(|error| Failure::bad(error.to_string()))?;
        let mut feature = network.embedder().embed(&image)?;
        let dim = feature.len();
        dinolab_eval::knn::l2_normalise(&mut feature, dim)?;
        let near = gallery.neighbours(&feature, None, NEIGHBOURS)?;
        let answer = json!({
            "neighbours": found(&gallery, &near),
            "place": gallery.place_of(&feature)?,
            "attention": network.see(&image)?,
        });
        Ok(Json(answer).into_response())
    })
    .await
}
