//! Retrieval in a folder of features, which are read a few at a time and never all in memory.

use dinolab_eval::feature_rows::{FeatureRows, LabelledRows, RowsInMemory, UnitRows};
use dinolab_eval::retrieval::LabelledScore;

use super::{LabelledReport, LabelledRequest};
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::feature_input::{FeatureInput, feature_sets, labelled, of_saved};
use crate::feature_set::FeatureSet;
use crate::feature_set::parts::LabelledParts;

/// Rows of unit length, and their labels.
type Rows = (Box<dyn FeatureRows>, Vec<usize>);

/// Evaluates; queries are a folder as well, or a set in memory.
pub(super) fn by_labels(
    env: &Environment<'_>,
    request: &LabelledRequest<'_>,
) -> Result<LabelledReport> {
    let database = LabelledParts::open(env, request.database)?;
    let (rows, labels) = of_parts(&database, request.database, &database.classes)?;
    let queries = request
        .queries
        .map(|input| queries(env, request, input, &database.classes))
        .transpose()?;
    if let Some((queries, _)) = &queries {
        ensure!(
            queries.dim() == rows.dim(),
            "the features are of different widths: {} and {}",
            rows.dim(),
            queries.dim()
        );
    }
    let asked = queries
        .as_ref()
        .map_or(labels.len(), |(_, labels)| labels.len());
    let progress = env.progress("query", asked);
    let score = LabelledScore::of_rows(
        LabelledRows {
            rows: &*rows,
            labels: &labels,
        },
        queries.as_ref().map(|(rows, labels)| LabelledRows {
            rows: &**rows,
            labels,
        }),
        request.k,
        &mut |done| progress.set(done, ""),
    )
    .context("retrieval")?;
    progress.finish();
    Ok(LabelledReport::of(score, labels.len()))
}

fn of_parts(parts: &LabelledParts, input: FeatureInput<'_>, classes: &[String]) -> Result<Rows> {
    let rows = parts.rows().of_argument(input.setting)?;
    Ok((Box::new(UnitRows(rows)), parts.numbers(classes)))
}

fn queries(
    env: &Environment<'_>,
    request: &LabelledRequest<'_>,
    input: FeatureInput<'_>,
    classes: &[String],
) -> Result<Rows> {
    if FeatureSet::is_folder(input.path, &env.remote).of_argument(input.setting)? {
        of_saved(&request.features)?;
        return of_parts(&LabelledParts::open(env, input)?, input, classes);
    }
    let [set] = feature_sets(env, [input], &request.features)?;
    let set = labelled(env, set, input)?;
    let numbers = set.label_numbers(classes)?;
    let rows = RowsInMemory::new(set.data, set.dim)?;
    Ok((Box::new(UnitRows(rows)), numbers))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use dinolab_data::source::RemoteOptions;

    use super::*;
    use crate::feature_input::{FeatureChoice, FeatureOptions, PreprocessOptions};
    use crate::feature_set::parts::{self, FeatureType, stored::made};
    use crate::model::ModelOptions;

    fn report(database: &Path, queries: Option<&Path>) -> String {
        let input = |setting, path| FeatureInput { setting, path };
        let request = LabelledRequest {
            database: input("train", database),
            queries: queries.map(|path| input("val", path)),
            k: &[1, 10],
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
        let report = super::super::by_labels(&Environment::default(), &request).unwrap();
        serde_json::to_string(&report).unwrap()
    }

    #[test]
    fn parts_are_searched_as_all_features_at_once_are() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        made(&path("train"), (4, 90, 6), FeatureType::F32);
        made(&path("val"), (3, 40, 6), FeatureType::F16);
        for name in ["train", "val"] {
            let whole = parts::read(&path(name), &RemoteOptions::default()).unwrap();
            whole.write(&path(&format!("{name}.npy"))).unwrap();
        }
        let expected = report(&path("train.npy"), Some(&path("val.npy")));
        for (train, val) in [("train", "val"), ("train", "val.npy"), ("train.npy", "val")] {
            assert_eq!(report(&path(train), Some(&path(val))), expected);
        }
        assert_eq!(
            report(&path("train"), None),
            report(&path("train.npy"), None)
        );
    }

    /// Prints the time and the memory of the process:
    /// `cargo test --release -p dinolab-run --features parquet -- --ignored searched_for --nocapture`.
    #[allow(clippy::print_stdout, reason = "a measurement")]
    #[test]
    #[ignore = "writes 1.6 GB and takes a minute"]
    fn a_million_features_are_searched_for_relevant_ones_in_bounded_memory() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        made(&path("train"), (100, 10_000, 384), FeatureType::F32);
        made(&path("val"), (1, 100, 384), FeatureType::F32);
        // The largest memory is counted from here on.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let began = Instant::now();
        let found = report(&path("train"), Some(&path("val")));
        println!("{:.1} s, {found}", began.elapsed().as_secs_f64());
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find(|line| line.starts_with("VmHWM"));
        println!("{}", peak.unwrap_or_default());
    }
}
