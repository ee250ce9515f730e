//! Runs of VISReg: the same at any number of threads, resumed exactly, and given nothing that it does
//! not have.

use std::fs;

use crate::common::{Train, figures, of_kind, same_however_it_is_run, tensors};

#[test]
fn threads_and_interruptions_do_not_show() {
    let root = tempfile::tempdir().unwrap();
    let whole = same_however_it_is_run(root.path(), Train::tiny_visreg);
    assert_eq!(figures(&whole, "train", "shape").len(), 12);
}

#[test]
fn metrics_are_its_own() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let said = Train::tiny_visreg(&run).succeed();
    for figure in ["invariance", "location", "scale", "shape", "embedding std"] {
        assert!(said.contains(figure), "{said}");
    }
    assert!(
        !said.contains("teacher") && !said.contains("sigreg"),
        "{said}"
    );
    for line in of_kind(&run, "epoch") {
        for absent in ["teacher_entropy", "kl", "centre_norm", "out_dim"] {
            assert!(!line.contains_key(absent), "{absent}");
        }
    }
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(
        config.contains("visreg-weight = 0.6") && config.contains("directions = 16"),
        "{config}"
    );
    assert!(
        !config.contains("sigreg") && !config.contains("teacher"),
        "{config}"
    );
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("VISReg") && !report.contains("KL(teacher"));
    let names: Vec<String> = tensors(&run).into_keys().collect();
    let has = |start: &str| names.iter().any(|name| name.starts_with(start));
    assert!(has("average.backbone.") && !has("teacher."));
}

#[test]
fn what_it_does_not_have_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let run = || Train::tiny_visreg(&root.path().join("run"));
    for (flag, value, named) in [
        ("accumulate", "2", "VISReg"),
        ("teacher-temp", "0.04", "dino"),
        ("sigreg-weight", "0.05", "lejepa"),
        ("visreg-weight", "1.5", "between 0 and 1"),
        ("directions", "0", "at least 1"),
    ] {
        let error = run().with(flag, value).fail();
        assert!(error.contains(flag) && error.contains(named), "{error}");
    }
    let error = Train::tiny_lejepa(&root.path().join("run"))
        .with("visreg-weight", 0.6)
        .fail();
    assert!(error.contains("visreg-weight belongs to visreg"), "{error}");
    assert!(!root.path().join("run/checkpoints").exists());
}
