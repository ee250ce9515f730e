//! What the program says of sources, and that nothing in them ends it.
#![cfg(unix)]

use crate::common;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::{Train, newest, picture, program, text};
use serde_json::Value;
use tempfile::TempDir;

/// Two classes of four images, and one image that belongs to neither.
fn photos(root: &Path) {
    for seed in 0..4 {
        picture(&root.join(format!("emu/{seed}.png")), 40, seed);
        picture(&root.join(format!("gnu/{seed}.jpg")), 40, 50 + seed);
    }
    picture(&root.join("poster.png"), 40, 99);
}

/// Runs the program, which must succeed; returns both streams.
fn run(args: &[&str]) -> (String, String) {
    let output = program().args(args).output().unwrap();
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{args:?}: {told}");
    (said, told)
}

const STRAY: &str = "1 image outside the class folders has no label: poster.png";

#[test]
fn a_run_inside_its_images_is_never_learned_from() {
    let root = TempDir::new().unwrap();
    let photos_ = root.path().join("photos");
    photos(&photos_);
    symlink("/no/such/disk/5.png", photos_.join("emu/5.png")).unwrap();
    let out = photos_.join("run");
    let train = Train::tiny(&out)
        .on(&photos_)
        .with("batch-size", 4)
        .with("max-unusable-percent", 50)
        .with("holdout", 0)
        .with("eval-every", 1)
        .with("attention-images", 2)
        .with("epochs", 2);
    let said = train.clone().with("stop-after-epochs", 1).succeed();
    assert!(said.contains("10 images in"), "{said}");
    assert_eq!(said.matches(STRAY).count(), 1, "{said}");
    assert!(fs::read_dir(out.join("pictures")).unwrap().count() > 0);
    let said = train.clone().succeed();
    assert!(said.contains("10 images in"), "{said}");
    assert_eq!(
        said.matches("1 folder of a training run is skipped: run")
            .count(),
        1,
        "{said}"
    );
    let skipped = fs::read_to_string(out.join("skipped.tsv")).unwrap();
    assert!(
        skipped.starts_with("emu/5.png\t") && skipped.lines().count() == 1,
        "{skipped}"
    );
}

#[test]
fn images_without_a_label_are_left_out_of_what_needs_one() {
    let root = TempDir::new().unwrap();
    let photos_ = root.path().join("photos");
    photos(&photos_);
    let out = root.path().join("run");
    Train::tiny(&out)
        .on(&photos_)
        .with("batch-size", 4)
        .with("val", photos_.display())
        .with("eval-every", 1)
        .with("attention-images", 1)
        .with("epochs", 1)
        .succeed();
    assert!(
        fs::read_to_string(out.join("metrics.jsonl"))
            .unwrap()
            .contains("\"knn\"")
    );
    let weights = newest(&out).display().to_string();
    let folder = photos_.display().to_string();
    let saved = root.path().join("f.npy").display().to_string();
    let left_out = "1 of 9 images have no label and are left out";
    let knn = |set: &str| {
        let sets = ["--train", set, "--val", set, "--k", "1", "--json"];
        let weights = ["--weights", &weights];
        let (said, told) = run(&[&["eval", "knn"][..], &weights, &sets].concat());
        assert!(told.contains(left_out), "{told}");
        let answer: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(
            (&answer["train_images"], &answer["classes"]),
            (&8.into(), &2.into())
        );
        answer["knn"][0]["top1"].as_f64().unwrap()
    };
    run(&["embed", "--weights", &weights, &folder, "--out", &saved]);
    let labels = fs::read_to_string(root.path().join("f.labels.txt")).unwrap();
    assert_eq!(labels.lines().filter(|line| line.is_empty()).count(), 1);
    assert_eq!(labels.lines().count(), 9);
    assert_eq!(knn(&folder), knn(&saved));

    let (_, told) = run(&["eval", "retrieval", "--k", "1", &saved]);
    assert!(told.contains(left_out), "{told}");
    let linear = |more: &[&str]| {
        let sets = [
            "--train",
            &folder,
            "--val",
            &folder,
            "--epochs=2",
            "--n-last-blocks=2",
        ];
        let weights = ["--weights", &weights];
        let (_, told) = run(&[&["eval", "linear"][..], &weights, &sets, more].concat());
        assert!(told.contains("8 images of 2 classes"), "{told}");
    };
    linear(&[]);
    linear(&["--augment"]);
}

#[test]
fn what_cannot_be_read_is_packed_in_its_place() {
    let root = TempDir::new().unwrap();
    let photos_ = root.path().join("photos");
    photos(&photos_);
    symlink("nowhere.jpg", photos_.join("gnu/1b.jpg")).unwrap();
    let shards = root.path().join("shards");
    let (folder, packed) = (photos_.display().to_string(), shards.display().to_string());
    let (said, told) = run(&["data", "pack", &folder, &packed]);
    assert!(
        said.contains("images: 10") && said.contains("packed as empty files: 1"),
        "{said}"
    );
    assert!(told.contains("gnu/1b.jpg: No such file"), "{told}");
    assert!(told.contains(STRAY), "{told}");

    let inspect = |path: &str| -> Value {
        let (said, told) = run(&["data", "inspect", "--json", path]);
        assert!(!told.contains("note"), "it is in the report: {told}");
        serde_json::from_str(&said).unwrap()
    };
    let (before, after) = (inspect(&folder), inspect(&packed));
    for answer in [&before, &after] {
        assert_eq!(answer["images"], 10);
        assert_eq!(answer["classes"]["emu"], 4);
        assert_eq!(answer["classes"]["gnu"], 5);
        assert_eq!(answer["unlabelled"], 1);
        assert_eq!(answer["notes"].as_array().unwrap().len(), 1, "{answer}");
        assert_eq!(answer["unreadable"].as_array().unwrap().len(), 1);
    }
    assert!(before["notes"][0].as_str().unwrap().contains("poster.png"));
    assert!(after["notes"][0].as_str().unwrap().contains("(.cls)"));
    let (said, _) = run(&["data", "inspect", &packed]);
    assert!(said.contains("note: 1 image has no label"), "{said}");
    assert!(said.contains("without a class"), "{said}");
}

#[test]
fn packing_that_fails_leaves_nothing_behind() {
    let root = TempDir::new().unwrap();
    let photos_ = root.path().join("photos");
    fs::create_dir(&photos_).unwrap();
    for name in ["a.jpg", "b.png"] {
        symlink("nowhere", photos_.join(name)).unwrap();
    }
    let shards = root.path().join("shards");
    let output = program()
        .args(["data", "pack"])
        .args([&photos_, &shards])
        .output()
        .unwrap();
    let error = common::one_error(&output);
    assert!(error.contains("not one of 2 images"), "{error}");
    assert!(!shards.exists());
}
