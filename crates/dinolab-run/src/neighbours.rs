//! The images nearest to an image, and groups of near duplicates.

mod sheet;
#[cfg(feature = "parquet")]
mod stored;

use std::fmt;
use std::path::{Path, PathBuf};

use dinolab_data::source::SourceOptions;
use dinolab_data::{Image, Pixels, decode};
use dinolab_eval::duplicates::near_duplicates;
use dinolab_eval::knn::{Neighbour, l2_normalise, nearest_neighbours};
use dinolab_eval::whitening::Whitening;
use dinolab_features::Embedder;
use serde::Serialize;

use self::sheet::{MOST_MEMBERS, MOST_ROWS};
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::feature_index::{self, IndexedImages};
use crate::feature_input::{FeatureChoice, PreprocessOptions};
use crate::feature_set::FeatureSet;
use crate::model::{Model, ModelOptions};
use crate::result_folder::check_out;
use crate::sources;
use crate::table::{Cell, Report, Table};
use crate::whitening::{WhiteningOptions, unit_rows};

/// What is searched for, and where.
#[derive(Clone, Debug)]
pub struct NeighbourRequest<'a> {
    /// Images to search: a folder, list, archive or VOC tree.
    pub images: &'a Path,
    /// What is searched for.
    pub search: Search<'a>,
    /// The sheet of pictures that is written, `.png` or `.html`.
    pub out: Option<&'a Path>,
    /// The file that keeps the features; by default in the run's folder, or next to the weights.
    pub index: Option<&'a Path>,
    /// Whether features are whitened, fitted to the images searched; the index keeps them as they are.
    pub whitening: WhiteningOptions,
    /// What is taken of the network.
    pub choice: FeatureChoice,
    /// How images are prepared.
    pub preprocess: PreprocessOptions,
    /// The weights `W`.
    pub weights: &'a Path,
    /// How their network is made.
    pub model: ModelOptions,
}

/// What is searched for.
#[derive(Clone, Copy, Debug)]
pub enum Search<'a> {
    /// The neighbours of images: files, or names of images among those searched. Without any, the index
    /// is brought up to date and nothing else.
    Nearest {
        /// The images.
        queries: &'a [String],
        /// Neighbours of each.
        k: usize,
    },
    /// Groups of near duplicates.
    Duplicates {
        /// Cosine similarity from which two images are near duplicates.
        threshold: f64,
    },
}

/// What was found; in words, apart from the answer itself, by [`Display`](fmt::Display).
#[derive(Clone, Debug, Serialize)]
pub struct NeighbourReport {
    /// Images that can be searched.
    pub images: usize,
    /// How many of them were embedded now.
    pub embedded: usize,
    /// Images that were left out.
    pub skipped: usize,
    /// The file that keeps their features; `None` if it could not be written.
    pub index: Option<String>,
    /// The answer.
    #[serde(flatten)]
    pub found: FoundImages,
    /// The sheet that was written, and what it leaves out.
    #[serde(skip)]
    pub sheet: Option<WrittenSheet>,
}

/// An answer.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum FoundImages {
    /// The neighbours of each query.
    Nearest {
        /// How many were asked for.
        k: usize,
        /// In the order asked for.
        queries: Vec<QueryNeighbours>,
    },
    /// Groups of near duplicates.
    Duplicates {
        /// The similarity asked for.
        threshold: f64,
        /// The largest first.
        groups: Vec<Vec<FoundImage>>,
    },
}

/// The neighbours of a query.
#[derive(Clone, Debug, Serialize)]
pub struct QueryNeighbours {
    /// As it was asked for.
    pub query: String,
    /// The nearest first.
    pub neighbours: Vec<FoundImage>,
}

/// An image that was found.
#[derive(Clone, Debug, Serialize)]
pub struct FoundImage {
    /// Its name.
    pub image: String,
    /// Its own file, unless it is part of an archive.
    pub path: Option<String>,
    /// Cosine similarity to the query, or to the group's first image.
    pub similarity: f32,
}

/// A sheet of pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenSheet {
    /// The file.
    pub path: PathBuf,
    /// If not all rows are in it, how many are.
    pub rows: Option<usize>,
    /// If not all pictures are in it, how many are.
    pub pictures: Option<usize>,
    /// Images that could not be read any more.
    pub unreadable: Vec<String>,
}

/// Searches.
///
/// # Errors
/// Images or weights that cannot be used, a sheet that cannot be written.
pub fn search(env: &Environment<'_>, request: &NeighbourRequest<'_>) -> Result<NeighbourReport> {
    if FeatureSet::is_folder(request.images, &env.remote)? {
        #[cfg(feature = "parquet")]
        return stored::search(env, request);
        #[cfg(not(feature = "parquet"))]
        return Err(crate::feature_set::without_parquet(request.images));
    }
    let kind = request.out.map(sheet::kind_of).transpose()?;
    if let Some(out) = request.out {
        check_out(out)?;
    }
    if let Search::Nearest { k, .. } = request.search {
        ensure_setting!(k > 0, "k", "", "must be at least 1");
    }
    let model = Model::load(env, request.weights, &request.model)?;
    let most = SourceOptions::default().max_pixels;
    let source = sources::open_as(env, request.images, most, model.pixels())?;
    let preprocess = request.preprocess.of(&model);
    let path = match request.index {
        Some(path) => path.to_owned(),
        None => feature_index::default_path(request.weights, request.images),
    };
    let features = request.choice.of(&model, 1)?;
    let mut indexed = feature_index::open(
        env,
        source,
        (&model, features),
        &preprocess,
        &request.model.precision.to_string(),
        path,
        request.preprocess.batch_size,
    )?;
    let dim = indexed.dim;
    let whitening = unit_rows([&mut indexed.features], dim, &request.whitening)?;
    let (found, shown) = match request.search {
        Search::Duplicates { threshold } => groups(env, &indexed, threshold)?,
        Search::Nearest { queries, k } => {
            let embedder = Embedder::new(model.backbone, preprocess)?.with_features(features)?;
            nearest(&indexed, &embedder, whitening.as_ref(), queries, k)?
        }
    };
    let sheet = match (request.out, kind) {
        (Some(out), Some(kind)) if !shown.is_empty() => {
            Some(sheet::write(out, kind, &indexed, &shown, request)?)
        }
        _ => None,
    };
    Ok(NeighbourReport {
        images: indexed.rows.len(),
        embedded: indexed.embedded,
        skipped: indexed.skipped,
        index: indexed.path.as_ref().map(|path| path.display().to_string()),
        found,
        sheet,
    })
}

/// A row of a sheet: pictures by their row, with similarities.
struct Shown {
    title: String,
    /// The query, if it is not a member of the set.
    query: Option<(String, Image)>,
    members: Vec<Neighbour>,
}

/// A query: a row of the index, or a picture from elsewhere.
enum Query {
    Row(usize),
    Picture(Image),
}

fn nearest(
    indexed: &IndexedImages,
    embedder: &Embedder,
    whitening: Option<&Whitening>,
    names: &[String],
    k: usize,
) -> Result<(FoundImages, Vec<Shown>)> {
    let queries = names
        .iter()
        .map(|query| find(indexed, query, embedder.preprocess().pixels()))
        .collect::<Result<Vec<_>>>()?;
    let dim = indexed.dim;
    let mut asked = Vec::with_capacity(queries.len() * dim);
    for (name, query) in names.iter().zip(&queries) {
        match query {
            Query::Row(row) => asked.extend_from_slice(&indexed.features[row * dim..][..dim]),
            Query::Picture(image) => {
                let mut feature = embedder
                    .embed(image)
                    .with_context(|| format!("query {name}"))?;
                l2_normalise(&mut feature, dim)?;
                if let Some(whitening) = whitening {
                    whitening.apply(&mut feature)?;
                    l2_normalise(&mut feature, dim)?;
                }
                asked.extend(feature);
            }
        }
    }
    // One more than asked for, since a member of the set finds itself.
    let all = nearest_neighbours(&indexed.features, &asked, dim, k + 1)?;
    let (mut rows, mut shown) = (Vec::new(), Vec::new());
    for ((name, query), mut near) in names.iter().zip(queries).zip(all) {
        let own = match &query {
            Query::Row(row) => Some(*row),
            Query::Picture(_) => None,
        };
        near.retain(|neighbour| Some(neighbour.index) != own);
        near.truncate(k);
        rows.push(QueryNeighbours {
            query: name.clone(),
            neighbours: near.iter().map(|n| described(indexed, n)).collect(),
        });
        let mut members = near;
        let query = match query {
            Query::Row(row) => {
                let own = Neighbour {
                    index: row,
                    similarity: 1.0,
                };
                members.insert(0, own);
                None
            }
            Query::Picture(image) => Some((name.clone(), image)),
        };
        shown.push(Shown {
            title: name.clone(),
            query,
            members,
        });
    }
    Ok((FoundImages::Nearest { k, queries: rows }, shown))
}

fn groups(
    env: &Environment<'_>,
    indexed: &IndexedImages,
    threshold: f64,
) -> Result<(FoundImages, Vec<Shown>)> {
    let progress = env.progress("compared", indexed.rows.len());
    let found = near_duplicates(&indexed.features, indexed.dim, threshold, &mut |done| {
        progress.set(done, "");
    })
    .of_setting("threshold", "")?;
    progress.finish();
    let (mut groups, mut shown) = (Vec::new(), Vec::new());
    for (number, group) in found.iter().enumerate() {
        let members: Vec<Neighbour> = group
            .members
            .iter()
            .zip(&group.similarity)
            .map(|(&index, &similarity)| Neighbour { index, similarity })
            .collect();
        groups.push(members.iter().map(|n| described(indexed, n)).collect());
        // One more than are shown, so that it is seen that there are more.
        if number <= MOST_ROWS {
            let more = members.len().saturating_sub(MOST_MEMBERS);
            let more = match more {
                0 => String::new(),
                more => format!(" ({more} not shown)"),
            };
            shown.push(Shown {
                title: format!("group {}: {} images{more}", number + 1, members.len()),
                query: None,
                members: members.into_iter().take(MOST_MEMBERS).collect(),
            });
        }
    }
    Ok((FoundImages::Duplicates { threshold, groups }, shown))
}

/// A query: a file – which may be one of the set – or a name in the set.
fn find(indexed: &IndexedImages, query: &str, pixels: Pixels) -> Result<Query> {
    let path = Path::new(query);
    let source = &indexed.source;
    let row_of = |test: &dyn Fn(usize) -> bool| {
        let row = indexed.rows.iter().position(|&index| test(index));
        row.map(Query::Row)
    };
    if path.is_file() {
        let whole = path.canonicalize().unwrap_or_else(|_| path.into());
        let same = |index: usize| {
            source.file(index).is_some_and(|file| {
                file.file_name() == whole.file_name()
                    && file.canonicalize().is_ok_and(|file| file == whole)
            })
        };
        if let Some(row) = row_of(&same) {
            return Ok(row);
        }
        let bytes = dinolab_data::file::read(path)?;
        let limit = SourceOptions::default().max_pixels;
        let image = decode::decode_to(pixels, query, &bytes, limit)?;
        return Ok(Query::Picture(image));
    }
    row_of(&|index| source.name(index) == query).with_context(|| {
        format!("{query}: no such file, and no usable image of that name in the dataset")
    })
}

fn name_of(indexed: &IndexedImages, row: usize) -> String {
    indexed.source.name(indexed.rows[row])
}

/// The image's own file; none where it is part of an archive.
fn file_of(indexed: &IndexedImages, row: usize) -> Option<PathBuf> {
    let file = indexed.source.file(indexed.rows[row])?;
    let archive = file
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("tar"));
    (!archive).then_some(file)
}

fn described(indexed: &IndexedImages, neighbour: &Neighbour) -> FoundImage {
    let path = file_of(indexed, neighbour.index);
    FoundImage {
        image: name_of(indexed, neighbour.index),
        path: path.map(|path| path.display().to_string()),
        similarity: neighbour.similarity,
    }
}

impl Report for NeighbourReport {
    fn table(&self) -> Table {
        let cells = |image: &FoundImage| {
            let similarity = f64::from(image.similarity);
            [Cell::number(similarity, 4), image.image.as_str().into()]
        };
        match &self.found {
            FoundImages::Nearest { queries, .. } => {
                let mut table = Table::new(["query", "rank", "similarity", "image"]);
                for query in queries {
                    for (rank, image) in query.neighbours.iter().enumerate() {
                        let [similarity, name] = cells(image);
                        let rank = Cell::count(rank + 1);
                        table.row([query.query.as_str().into(), rank, similarity, name]);
                    }
                }
                table
            }
            FoundImages::Duplicates { groups, .. } => {
                let mut table = Table::new(["group", "similarity", "image"]);
                for (number, group) in groups.iter().enumerate() {
                    for image in group {
                        let [similarity, name] = cells(image);
                        table.row([Cell::count(number + 1), similarity, name]);
                    }
                }
                table
            }
        }
    }
}

impl fmt::Display for NeighbourReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (images, embedded) = (self.images, self.embedded);
        write!(f, "{images} images, {embedded} of them newly embedded; ")?;
        match &self.index {
            Some(path) => write!(f, "index in {path}")?,
            None => f.write_str("no index")?,
        }
        let what = match &self.found {
            FoundImages::Nearest { .. } => "queries",
            FoundImages::Duplicates { threshold, groups } => {
                let inside: usize = groups.iter().map(Vec::len).sum();
                write!(
                    f,
                    "\n{} groups with {inside} images in all, similarity {threshold} or above",
                    groups.len()
                )?;
                "groups"
            }
        };
        let Some(sheet) = &self.sheet else {
            return Ok(());
        };
        if let Some(rows) = sheet.rows {
            write!(f, "\nthe sheet shows the first {rows} {what}")?;
        }
        if let Some(pictures) = sheet.pictures {
            write!(f, "\nthe sheet shows the first {pictures} pictures")?;
        }
        for name in &sheet.unreadable {
            write!(f, "\n{name}: can no longer be read; not on the sheet")?;
        }
        write!(f, "\ncontact sheet in {}", sheet.path.display())
    }
}
