//! `eval linear` and `classify` as a user calls them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Train, one_error, program, text};
use dinolab_data::Source;
use dinolab_data::shapes::Shapes;
use serde_json::Value;
use tempfile::TempDir;

/// A tiny run, and shapes of four classes in folders.
struct Set(TempDir);

impl Set {
    fn new() -> Self {
        let set = Self(TempDir::new().unwrap());
        Train::tiny(&set.path("run")).with("epochs", 1).succeed();
        for (name, seed, count) in [("train", 1, 96), ("val", 2, 64)] {
            let shapes = Shapes::new(seed, count);
            for index in 0..count {
                if shapes.label(index).unwrap() >= 4 {
                    continue;
                }
                let image = shapes.image(index).unwrap();
                let place = set.path(&format!("{name}/{}.png", shapes.name(index)));
                // Without the part that all share: the class is the first folder.
                let place = PathBuf::from(place.to_str().unwrap().replace("/shapes/", "/"));
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                image::RgbImage::from_raw(image.width as u32, image.height as u32, image.data)
                    .unwrap()
                    .save(place)
                    .unwrap();
            }
        }
        set
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `eval linear` with this run's weights and these flags.
    fn linear(&self, flags: &[&str]) -> Command {
        let mut command = program();
        command.args(["eval", "linear", "--batch-size-per-gpu", "16"]);
        for [flag, value] in [["--n-last-blocks", "2"], ["--epochs", "12"]] {
            if !flags.contains(&flag) {
                command.args([flag, value]);
            }
        }
        command
            .arg("--weights")
            .arg(self.path("run"))
            .arg("--train")
            .arg(self.path("train"))
            .arg("--val")
            .arg(self.path("val"))
            .args(flags);
        command
    }

    fn classify(&self, classifier: &str, images: &[&str]) -> Command {
        let mut command = program();
        command
            .args(["classify", "--classifier"])
            .arg(self.path(classifier))
            .args(images.iter().map(|name| self.path(name)));
        command
    }

    fn embed(&self, images: &str, out: &str) {
        succeed(
            program()
                .args(["embed", "--n-last-blocks", "2", "--weights"])
                .arg(self.path("run"))
                .arg(self.path(images))
                .arg("--out")
                .arg(self.path(out)),
        );
    }
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn json(command: &mut Command) -> Value {
    serde_json::from_str(&succeed(command.arg("--json"))).unwrap()
}

fn weights<'a>(command: &'a mut Command, run: &Path) -> &'a mut Command {
    command.arg("--weights").arg(run)
}

#[test]
fn without_a_rate_the_best_of_the_references_and_larger_ones_counts() {
    let set = Set::new();
    let found = json(&mut set.linear(&[]));
    let of = |run: &Value, key: &str| run[key].as_f64().unwrap();
    let top1 = |run: &Value| run["last"]["top1"].as_f64().unwrap();
    let runs = found["runs"].as_array().unwrap();
    let rates: Vec<_> = runs.iter().map(|run| of(run, "lr")).collect();
    assert_eq!(rates, [0.001, 0.01, 0.1]);
    let chosen = runs.iter().find(|run| run["lr"] == found["lr"]).unwrap();
    assert!(runs.iter().all(|run| top1(run) <= top1(chosen)), "{found}");
    assert_eq!(found["last"]["top1"], chosen["last"]["top1"]);
}

#[test]
fn a_saved_classifier_says_what_it_said_when_it_was_judged() {
    let set = Set::new();
    let out = set.path("c.classifier");
    let found = json(set.linear(&["--lr", "0.001,0.3"]).arg("--out").arg(&out));
    assert_eq!(found["runs"].as_array().unwrap().len(), 2);
    assert_eq!(found["runs"][0]["history"].as_array().unwrap().len(), 12);
    assert_eq!(found["feature_width"], 64);
    assert_eq!(
        (&found["classes"], &found["train_images"]),
        (&4.into(), &24.into())
    );
    let loss = |epoch: usize| found["runs"][1]["history"][epoch]["loss"].as_f64().unwrap();
    assert!(loss(11) < loss(0));
    let (last, best) = (&found["last"]["top1"], &found["best"]["top1"]);
    assert!(best.as_f64() >= last.as_f64());

    let mut command = set.classify("c.classifier", &["val"]);
    let told = json(weights(&mut command, &set.path("run")).args(["--top", "4"]));
    assert_eq!(&told["top1"], last);
    let images = told["images"].as_array().unwrap();
    assert_eq!(images.len(), 16);
    for image in images {
        let classes = image["classes"].as_array().unwrap();
        let chances: Vec<f64> = classes
            .iter()
            .map(|class| class["probability"].as_f64().unwrap())
            .collect();
        assert_eq!(chances.len(), 4);
        assert!((chances.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        assert!(chances.windows(2).all(|pair| pair[0] >= pair[1]));
        assert!(
            image["image"]
                .as_str()
                .unwrap()
                .starts_with(image["label"].as_str().unwrap())
        );
    }

    // Single images, as table and as lines; the same answers as those of the folder.
    let name = images[0]["image"].as_str().unwrap();
    let class = images[0]["classes"][0]["class"].as_str().unwrap();
    let single = format!("val/{name}");
    let mut command = set.classify("c.classifier", &[&single]);
    let table = succeed(weights(&mut command, &set.path("run")));
    assert!(table.lines().nth(1).unwrap().contains(class), "{table}");
    let mut command = set.classify("c.classifier", &["val", &single]);
    let lines = set.path("answers.tsv");
    let said = succeed(
        weights(&mut command, &set.path("run"))
            .arg("--out")
            .arg(&lines),
    );
    assert_eq!(said, "");
    let lines = fs::read_to_string(lines).unwrap();
    let rows: Vec<Vec<&str>> = lines
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(rows[0], ["image", "rank", "class", "probability"]);
    assert_eq!(rows.len(), 1 + 16 + 1);
    let of = |wanted: &str| rows.iter().find(|row| row[0].ends_with(wanted)).unwrap();
    assert_eq!(rows[1][2..], of(name)[2..]);

    // Saved features need no weights.
    set.embed("val", "val.npy");
    let told = json(&mut set.classify("c.classifier", &["val.npy"]));
    assert_eq!(&told["top1"], last);
}

#[test]
fn saved_features_learn_as_images_do_at_any_number_of_threads() {
    let set = Set::new();
    let from_images = json(set.linear(&["--lr", "0.1"]).env("RAYON_NUM_THREADS", "1"));
    let again = json(set.linear(&["--lr", "0.1"]).env("RAYON_NUM_THREADS", "3"));
    assert_eq!(from_images, again);
    set.embed("train", "train.npy");
    set.embed("val", "val.npy");
    let features = |flags: &[&str]| {
        let mut command = program();
        command
            .args(["eval", "linear", "--lr", "0.1"])
            .args(["--epochs", "12", "--batch-size-per-gpu", "16"])
            .arg("--train")
            .arg(set.path("train.npy"))
            .arg("--val")
            .arg(set.path("val.npy"))
            .args(flags);
        command
    };
    assert_eq!(json(&mut features(&[])), from_images);

    // The standardised layer is saved for plain features.
    let out = set.path("s.classifier");
    let found = json(features(&["--standardise"]).arg("--out").arg(&out));
    assert_ne!(found["last"], from_images["last"]);
    let told = json(&mut set.classify("s.classifier", &["val.npy"]));
    assert_eq!(told["top1"], found["last"]["top1"]);
    // It does not know its network.
    let mut command = set.classify("s.classifier", &["val"]);
    let error = one_error(&weights(&mut command, &set.path("run")).output().unwrap());
    assert!(error.contains("saved features"), "{error}");
    let error = one_error(&features(&["--augment"]).output().unwrap());
    assert!(error.contains("--augment"), "{error}");
}

#[test]
fn random_views_change_with_the_epoch_and_repeat_with_the_seed() {
    let set = Set::new();
    let run = |flags: &[&str]| {
        let flags = [&["--epochs", "3", "--augment"], flags].concat();
        json(&mut set.linear(&flags))
    };
    let first = run(&[]);
    assert_eq!(first, run(&[]));
    assert_eq!(first["augment"], true);
    assert_ne!(first["last"], run(&["--seed", "1"])["last"]);
    assert_ne!(first["last"], run(&["--crops-scale", "0.9,1"])["last"]);
    let error = one_error(
        &set.linear(&["--augment", "--crops-scale", "0,1"])
            .output()
            .unwrap(),
    );
    assert!(error.contains("crops-scale"), "{error}");
}

#[test]
fn what_does_not_fit_is_refused_in_one_line() {
    let set = Set::new();
    succeed(set.linear(&[]).arg("--out").arg(set.path("c.classifier")));
    Train::tiny(&set.path("other"))
        .with("epochs", 1)
        .with("seed", 7)
        .succeed();
    Train::tiny(&set.path("wide"))
        .with("epochs", 1)
        .with("width", 64)
        .succeed();
    let classify = |run: &str| {
        let mut command = set.classify("c.classifier", &["val"]);
        weights(&mut command, &set.path(run));
        command
    };
    let error = one_error(&classify("other").output().unwrap());
    assert!(error.contains("--allow-other-weights"), "{error}");
    succeed(classify("other").arg("--allow-other-weights"));
    let error = one_error(&classify("wide").output().unwrap());
    assert!(error.contains("another network"), "{error}");
    let error = one_error(&set.classify("c.classifier", &["val"]).output().unwrap());
    assert!(error.contains("--weights"), "{error}");
    let error = one_error(&classify("run").args(["--out", "a.csv"]).output().unwrap());
    assert!(error.contains(".tsv"), "{error}");
    fs::write(set.path("c.classifier"), "no classifier").unwrap();
    let error = one_error(&classify("run").output().unwrap());
    assert!(error.contains("c.classifier"), "{error}");

    let refused = |flags: &[&str]| one_error(&set.linear(flags).output().unwrap());
    assert!(refused(&["--lr", "0"]).contains("lr"));
    assert!(refused(&["--lr", "1e38"]).contains("too high"));
    assert!(refused(&["--epochs", "0"]).contains("epochs"));
    assert!(refused(&["--n-last-blocks", "3"]).contains("n-last-blocks"));
    let unlabelled = set.path("val");
    fs::copy(
        fs::read_dir(unlabelled.join("arrow"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path(),
        unlabelled.join("loose.png"),
    )
    .unwrap();
    // One image beside the class folders has no label, and the others keep theirs.
    let output = set.linear(&[]).output().unwrap();
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("1 of 17 images have no label"), "{told}");
    for class in fs::read_dir(&unlabelled).unwrap().flatten() {
        if class.path().is_dir() {
            fs::remove_dir_all(class.path()).unwrap();
        }
    }
    assert!(refused(&[]).contains("no labels"));
}
