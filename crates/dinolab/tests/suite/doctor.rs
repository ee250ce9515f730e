//! `dinolab doctor` on runs of this program: exit codes, words, JSON.

use std::path::Path;
use std::process::Output;

use crate::common::{Train, program, text};
use serde_json::Value;

fn doctor(run: &Path, flags: &[&str]) -> Output {
    let mut command = program();
    command.arg("doctor").arg(run).args(flags);
    command.output().unwrap()
}

#[test]
fn healthy_runs_of_every_method_are_not_accused() {
    let root = tempfile::tempdir().unwrap();
    for (name, train) in [
        ("dino", Train::tiny as fn(&Path) -> Train),
        ("lejepa", Train::tiny_lejepa),
        ("visreg", Train::tiny_visreg),
        ("simdino", Train::tiny_simdino),
        ("dinov2", Train::tiny_dinov2),
        ("distill", Train::tiny_distill),
    ] {
        let run = root.path().join(name);
        train(&run).succeed();
        let output = doctor(&run, &[]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{name}: {said}");
        assert!(said.contains("nothing is wrong"), "{name}: {said}");
    }
}

#[test]
fn a_run_without_a_centre_is_named_with_its_remedy() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    Train::tiny(&run).with("center-momentum", 1).succeed();
    let output = doctor(&run, &[]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no centring"), "{said}");
    assert!(
        said.contains("lower the centre's momentum from 1 to 0.9"),
        "{said}"
    );

    let output = doctor(&run.join("metrics.jsonl"), &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["findings"][0]["failure"], "no_centring", "{found}");
}

#[test]
fn what_is_no_run_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let output = doctor(root.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("without metrics.jsonl"), "{said}");

    let mut command = program();
    command.args(["overfit", "cat.jpg", "--mistake", "same-view"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "an image has no part in it");
}
