//! Neighbours and near duplicates in a folder of stored features, however many. For neighbours, each thread reads one part after the other, some rows at
//! a time, and keeps those that a fast product finds near; their similarities are then computed exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dinolab_data::decode;
use dinolab_data::slice::check_finite;
use dinolab_data::source::SourceOptions;
use dinolab_eval::duplicates::{DuplicateGroup, near_duplicate_rows};
use dinolab_eval::feature_rows::{FeatureRows, UnitRows};
use dinolab_eval::knn::{Neighbour, l2_normalise, nearest_neighbours};
use dinolab_features::Embedder;
use dinolab_kernels::cosines;
use rayon::prelude::*;

use super::{FoundImage, FoundImages, NeighbourReport, NeighbourRequest, QueryNeighbours, Search};
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::feature_set::parts::{Hash, Manifest, Stored};
use crate::model::Model;

/// A row of a part.
type Place = (usize, usize);

/// Searches in the folder `request.images`.
pub(super) fn search(
    env: &Environment<'_>,
    request: &NeighbourRequest<'_>,
) -> Result<NeighbourReport> {
    if let Search::Nearest { k, .. } = request.search {
        ensure_setting!(k > 0, "k", "", "must be at least 1");
    }
    ensure_setting!(
        request.out.is_none(),
        "out",
        "",
        "shows pictures, and a folder of features has none; give the images"
    );
    ensure_setting!(
        request.index.is_none(),
        "index",
        "",
        "is of images, and a folder of features needs none"
    );
    let stored = Stored::open(request.images, &env.remote)?;
    let embedder = stored.embedder(env, request)?;
    let found = match request.search {
        Search::Duplicates { threshold } => FoundImages::Duplicates {
            threshold,
            groups: stored.duplicates(env, threshold)?,
        },
        Search::Nearest { queries, k } => FoundImages::Nearest {
            k,
            queries: stored.neighbours(request, &embedder, queries, k)?,
        },
    };
    Ok(NeighbourReport {
        images: stored.manifest.images,
        embedded: 0,
        skipped: 0,
        index: Some(stored.folder.to_string()),
        found,
        sheet: None,
    })
}

/// What is searched for.
struct Queries {
    /// `[Q, D]`, of unit length.
    features: Vec<f32>,
    /// Which of the stored images they are, if they are.
    members: Vec<Option<Place>>,
}

impl Stored {
    /// What embeds queries as the folder's images were.
    fn embedder(&self, env: &Environment<'_>, request: &NeighbourRequest<'_>) -> Result<Embedder> {
        let model = Model::load(env, request.weights, &request.model)?;
        let blocks = request.choice.of(&model, 1)?;
        let preprocess = request.preprocess.of(&model);
        ensure_setting!(
            !request.whitening.whiten,
            "whiten",
            "",
            "is fitted to all images; a folder of features is whitened as it is made"
        );
        let file = request.whitening.whitening.as_deref();
        let whitening = file.map(std::fs::read).transpose();
        let whitening = whitening.of_setting("whitening", "")?.map(|bytes| {
            let mut hash = Hash::default();
            hash.bytes(&bytes);
            hash.digits()
        });
        let own = Manifest {
            weights: Manifest::hash_of(&model.backbone),
            feature: blocks,
            precision: request.model.precision,
            preprocess: preprocess.clone(),
            whitening,
            ..self.manifest.clone()
        };
        if let Some(what) = own.difference(&self.manifest) {
            bail!(
                "{} holds features of {what}: search it as it was embedded",
                self.folder
            );
        }
        Ok(Embedder::new(model.backbone, preprocess)?.with_features(blocks)?)
    }

    /// The neighbours of each query.
    fn neighbours(
        &self,
        request: &NeighbourRequest<'_>,
        embedder: &Embedder,
        queries: &[String],
        k: usize,
    ) -> Result<Vec<QueryNeighbours>> {
        let rows = self.queries(request, embedder, queries)?;
        // One more than asked for, since a member of the set finds itself.
        let width = rows.features.len() / queries.len().max(1);
        let found = self.nearest(&rows.features, width, k + 1)?;
        if found.len() < queries.len() {
            bail!("{}: holds no features", self.folder);
        }
        let mut answers = Vec::new();
        for ((query, own), near) in queries.iter().zip(rows.members).zip(found) {
            let near = near.into_iter().filter(|(place, _)| Some(*place) != own);
            let neighbours = near.take(k).map(|(place, similarity)| {
                let image = self.name(place)?;
                let path = None;
                Ok(FoundImage {
                    image,
                    path,
                    similarity,
                })
            });
            answers.push(QueryNeighbours {
                query: query.clone(),
                neighbours: neighbours.collect::<Result<_>>()?,
            });
        }
        Ok(answers)
    }

    /// Groups of near duplicates.
    fn duplicates(&self, env: &Environment<'_>, threshold: f64) -> Result<Vec<Vec<FoundImage>>> {
        let rows = UnitRows(self.rows(|_, _| true)?);
        let progress = env.progress("compared", rows.len());
        let groups = near_duplicate_rows(&rows, threshold, &mut |done| progress.set(done, ""))
            .of_setting("threshold", "")?;
        progress.finish();
        let members = groups.iter().flat_map(|group| &group.members);
        let mut names: BTreeMap<usize, String> = members.map(|&row| (row, String::new())).collect();
        // Those of one part at a time: there may be more names than memory.
        let mut first = 0;
        for part in 0..self.parts() {
            let here = self.names(part)?;
            for (&row, name) in names.range_mut(first..first + here.len()) {
                name.clone_from(&here[row - first]);
            }
            first += here.len();
        }
        let named = |(row, similarity): (&usize, &f32)| FoundImage {
            image: names[row].clone(),
            path: None,
            similarity: *similarity,
        };
        let group = |group: &DuplicateGroup| {
            let pairs = group.members.iter().zip(&group.similarity);
            pairs.map(named).collect()
        };
        Ok(groups.iter().map(group).collect())
    }

    /// Features of the queries: of files, and of stored images by their names.
    fn queries(
        &self,
        request: &NeighbourRequest<'_>,
        embedder: &Embedder,
        queries: &[String],
    ) -> Result<Queries> {
        let mut found = Queries {
            features: Vec::new(),
            members: Vec::new(),
        };
        for query in queries {
            let path = Path::new(query);
            if !path.is_file() {
                let (feature, place) = self.member(query)?;
                found.features.extend(feature);
                found.members.push(Some(place));
                continue;
            }
            if self.manifest.size.is_some() {
                bail!(
                    "query {query}: whole images were embedded; ask for an image of {} by its name",
                    self.folder
                );
            }
            let bytes = dinolab_data::file::read(path)?;
            let limit = SourceOptions::default().max_pixels;
            let pixels = embedder.preprocess().pixels();
            let image = decode::decode_to(pixels, query, &bytes, limit)?;
            let mut feature = embedder
                .embed(&image)
                .with_context(|| format!("query {query}"))?;
            let dim = feature.len();
            l2_normalise(&mut feature, dim)?;
            if let Some(whitening) = request.whitening.of(&feature, dim)? {
                whitening.apply(&mut feature)?;
                l2_normalise(&mut feature, dim)?;
            }
            found.features.extend(feature);
            found.members.push(None);
        }
        Ok(found)
    }

    /// A stored image: its feature, of unit length, and its place.
    fn member(&self, name: &str) -> Result<(Vec<f32>, Place)> {
        let row = |part: usize| {
            let names = self.names(part);
            let row = names.map(|names| names.iter().position(|other| other == name));
            row.map(|row| Some((part, row?))).transpose()
        };
        let parts = (0..self.manifest.parts()).into_par_iter();
        let Some(place) = parts.find_map_first(row).transpose()? else {
            bail!(
                "query {name}: is neither a file nor an image of {}",
                self.folder
            );
        };
        let (mut feature, mut first) = (Vec::new(), 0);
        self.for_features(place.0, |rows, dim| {
            let last = first + rows.len() / dim.max(1);
            if (first..last).contains(&place.1) {
                feature = rows[(place.1 - first) * dim..][..dim].to_vec();
            }
            first = last;
            Ok(())
        })?;
        let dim = feature.len();
        l2_normalise(&mut feature, dim)?;
        Ok((feature, place))
    }

    /// The `k` nearest of each query `[Q, width]`, the nearest first, and of equals the first in the order of
    /// the set. Nothing where there are no features.
    fn nearest(&self, queries: &[f32], width: usize, k: usize) -> Result<Vec<Vec<(Place, f32)>>> {
        let of_part = |part: usize| -> Result<Vec<Vec<(Place, f32)>>> {
            let mut near = Near::default();
            self.for_features(part, |rows, dim| {
                if !queries.is_empty() && dim != width {
                    bail!("has features of width {dim}, and the query of {width}");
                }
                near.add(rows, queries, dim, k)
            })?;
            let Near { rows, mut data, .. } = near;
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            l2_normalise(&mut data, width)?;
            let found = nearest_neighbours(&data, queries, width, k)?;
            let placed = |near: &Neighbour| ((part, rows[near.index]), near.similarity);
            Ok(found
                .iter()
                .map(|near| near.iter().map(placed).collect())
                .collect())
        };
        let merged = |mut all: Vec<Vec<(Place, f32)>>, more: Vec<Vec<(Place, f32)>>| {
            all.resize_with(all.len().max(more.len()), Vec::new);
            for (all, more) in all.iter_mut().zip(more) {
                all.extend(more);
                all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                all.truncate(k);
            }
            all
        };
        let parts = (0..self.manifest.parts()).into_par_iter().map(of_part);
        parts.try_reduce(Vec::new, |a, b| Ok(merged(a, b)))
    }

    fn name(&self, (part, row): Place) -> Result<String> {
        Ok(self.names(part)?.swap_remove(row))
    }
}

/// Rows of a part that may be among the nearest.
#[derive(Default)]
struct Near {
    /// Rows seen.
    seen: usize,
    /// Those that are kept, in their order.
    rows: Vec<usize>,
    /// Their features, `[rows, D]`.
    data: Vec<f32>,
}

/// Rows that are kept beyond those asked for, since the fast product rounds.
const SPARE: usize = 16;

impl Near {
    /// Looks at the next rows: keeps those that are nearest to one of the queries.
    ///
    /// # Errors
    /// Features that are not finite.
    fn add(&mut self, rows: &[f32], queries: &[f32], dim: usize, k: usize) -> Result<()> {
        let mut kept = BTreeSet::new();
        for query in queries.chunks_exact(dim) {
            let cosines = cosines(rows, query);
            if cosines.iter().any(|cosine| !cosine.is_finite()) {
                // Or so large that their squares are not.
                check_finite("features", rows)?;
            }
            let mut order: Vec<usize> = (0..cosines.len()).collect();
            let most = k + SPARE;
            if order.len() > most {
                order.select_nth_unstable_by(most, |&a, &b| cosines[b].total_cmp(&cosines[a]));
                order.truncate(most);
            }
            kept.extend(order);
        }
        for row in kept {
            self.rows.push(self.seen + row);
            self.data.extend_from_slice(&rows[row * dim..][..dim]);
        }
        self.seen += rows.len() / dim;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use dinolab_data::source::RemoteOptions;
    use dinolab_eval::duplicates::near_duplicates;

    use super::*;
    use crate::feature_set::parts::FeatureType;
    use crate::feature_set::parts::stored::made;

    fn open(folder: &Path) -> Stored {
        Stored::open(folder, &RemoteOptions::default()).unwrap()
    }

    #[test]
    fn parts_give_what_all_features_at_once_do() {
        let root = tempfile::tempdir().unwrap();
        for kind in [FeatureType::F32, FeatureType::F16] {
            let path = root.path().join(format!("{kind:?}"));
            let sizes = (5, 70, 6);
            made(&path, sizes, kind);
            let stored = open(&path);
            let mut whole =
                crate::feature_set::parts::read(&path, &RemoteOptions::default()).unwrap();
            l2_normalise(&mut whole.data, whole.dim).unwrap();
            let (query, place) = stored.member("3/17.jpg").unwrap();
            assert_eq!(place, (3, 17));
            let found = &stored.nearest(&query, 6, 12).unwrap()[0];
            let expected = &nearest_neighbours(&whole.data, &query, whole.dim, 12).unwrap()[0];
            let placed: Vec<(usize, f32)> = found
                .iter()
                .map(|((part, row), s)| (part * 70 + row, *s))
                .collect();
            let expected: Vec<(usize, f32)> = expected
                .iter()
                .map(|near| (near.index, near.similarity))
                .collect();
            assert_eq!(placed, expected);
            assert_eq!(stored.name(found[0].0).unwrap(), "3/17.jpg");
            assert!(stored.member("3/70.jpg").is_err());
        }
    }

    #[test]
    fn near_duplicates_of_parts_are_those_of_all_in_memory() {
        let root = tempfile::tempdir().unwrap();
        for kind in [FeatureType::F32, FeatureType::F16] {
            let path = root.path().join(format!("{kind:?}"));
            made(&path, (5, 70, 6), kind);
            let mut whole =
                crate::feature_set::parts::read(&path, &RemoteOptions::default()).unwrap();
            l2_normalise(&mut whole.data, whole.dim).unwrap();
            let names = whole.names.unwrap();
            for threshold in [0.8, 0.95] {
                let expected =
                    near_duplicates(&whole.data, whole.dim, threshold, &mut |_| {}).unwrap();
                assert!(!expected.is_empty());
                let found = open(&path).duplicates(&Environment::default(), threshold);
                let found = found.unwrap();
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    let found: Vec<(&String, f32)> = found
                        .iter()
                        .map(|one| (&one.image, one.similarity))
                        .collect();
                    let members = expected.members.iter().map(|&row| &names[row]);
                    let expected: Vec<_> = members.zip(expected.similarity).collect();
                    assert_eq!(found, expected);
                }
            }
            assert!(
                open(&path)
                    .duplicates(&Environment::default(), 2.0)
                    .is_err()
            );
        }
    }

    /// Prints the time of searching a million features and the memory of the process:
    /// `cargo test --release -p dinolab-run --features parquet -- --ignored a_million --nocapture`.
    #[allow(clippy::print_stdout, reason = "a measurement")]
    #[test]
    #[ignore = "writes 0.8 to 1.5 GB and takes a minute"]
    fn a_million_features_are_searched_in_bounded_memory() {
        let root = tempfile::tempdir().unwrap();
        for kind in [FeatureType::F32, FeatureType::F16] {
            let path = root.path().join(format!("{kind:?}"));
            made(&path, (100, 10_000, 384), kind);
            let stored = open(&path);
            let (query, _) = stored.member("50/17.jpg").unwrap();
            // The largest memory is counted from here on.
            let _ = std::fs::write("/proc/self/clear_refs", "5");
            for _ in 0..3 {
                let began = Instant::now();
                let found = stored.nearest(&query, 384, 11).unwrap();
                let seconds = began.elapsed().as_secs_f64();
                println!("{kind:?}: {seconds:.2} s, nearest {:?}", found[0][0]);
            }
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let peak = status
                .lines()
                .find(|line| line.starts_with("VmHWM"))
                .unwrap_or_default();
            println!("{kind:?}: {peak}");
        }
    }

    /// Prints the time of comparing all pairs of features and the memory of the process:
    /// `cargo test --release -p dinolab-run --features parquet -- --ignored all_pairs --nocapture`.
    #[allow(clippy::print_stdout, reason = "a measurement")]
    #[test]
    #[ignore = "writes 150 MB and takes minutes"]
    fn all_pairs_are_compared_in_bounded_memory() {
        let root = tempfile::tempdir().unwrap();
        made(root.path(), (10, 10_000, 384), FeatureType::F32);
        let stored = open(root.path());
        // The largest memory is counted from here on.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let began = Instant::now();
        let found = stored.duplicates(&Environment::default(), 0.95).unwrap();
        let seconds = began.elapsed().as_secs_f64();
        println!("{seconds:.1} s, {} groups", found.len());
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find(|line| line.starts_with("VmHWM"));
        println!("{}", peak.unwrap_or_default());
    }
}
