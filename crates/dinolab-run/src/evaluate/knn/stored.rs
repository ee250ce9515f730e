//! k-NN with the votes of a folder of features, which are read a few at a time and never all in memory.

use dinolab_eval::knn::{KnnScore, KnnStream, Labelled, l2_normalise};
use dinolab_eval::whitening::{CovarianceAccumulator, Whitening, WhiteningCentre};

use super::{KnnAccuracy, KnnReport, KnnRequest};
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::feature_input::{FeatureInput, feature_sets, no_labels, of_saved, unlabelled};
use crate::feature_set::FeatureSet;
use crate::feature_set::parts::{LabelledParts, Stored};

/// Rows that are classified at a time; the features that vote are read again for the next.
const CLASSIFIED: usize = 10_000;

/// Evaluates, with one part of the validation set after the other where that is a folder, too.
pub(super) fn evaluate(env: &Environment<'_>, request: &KnnRequest<'_>) -> Result<KnnReport> {
    let [train, val] = [("train", request.train), ("val", request.val)]
        .map(|(setting, path)| FeatureInput { setting, path });
    let voters = LabelledParts::open(env, train)?;
    let mut hits = Hits::new(&request.knn.k);
    // Fitted once the width is known.
    let mut whitening: Option<Option<Whitening>> = None;
    let mut classify = |set: FeatureSet| -> Result<(usize, usize)> {
        let all = set.len();
        if set.labels.is_none() {
            return Ok((all, all));
        }
        let (mut set, without) = set.labelled();
        if set.is_empty() {
            return Ok((without, all));
        }
        let dim = set.dim;
        if whitening.is_none() {
            whitening = Some(fitted(&voters, request, dim)?);
        }
        let whitening = whitening.as_ref().and_then(Option::as_ref);
        prepare(&mut set.data, dim, whitening)?;
        let labels = set.label_numbers(&voters.classes)?;
        let pieces = set.data.chunks(CLASSIFIED * dim);
        for (features, labels) in pieces.zip(labels.chunks(CLASSIFIED)) {
            let test = Labelled {
                features,
                dim,
                labels,
            };
            let mut stream = KnnStream::new(&request.knn, test, voters.images)?;
            voters.for_rows(dim, |mut rows, labels| {
                prepare(&mut rows, dim, whitening)?;
                Ok(stream.add(Labelled {
                    features: &rows,
                    dim,
                    labels,
                })?)
            })?;
            hits.add(&stream.finish()?, labels.len());
        }
        Ok((without, all))
    };
    let (mut without, mut all) = (0, 0);
    if FeatureSet::is_folder(request.val, &env.remote).of_setting("val", "")? {
        of_saved(&request.features)?;
        let stored = Stored::open(request.val, &env.remote).of_setting("val", "")?;
        let progress = env.progress("part", stored.parts());
        for part in 0..stored.parts() {
            let here = classify(stored.read(part)?)?;
            (without, all) = (without + here.0, all + here.1);
            progress.set(part + 1, "");
        }
        progress.finish();
    } else {
        let [set] = feature_sets(env, [val], &request.features)?;
        (without, all) = classify(set)?;
    }
    if hits.images == 0 {
        return Err(no_labels(val));
    }
    unlabelled(env, val, without, all);
    Ok(KnnReport {
        knn: hits.accuracies(),
        temperature: request.knn.temperature,
        whitened: request.whitening.is_on(),
        train_images: voters.images,
        val_images: hits.images,
        classes: voters.classes.len(),
    })
}

/// Brings rows to unit length, and whitens them.
fn prepare(rows: &mut [f32], dim: usize, whitening: Option<&Whitening>) -> Result<()> {
    l2_normalise(rows, dim)?;
    if let Some(whitening) = whitening {
        whitening.apply(rows)?;
        l2_normalise(rows, dim)?;
    }
    Ok(())
}

/// The transform that is asked for, fitted to the rows that have a class or read.
fn fitted(
    voters: &LabelledParts,
    request: &KnnRequest<'_>,
    dim: usize,
) -> Result<Option<Whitening>> {
    if !request.whitening.whiten {
        return request.whitening.of(&[], dim);
    }
    let mut sums = CovarianceAccumulator::new(dim);
    voters.for_rows(dim, |mut rows, _| {
        l2_normalise(&mut rows, dim)?;
        Ok(sums.add(&rows)?)
    })?;
    let fitted = Whitening::fit(&sums, WhiteningCentre::Mean);
    Ok(Some(fitted.of_setting("whiten", "")?))
}

/// Images that were classified correctly.
struct Hits {
    images: usize,
    /// Number of neighbours, images whose first class is correct, and among whose first five one is.
    of: Vec<(usize, f64, f64)>,
}

impl Hits {
    fn new(k: &[usize]) -> Self {
        Self {
            images: 0,
            of: k.iter().map(|&k| (k, 0.0, 0.0)).collect(),
        }
    }

    /// Adds the scores of some images: percentages of so many are whole numbers of images.
    fn add(&mut self, scores: &[KnnScore], images: usize) {
        let count = |percent: f64| (percent * images as f64 / 100.0).round();
        for ((_, first, among), score) in self.of.iter_mut().zip(scores) {
            *first += count(score.top1);
            *among += count(score.top5);
        }
        self.images += images;
    }

    fn accuracies(&self) -> Vec<KnnAccuracy> {
        let percent = |count: f64| 100.0 * count / self.images as f64;
        let of = self.of.iter();
        of.map(|&(k, first, among)| KnnAccuracy {
            k,
            top1: percent(first),
            top5: percent(among),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use dinolab_data::source::RemoteOptions;
    use dinolab_eval::knn::Knn;

    use super::*;
    use crate::feature_input::{FeatureChoice, FeatureOptions, PreprocessOptions};
    use crate::feature_set::parts::{self, FeatureType, stored::made};
    use crate::model::ModelOptions;
    use crate::whitening::WhiteningOptions;

    fn report(train: &Path, val: &Path, whitening: WhiteningOptions) -> KnnReport {
        let request = KnnRequest {
            train,
            val,
            knn: Knn {
                k: vec![1, 20],
                temperature: 0.07,
            },
            whitening,
            features: FeatureOptions {
                weights: None,
                model: ModelOptions::default(),
                choice: FeatureChoice::default(),
                preprocess: PreprocessOptions {
                    resize: None,
                    crop: None,
                    batch_size: 32,
                },
            },
        };
        super::super::evaluate(&Environment::default(), &request).unwrap()
    }

    #[test]
    fn parts_vote_as_all_features_at_once_do() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        made(&path("train"), (4, 90, 6), FeatureType::F32);
        made(&path("val"), (3, 40, 6), FeatureType::F16);
        for name in ["train", "val"] {
            let whole = parts::read(&path(name), &RemoteOptions::default()).unwrap();
            whole.write(&path(&format!("{name}.npy"))).unwrap();
        }
        let fitted = || WhiteningOptions {
            whiten: true,
            whitening: None,
        };
        for whitening in [WhiteningOptions::default(), fitted()] {
            let expected = report(&path("train.npy"), &path("val.npy"), whitening.clone());
            assert_eq!(expected.classes, 10);
            assert!(expected.train_images < 360 && expected.val_images < 120);
            for (train, val) in [("train", "val"), ("train", "val.npy"), ("train.npy", "val")] {
                assert_eq!(
                    report(&path(train), &path(val), whitening.clone()),
                    expected
                );
            }
        }
    }

    /// Prints the time and the memory of the process:
    /// `cargo test --release -p dinolab-run --features parquet -- --ignored a_million_votes --nocapture`.
    #[allow(clippy::print_stdout, reason = "a measurement")]
    #[test]
    #[ignore = "writes 1.6 GB and takes a minute"]
    fn a_million_votes_in_bounded_memory() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        made(&path("train"), (100, 10_000, 384), FeatureType::F32);
        made(&path("val"), (2, 1000, 384), FeatureType::F32);
        // The largest memory is counted from here on.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let began = Instant::now();
        let found = report(&path("train"), &path("val"), WhiteningOptions::default());
        println!("{:.1} s, {:?}", began.elapsed().as_secs_f64(), found.knn);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find(|line| line.starts_with("VmHWM"));
        println!("{}", peak.unwrap_or_default());
    }
}
