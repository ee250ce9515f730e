//! Runs of SimDINO: the same at any number of threads, resumed exactly, and given nothing that it does
//! not have.

use std::fs;
use std::path::Path;

use crate::common::{
    Train, figures, of_kind, pictures, program, same_however_it_is_run, tensors, text,
};

#[test]
fn threads_and_interruptions_do_not_show() {
    let root = tempfile::tempdir().unwrap();
    let whole = same_however_it_is_run(root.path(), Train::tiny_simdino);
    assert_eq!(figures(&whole, "train", "coding_rate").len(), 12);
}

#[test]
fn metrics_are_its_own() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let said = Train::tiny_simdino(&run).succeed();
    for figure in ["similarity", "coding_rate", "embedding std"] {
        assert!(said.contains(figure), "{said}");
    }
    assert!(!said.contains("entropy"), "{said}");
    for line in of_kind(&run, "epoch") {
        for absent in ["teacher_entropy", "kl", "centre_norm", "out_dim"] {
            assert!(!line.contains_key(absent), "{absent}");
        }
    }
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    // (16 + 8) / (16 · 8).
    assert!(config.contains("coding-rate-weight = 0.1875"), "{config}");
    for absent in ["teacher-temp", "out-dim", "directions", "average"] {
        assert!(!config.contains(absent), "{config}");
    }
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("SimDINO") && !report.contains("KL(teacher"));
    let names: Vec<String> = tensors(&run).into_keys().collect();
    let has = |start: &str| names.iter().any(|name| name.starts_with(start));
    assert!(has("teacher.backbone.") && has("student.head.mlp.") && !has("centre"));
    assert!(!names.iter().any(|name| name.contains("last_layer")));
}

#[test]
fn what_it_does_not_have_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    for (flag, value, named) in [
        ("accumulate", "2", "SimDINO"),
        ("teacher-temp", "0.04", "dino"),
        ("directions", "16", "lejepa"),
        ("coding-rate-weight", "-1", "below 0"),
        ("coding-rate-epsilon", "0", "above 0"),
    ] {
        let run = Train::tiny_simdino(&root.path().join("run"));
        let error = run.with(flag, value).fail();
        assert!(error.contains(flag) && error.contains(named), "{error}");
    }
    assert!(!root.path().join("run/checkpoints").exists());
}

#[test]
fn an_average_is_evaluated_in_place_of_the_teacher() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let with_momentum = Train::tiny_simdino(&run).with("average-momentum", 0.9);
    let error = with_momentum.fail();
    assert!(error.contains("give --evaluated average"), "{error}");
    // As advised: the same however it is cut, and used by whoever reads the run.
    let averaged = |run: &Path| {
        let train = Train::tiny_simdino(run).with("average-momentum", 0.9);
        train.with("evaluated", "average")
    };
    let run = same_however_it_is_run(root.path(), averaged);
    let names: Vec<String> = tensors(&run).into_keys().collect();
    assert!(
        names
            .iter()
            .any(|name| name.starts_with("average.backbone."))
    );
    let embed = |weights: &Path, out: &str| {
        let out = root.path().join(out);
        let mut embed = program();
        embed
            .arg("embed")
            .arg("--weights")
            .arg(weights)
            .arg("--out")
            .arg(&out);
        let images = root.path().join("images");
        pictures(&images, 4);
        let output = embed.arg(images).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::read(out).unwrap()
    };
    let plain = root.path().join("plain");
    Train::tiny_simdino(&plain).succeed();
    assert_ne!(embed(&run, "average.npy"), embed(&plain, "teacher.npy"));
}
