//! Whitened features: fitted to a set, kept with it, applied to others, and judged while training.

use crate::common;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::{Train, of_kind, one_error, picture, program, text, usage_error};
use dinolab_eval::whitening::Whitening;
use dinolab_run::feature_set::FeatureSet;
use serde_json::Value;
use tempfile::TempDir;

/// A tiny run and two labelled sets of pictures.
struct Place {
    folder: TempDir,
    run: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let run = folder.path().join("run");
        Train::tiny(&run).with("epochs", 1).succeed();
        for (set, count) in [("train", 30), ("val", 6)] {
            for class in 0..2 {
                for i in 0..count {
                    let name = format!("{set}/class-{class}/{i}.png");
                    picture(&folder.path().join(name), 40, 131 * class + 7 * i + 1);
                }
            }
        }
        Self { folder, run }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn embed(&self, set: &str, out: &str, flags: &[&str], threads: usize) -> Output {
        program()
            .env("RAYON_NUM_THREADS", threads.to_string())
            .args(["embed", "--weights"])
            .arg(&self.run)
            .arg(self.path(set))
            .arg("--out")
            .arg(self.path(out))
            .args(flags)
            .output()
            .unwrap()
    }

    /// The features that were written, and what was said.
    fn embedded(&self, set: &str, out: &str, flags: &[&str]) -> (FeatureSet, String) {
        let output = self.embed(set, out, flags, 2);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let features = FeatureSet::read(&self.path(out)).unwrap();
        (features, text(&output.stdout))
    }

    fn knn(&self, train: &Path, val: &Path, flags: &[&str]) -> Value {
        let output = program()
            .args(["eval", "knn", "--json", "--k", "1,5", "--train"])
            .arg(train)
            .arg("--val")
            .arg(val)
            .args(flags)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn the_transform_is_kept_with_the_set() {
    let place = Place::new();
    let (white, told) = place.embedded("train", "train.npy", &["--whiten"]);
    assert!(told.contains("train.whitening.safetensors"), "{told}");
    // Of mean 0 and without correlation; variances are 1, or below where they are raised.
    let (n, dim) = (white.len() as f64, white.dim);
    let column = |d: usize| {
        white
            .data
            .iter()
            .skip(d)
            .step_by(dim)
            .map(|&v| f64::from(v))
    };
    for i in 0..dim {
        assert!((column(i).sum::<f64>() / n).abs() < 1e-3);
        for j in 0..=i {
            let product = column(i).zip(column(j)).map(|(a, b)| a * b).sum::<f64>() / n;
            match i == j {
                true => assert!(product < 1.001, "{product}"),
                false => assert!(product.abs() < 1e-3, "{product}"),
            }
        }
        if i < 5 {
            let variance = column(i).map(|v| v * v).sum::<f64>() / n;
            assert!((variance - 1.0).abs() < 1e-3, "{i}: {variance}");
        }
    }
    // The file does the same again, and so does any number of threads.
    let file = place.path("train.whitening.safetensors");
    let file = file.to_str().unwrap();
    let bytes = |name: &str| fs::read(place.path(name)).unwrap();
    place.embedded("train", "again.npy", &["--whitening", file]);
    assert!(bytes("again.npy") == bytes("train.npy"));
    let transform = |name: &str| Whitening::read(&place.path(name)).unwrap();
    let fitted = transform("train.whitening.safetensors");
    assert_eq!(transform("again.whitening.safetensors"), fitted);
    let alone = place.embed("train", "alone.npy", &["--whiten"], 1);
    assert!(alone.status.success());
    assert!(bytes("alone.npy") == bytes("train.npy"));
    assert_eq!(transform("alone.whitening.safetensors"), fitted);

    // `eval knn` fits to the set that votes.
    let (train, val) = (place.path("train"), place.path("val"));
    place.embedded("val", "val.npy", &["--whitening", file]);
    let weights = ["--weights", place.run.to_str().unwrap()];
    let fitted = place.knn(&train, &val, &[&weights[..], &["--whiten"]].concat());
    assert_eq!(fitted["whitened"], true);
    let read = place.knn(
        &train,
        &val,
        &[&weights[..], &["--whitening", file]].concat(),
    );
    assert_eq!(read, fitted);
    let saved = place.knn(&place.path("train.npy"), &place.path("val.npy"), &[]);
    assert_eq!(
        (&saved["knn"], &saved["whitened"]),
        (&fitted["knn"], &false.into())
    );

    // Features that are not whitened have none.
    place.embedded("train", "train.npy", &[]);
    assert!(!place.path("train.whitening.safetensors").exists());
}

#[test]
fn neighbours_are_whitened_by_the_images_searched() {
    let place = Place::new();
    let search = |flags: &[&str]| -> Value {
        let output = program()
            .args(["neighbours", "--json", "--k", "3", "--weights"])
            .arg(&place.run)
            .arg(place.path("train"))
            .args([
                "class-0/3.png",
                place.path("val/class-1/2.png").to_str().unwrap(),
            ])
            .args(flags)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let raw = search(&[]);
    let white = search(&["--whiten"]);
    // The index is the same: it holds what the network made.
    assert_eq!(
        (&raw["embedded"], &white["embedded"]),
        (&60.into(), &0.into())
    );
    assert_ne!(raw["queries"], white["queries"]);
    let (train, _) = place.embedded("train", "train.npy", &["--whiten"]);
    let file = place.path("train.whitening.safetensors");
    let file = file.to_str().unwrap();
    assert_eq!(search(&["--whitening", file])["queries"], white["queries"]);
    let (val, _) = place.embedded("val", "val.npy", &["--whitening", file]);
    let (train_names, val_names) = (train.names.clone().unwrap(), val.names.clone().unwrap());
    let row = |set: &FeatureSet, names: &[String], name: &str| -> Vec<f64> {
        let row = names.iter().position(|other| other == name).unwrap();
        let row = &set.data[row * set.dim..][..set.dim];
        row.iter().map(|&v| f64::from(v)).collect()
    };
    let cosine = |a: &[f64], b: &[f64]| {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let queries = [
        row(&train, &train_names, "class-0/3.png"),
        row(&val, &val_names, "class-1/2.png"),
    ];
    for (query, found) in queries.iter().zip(white["queries"].as_array().unwrap()) {
        for near in found["neighbours"].as_array().unwrap() {
            let name = near["image"].as_str().unwrap();
            let expected = cosine(query, &row(&train, &train_names, name));
            let similarity = near["similarity"].as_f64().unwrap();
            assert!(
                (similarity - expected).abs() < 1e-4,
                "{similarity} {expected}"
            );
        }
    }
}

#[test]
fn what_cannot_be_whitened_is_refused() {
    let place = Place::new();
    let refused = |flags: &[&str]| one_error(&place.embed("train", "no.npy", flags, 2));
    place.embedded("train", "both.npy", &["--whiten", "--feature", "both"]);
    let file = place.path("both.whitening.safetensors");
    let width = refused(&["--whitening", file.to_str().unwrap()]);
    assert!(
        width.contains("--whitening") && width.contains("width 64, and these have 32"),
        "{width}"
    );
    let other = common::newest(&place.run);
    let other = refused(&["--whitening", other.to_str().unwrap()]);
    assert!(other.contains("not a whitening"), "{other}");
    let absent = refused(&["--whitening", "absent.safetensors"]);
    assert!(absent.contains("absent.safetensors"), "{absent}");
    assert!(!place.path("no.npy").exists());
    let both = ["--whiten", "--whitening", "x"];
    let both = usage_error(&place.embed("train", "no.npy", &both, 2));
    assert!(both.contains("--whiten"), "{both}");
    let tokens = ["--whiten", "--patch-tokens"];
    let tokens = usage_error(&place.embed("train", "no.npy", &tokens, 2));
    assert!(tokens.contains("--whiten"), "{tokens}");
    // One image does not differ from others.
    fs::create_dir(place.path("one")).unwrap();
    fs::copy(place.path("val/class-0/0.png"), place.path("one/0.png")).unwrap();
    let one = one_error(&place.embed("one", "no.npy", &["--whiten"], 2));
    assert!(one.contains("do not differ"), "{one}");
}

#[test]
fn whitened_knn_stands_beside_raw_while_training() {
    let root = TempDir::new().unwrap();
    let run = root.path().join("run");
    let train = Train::tiny(&run).with("eval-every", 1).with("epochs", 2);
    let said = train.succeed();
    assert!(
        said.contains("% whitened)") && said.contains("k-NN, whitened"),
        "{said}"
    );
    let lines = of_kind(&run, "evaluation");
    assert_eq!(lines.len(), 3);
    for line in &lines {
        let figure = |key: &str| line[key].as_f64().unwrap();
        for key in ["knn", "knn_whitened"] {
            assert!((0.0..=100.0).contains(&figure(key)), "{key}");
        }
    }
    let report = || fs::read_to_string(run.join("report.html")).unwrap();
    let shown = report();
    for part in [
        "k-NN, whitened",
        "k-NN of whitened features",
        "Whitened k-NN counts",
    ] {
        assert!(shown.contains(part), "{part}");
    }
    // Metrics from before there was such a figure are read.
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let without = |line: &str| {
        let mut line: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        line.remove("knn_whitened");
        serde_json::to_string(&line).unwrap() + "\n"
    };
    let before: String = metrics.lines().map(without).collect();
    fs::write(run.join("metrics.jsonl"), before).unwrap();
    let said = train.succeed();
    assert!(
        said.contains("k-NN accuracy") && !said.contains("k-NN, whitened"),
        "{said}"
    );
    assert!(!report().contains("Whitened k-NN counts"));
}
