use std::collections::BTreeMap;
use std::time::Instant;

use dinolab_data::source::RemoteOptions;
use dinolab_nn::weights::{Array, read_arrays};

use super::*;
use crate::feature_input::{FeatureChoice, PreprocessOptions};
use crate::feature_set::parts::{self, FeatureType, stored::made};
use crate::model::ModelOptions;

/// The figures, and the arrays of the classifier.
fn learned(
    (train, val): (&Path, &Path),
    epochs: usize,
    standardise: bool,
    out: &Path,
) -> (String, BTreeMap<String, Array>) {
    let request = LinearRequest {
        train,
        val,
        config: LinearConfig {
            epochs,
            ..LinearConfig::default()
        },
        lrs: &[0.1, 1.0],
        augment: false,
        crops_scale: Pair(0.1, 1.0),
        standardise,
        out: Some(out),
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
    let report = evaluate(&Environment::default(), &request, &mut |_| {}).unwrap();
    let report = serde_json::to_string(&report).unwrap();
    (report, read_arrays(out).unwrap().0)
}

#[test]
fn parts_teach_what_all_features_at_once_do() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    made(&path("train"), (4, 90, 6), FeatureType::F32);
    made(&path("val"), (3, 40, 6), FeatureType::F16);
    for name in ["train", "val"] {
        let whole = parts::read(&path(name), &RemoteOptions::default()).unwrap();
        whole.write(&path(&format!("{name}.npy"))).unwrap();
    }
    let learned = |train: &str, val: &str, standardise| {
        learned(
            (&path(train), &path(val)),
            3,
            standardise,
            &path("classifier"),
        )
    };
    for standardise in [false, true] {
        let expected = learned("train.npy", "val.npy", standardise);
        for (train, val) in [("train", "val"), ("train", "val.npy"), ("train.npy", "val")] {
            assert!(
                learned(train, val, standardise) == expected,
                "{train} {val}"
            );
        }
    }
}

#[test]
fn features_that_do_not_fit_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    made(&path("train"), (2, 20, 6), FeatureType::F32);
    made(&path("val"), (2, 20, 7), FeatureType::F32);
    let env = Environment::default();
    let [train, val] = ["train", "val"].map(|name| {
        let path = path(name);
        LabelledSet::open(
            &env,
            FeatureInput {
                setting: name,
                path: &path,
            },
        )
        .unwrap()
    });
    assert_eq!((train.dim(), val.dim()), (6, 7));
    std::fs::remove_file(path("train/part-000001.parquet")).unwrap();
    let error = LabelledSet::open(
        &env,
        FeatureInput {
            setting: "train",
            path: &path("train"),
        },
    );
    let error = error.err().unwrap().to_string();
    assert!(
        error.starts_with("train: ") && error.contains("is missing"),
        "{error}"
    );
}

/// Prints the time and the memory of the process:
/// `cargo test --release -p dinolab-run --features parquet -- --ignored learns_from_a_million --nocapture`.
#[allow(clippy::print_stdout, reason = "a measurement")]
#[test]
#[ignore = "writes 1.6 GB and takes a minute"]
fn a_classifier_learns_from_a_million_features_in_bounded_memory() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    made(&path("train"), (100, 10_000, 384), FeatureType::F32);
    made(&path("val"), (2, 1000, 384), FeatureType::F32);
    // The largest memory is counted from here on.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let began = Instant::now();
    let sets = (path("train"), path("val"));
    learned((&sets.0, &sets.1), 2, true, &path("classifier"));
    println!("{:.1} s for 2 epochs", began.elapsed().as_secs_f64());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("{}", peak.unwrap_or_default());
}
