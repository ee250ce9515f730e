//! `eval segmentation` and `eval transfer` as a user calls them.

use crate::common;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Train, one_error, picture, program, text};
use dinolab_data::Source;
use dinolab_data::shapes::Shapes;
use serde_json::Value;
use tempfile::TempDir;

fn run(folder: &TempDir) -> PathBuf {
    let run = folder.path().join("run");
    Train::tiny(&run).with("epochs", 1).succeed();
    run
}

fn eval(what: &str, run: &Path) -> Command {
    let mut command = program();
    command.args(["eval", what, "--weights"]).arg(run);
    command
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn json(command: &mut Command) -> Value {
    serde_json::from_str(&succeed(command.arg("--json"))).unwrap()
}

/// A VOC tree of shapes whose masks say 3 for all objects, with a void rim, and one image
/// without a mask.
fn tree(root: &Path, splits: &[(&str, std::ops::Range<usize>)]) {
    let shapes = Shapes::new(4, 40);
    for (split, range) in splits {
        let mut list = String::new();
        for index in range.clone() {
            let (image, mask) = (
                shapes.image(index).unwrap(),
                shapes.mask(index).unwrap().unwrap(),
            );
            let side = image.width as u32;
            let file = |folder: &str, extension: &str| {
                let path = root.join(folder).join(format!("{index:03}.{extension}"));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                path
            };
            image::RgbImage::from_raw(side, side, image.data)
                .unwrap()
                .save(file("JPEGImages", "jpg"))
                .unwrap();
            let values = mask.data.iter().enumerate().map(|(i, &v)| match i {
                0..64 => 255,
                _ => 3 * v,
            });
            image::GrayImage::from_raw(side, side, values.collect())
                .unwrap()
                .save(file("SegmentationClass", "png"))
                .unwrap();
            list += &format!("{index:03}\n");
        }
        let sets = root.join("ImageSets/Segmentation");
        fs::create_dir_all(&sets).unwrap();
        fs::write(sets.join(format!("{split}.txt")), list).unwrap();
    }
}

#[test]
fn segmentation_of_a_tree_by_its_splits_or_a_part_held_out() {
    let folder = TempDir::new().unwrap();
    let (run, root) = (run(&folder), folder.path().join("voc"));
    tree(&root, &[("train", 0..12), ("val", 12..20)]);
    let command = || {
        let mut command = eval("segmentation", &run);
        command
            .arg(&root)
            .args(["--size", "32", "--epochs", "6", "--lr", "0.001,0.03"]);
        command
    };
    let found = json(&mut command());
    assert_eq!(
        (&found["train_images"], &found["val_images"]),
        (&12.into(), &8.into())
    );
    let best = found["mean_iou"].as_f64().unwrap();
    let runs = found["runs"].as_array().unwrap();
    assert!(
        runs.iter()
            .all(|run| run["mean_iou"].as_f64().unwrap() <= best)
    );
    // Objects are birds; what is never shown nor said has no score.
    let chosen = runs.iter().find(|run| run["lr"] == found["lr"]).unwrap();
    assert!(chosen["iou"]["background"].as_f64().unwrap() > 40.0);
    assert!(chosen["iou"]["bird"].is_number());
    assert!(chosen["iou"]["cat"].is_null());
    assert_eq!(found, json(command().env("RAYON_NUM_THREADS", "1")));
    let table = succeed(&mut command());
    assert!(
        table
            .lines()
            .any(|line| line.starts_with("mean over classes")),
        "{table}"
    );

    let names = folder.path().join("names.txt");
    fs::write(&names, "ground\na\nb\nthing\n").unwrap();
    let named = json(command().arg("--class-names").arg(&names));
    assert!(named["runs"][0]["iou"]["thing"].is_number());
    fs::write(&names, "ground\na\n").unwrap();
    let error = one_error(&command().arg("--class-names").arg(&names).output().unwrap());
    assert!(error.contains("--class-names"), "{error}");
    let mut odd = eval("segmentation", &run);
    let error = one_error(&odd.arg(&root).args(["--size", "33"]).output().unwrap());
    assert!(error.contains("patch size"), "{error}");

    // With one split, a part of it is held out; an image without a mask is told and left out.
    fs::remove_file(root.join("ImageSets/Segmentation/train.txt")).unwrap();
    picture(&root.join("JPEGImages/bare.jpg"), 48, 1);
    let list = root.join("ImageSets/Segmentation/val.txt");
    let lines = fs::read_to_string(&list).unwrap() + "bare\n";
    fs::write(&list, lines).unwrap();
    let output = command().arg("--json").output().unwrap();
    assert!(text(&output.stderr).contains("bare.jpg: has no mask"));
    let held: Value = serde_json::from_slice(&output.stdout).unwrap();
    let counts = [&held["train_images"], &held["val_images"]].map(|n| n.as_u64().unwrap());
    assert_eq!(counts.iter().sum::<u64>(), 8);
    assert_eq!(held["skipped"], 1);
    assert!(counts[1] >= 2 && counts[0] > counts[1]);
}

#[test]
fn segmentation_without_a_tree_is_of_shapes() {
    let folder = TempDir::new().unwrap();
    let run = run(&folder);
    let found = json(eval("segmentation", &run).args([
        "--shapes-images",
        "48",
        "--epochs",
        "4",
        "--size",
        "64",
    ]));
    assert_eq!(
        (&found["train_images"], &found["val_images"]),
        (&48.into(), &16.into())
    );
    assert!(found["pixel_accuracy"].as_f64().unwrap() > 50.0);
    assert!(found["runs"][0]["iou"]["spiral"].is_number());
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let error = one_error(&eval("segmentation", &run).arg(&empty).output().unwrap());
    assert!(error.contains("VOC tree"), "{error}");
}

#[test]
fn transfer_compares_three_networks_on_the_same_labels() {
    let folder = TempDir::new().unwrap();
    let run = run(&folder);
    let command = || {
        let mut command = eval("transfer", &run);
        command
            .args(["--shapes-images", "64", "--labels", "2", "--epochs", "3"])
            .args([
                "--seeds",
                "0,1",
                "--lr",
                "0.001,0.0001",
                "--frozen-lr",
                "0.01",
            ]);
        command
    };
    let found = json(&mut command());
    assert_eq!(
        (&found["labelled_images"], &found["steps"]),
        (&32.into(), &3.into())
    );
    let trials = found["trials"].as_array().unwrap();
    let networks: Vec<&str> = trials
        .iter()
        .map(|t| t["network"].as_str().unwrap())
        .collect();
    assert_eq!(
        networks,
        ["frozen", "fine-tuned", "fine-tuned", "scratch", "scratch"]
    );
    let best = |network: &str| {
        let mut of = trials
            .iter()
            .filter(|t| t["network"] == network && t["best"] == true);
        let (one, none) = (of.next().unwrap(), of.next());
        assert!(none.is_none());
        one["mean"].as_f64().unwrap()
    };
    let margin = best("fine-tuned") - best("scratch");
    assert!((found["margin"].as_f64().unwrap() - margin).abs() < 1e-9);
    for trial in trials {
        let scores = trial["scores"].as_array().unwrap();
        let values: Vec<f64> = scores
            .iter()
            .map(|s| s["value"].as_f64().unwrap())
            .collect();
        assert_eq!(
            trial["mean"].as_f64().unwrap(),
            (values[0] + values[1]) / 2.0
        );
    }
    assert_eq!(found, json(command().env("RAYON_NUM_THREADS", "1")));
    let table = succeed(&mut command());
    assert!(
        table.contains("from scratch") && table.contains("points"),
        "{table}"
    );
}

#[test]
fn transfer_to_segmentation_of_a_tree() {
    let folder = TempDir::new().unwrap();
    let (run, root) = (run(&folder), folder.path().join("voc"));
    tree(&root, &[("train", 0..8), ("val", 8..12)]);
    let command = |flags: &[&str]| {
        let mut command = eval("transfer", &run);
        command
            .arg(&root)
            .args(["--epochs", "2", "--seeds", "0", "--lr", "0.001"])
            .args(["--frozen-lr", "0.01"])
            .args(flags);
        if !flags.contains(&"--crop") {
            command.args(["--crop", "32"]);
        }
        command
    };
    let found = json(&mut command(&[]));
    assert_eq!(found["measure"][0], "mean IoU %");
    assert_eq!(
        (&found["labelled_images"], &found["size"]),
        (&8.into(), &32.into())
    );
    assert_eq!(
        json(&mut command(&["--labels", "50%"]))["labelled_images"],
        4
    );
    let guessing = command(&["--task", "guessing"]).output().unwrap();
    assert!(common::usage_error(&guessing).contains("--task"));
    for (flags, told) in [
        (["--crop", "30"], "patch size"),
        (["--crops-scale", "1,0.5"], "crops-scale"),
        (["--layer-decay", "2"], "layer-decay"),
        (["--task", "classification"], "no labels"),
    ] {
        let error = one_error(&command(&flags).output().unwrap());
        assert!(error.contains(told), "{error}");
    }
}
