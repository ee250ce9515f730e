//! `dinolab train --tensorboard`: event files beside the run's own, which they do not change.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Train, assert_same};

fn run(out: &Path) -> Train {
    Train::tiny_lejepa(out)
        .with("eval-every", 1)
        .with("checkpoint-every", 1)
}

fn event_files(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run.join("tensorboard")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| path.to_string_lossy().contains("tfevents");
    let mut found: Vec<PathBuf> = paths.filter(named).collect();
    found.sort();
    found
}

#[test]
fn a_run_is_the_same_with_and_without_event_files() {
    let root = tempfile::tempdir().unwrap();
    let [plain, shown] = ["plain", "shown"].map(|name| root.path().join(name));
    run(&plain).succeed();
    assert!(!plain.join("tensorboard").exists());
    // Stopped, and resumed by the same command.
    let command = run(&shown).switch("tensorboard");
    command.clone().with("stop-after-epochs", 1).succeed();
    command.succeed();
    let files = event_files(&shown);
    assert_eq!(files.len(), 2);
    for file in files {
        let bytes = fs::read(file).unwrap();
        let has = |text: &str| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        for tag in [
            "brain.Event:2",
            "train/loss",
            "train/sigreg",
            "epoch/feature_rank",
            "epoch/terms/sigreg",
            "evaluation/knn",
            "timing/images_per_second",
            "attention",
            "IHDR",
        ] {
            assert!(has(tag), "{tag}");
        }
    }
    let read = |name: &str| fs::read_to_string(shown.join("tensorboard").join(name)).unwrap();
    assert!(read("projector_config.pbtxt").contains("features.tsv"));
    let rows = read("features.tsv").lines().count();
    assert_eq!(read("images.tsv").lines().count(), rows + 1);
    assert_same(&shown, &plain);
    // It can be left out when the run is resumed, and said in words.
    run(&shown).with("tensorboard", "false").succeed();
}
