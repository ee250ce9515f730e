//! `--feature`: what is trained is what is used, from the run to exported weights.

use crate::common;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Train, assert_same, of_kind, one_error, picture, program, text, usage_error};
use dinolab_nn::weights::read;
use dinolab_nn::{Feature, Head, ProjectionHead, init::Init};
use dinolab_run::feature_set::FeatureSet;
use serde_json::Value;
use tempfile::TempDir;

/// Width of a token in the tiny runs.
const WIDTH: usize = 32;

/// A place for runs and two labelled sets of pictures.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        for (set, count) in [("train", 6), ("val", 3)] {
            for class in 0..2 {
                for i in 0..count {
                    let name = format!("{set}/class-{class}/{i}.png");
                    picture(&place.path(&name), 48, 31 * class + 3 * i + 1);
                }
            }
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, feature: &str) -> PathBuf {
        let run = self.path(feature);
        Train::tiny(&run)
            .with("feature", feature)
            .with("epochs", 1)
            .succeed();
        run
    }

    /// The features that `embed` makes of the training set.
    fn embed(&self, weights: &Path, flags: &[&str]) -> FeatureSet {
        let out = self.path("features.npy");
        let output = program()
            .args(["embed", "--weights"])
            .arg(weights)
            .arg(self.path("train"))
            .arg("--out")
            .arg(&out)
            .args(flags)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        FeatureSet::read(&out).unwrap()
    }

    fn knn(&self, train: &Path, val: &Path, flags: &[&str]) -> Value {
        let output = program()
            .args(["eval", "knn", "--json", "--k", "1,3", "--train"])
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

/// Columns `from..to` of all rows.
fn columns(set: &FeatureSet, from: usize, to: usize) -> Vec<f32> {
    let rows = set.data.chunks_exact(set.dim);
    rows.flat_map(|row| row[from..to].to_vec()).collect()
}

#[track_caller]
fn near(a: &[f32], b: &[f32]) {
    let error = common::relative(a, b);
    assert!(error < 1e-5, "{error}");
}

#[test]
fn threads_and_interruptions_do_not_show() {
    let root = TempDir::new().unwrap();
    let path = |name: &str| root.path().join(name);
    type Tiny = fn(&Path) -> Train;
    for (feature, tiny) in [
        ("both", Train::tiny as Tiny),
        ("patches", Train::tiny_lejepa as Tiny),
    ] {
        let run = |name: &str| {
            let run = tiny(&path(&format!("{feature}-{name}")));
            run.with("feature", feature).with("eval-every", 1)
        };
        run("whole").threads(2).succeed();
        run("alone").threads(1).with("num-workers", 1).succeed();
        for epochs in ["0.5", "2", "0"] {
            run("parts").with("stop-after-epochs", epochs).succeed();
        }
        let whole = path(&format!("{feature}-whole"));
        assert_same(&whole, &path(&format!("{feature}-alone")));
        assert_same(&whole, &path(&format!("{feature}-parts")));
        let health = of_kind(&whole, "epoch").remove(0);
        assert!(health["feature_rank"].as_f64().unwrap() >= 1.0);
        // The head would be trained on something else.
        let error = tiny(&whole).with("feature", "class").fail();
        assert!(error.contains("feature"), "{error}");
    }
}

#[test]
fn what_is_trained_is_what_is_used() {
    let place = Place::new();
    let run = place.run("both");
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("feature = \"both\""), "{config}");
    let both = place.embed(&run, &[]);
    assert_eq!(both.dim, 2 * WIDTH);
    let class = place.embed(&run, &["--feature", "class"]);
    let patches = place.embed(&run, &["--feature", "patches"]);
    assert_eq!((class.dim, patches.dim), (WIDTH, WIDTH));
    near(&columns(&both, 0, WIDTH), &class.data);
    near(&columns(&both, WIDTH, 2 * WIDTH), &patches.data);

    // Of several blocks: the whole feature of each; by the reference's flag, averaged patches of the
    // last one only.
    let blocks = place.embed(&run, &["--n-last-blocks", "2"]);
    assert_eq!(blocks.dim, 4 * WIDTH);
    near(&columns(&blocks, 2 * WIDTH, 4 * WIDTH), &both.data);
    let reference = ["--n-last-blocks", "2", "--avgpool-patchtokens", "true"];
    let reference = place.embed(&run, &reference);
    assert_eq!(reference.dim, 3 * WIDTH);
    near(&columns(&reference, 0, WIDTH), &columns(&blocks, 0, WIDTH));
    near(&columns(&reference, WIDTH, 3 * WIDTH), &both.data);

    // Likewise where features are made to be evaluated.
    let weights = ["--weights", run.to_str().unwrap()];
    let (train, val) = (place.path("train"), place.path("val"));
    for flags in [
        &[][..],
        &["--feature", "patches"],
        &["--n-last-blocks", "2"],
    ] {
        let saved = ["train", "val"].map(|set| {
            let out = place.path(&format!("{set}.npy"));
            let output = program()
                .arg("embed")
                .args(weights)
                .arg(place.path(set))
                .arg("--out")
                .arg(&out)
                .args(flags)
                .output();
            assert!(output.unwrap().status.success());
            out
        });
        let made = place.knn(&train, &val, &[&weights[..], flags].concat());
        assert_eq!(made, place.knn(&saved[0], &saved[1], &[]), "{flags:?}");
    }
    for verb in [
        &["eval", "linear", "--epochs", "2"][..],
        &["eval", "retrieval"],
    ] {
        let output = program()
            .args(verb)
            .args(weights)
            .arg("--json")
            .arg("--train")
            .arg(&train)
            .arg("--val")
            .arg(&val)
            .args(["--n-last-blocks", "2"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        if verb[1] == "linear" {
            assert_eq!(report["feature_width"], 4 * WIDTH);
        }
    }
}

#[test]
fn neighbours_are_those_of_the_feature() {
    let place = Place::new();
    let run = place.run("patches");
    let search = |flags: &[&str]| -> (Value, String) {
        let output = program()
            .args(["neighbours", "--json", "--k", "3", "--weights"])
            .arg(&run)
            .arg(place.path("train"))
            .arg(place.path("train/class-0/1.png"))
            .arg(place.path("val/class-1/2.png"))
            .args(flags)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        (found["queries"].clone(), found["embedded"].to_string())
    };
    let (found, embedded) = search(&[]);
    assert_eq!(embedded, "12");
    assert_eq!(
        search(&["--feature", "patches"]),
        (found.clone(), "0".into())
    );
    // By hand, of the member of the set.
    let set = place.embed(&run, &[]);
    let names = set.names.unwrap();
    let unit: Vec<Vec<f64>> = set
        .data
        .chunks(WIDTH)
        .map(|row| {
            let length = row
                .iter()
                .map(|&v| f64::from(v).powi(2))
                .sum::<f64>()
                .sqrt();
            row.iter().map(|&v| f64::from(v) / length).collect()
        })
        .collect();
    let query = names
        .iter()
        .position(|name| name == "class-0/1.png")
        .unwrap();
    let cosine =
        |row: usize| -> f64 { unit[row].iter().zip(&unit[query]).map(|(a, b)| a * b).sum() };
    let nearest = (0..names.len()).filter(|&row| row != query);
    let nearest = nearest
        .max_by(|&a, &b| cosine(a).total_cmp(&cosine(b)))
        .unwrap();
    assert_eq!(found[0]["neighbours"][0]["image"], names[nearest].as_str());
    let similarity = found[0]["neighbours"][0]["similarity"].as_f64().unwrap();
    assert!((similarity - cosine(nearest)).abs() < 1e-5);
    // Another feature is another index, and so are more blocks.
    let (class, embedded) = search(&["--feature", "class"]);
    assert!(class != found && embedded == "12");
    let (blocks, embedded) = search(&["--n-last-blocks", "2"]);
    assert!(blocks != found && embedded == "12");
}

#[test]
fn exported_weights_know_their_feature() {
    let place = Place::new();
    let run = place.run("both");
    let expected = place.embed(&run, &[]).data;
    let convert = |out: &str, flags: &[&str]| {
        let path = place.path(out);
        let output = program()
            .arg("convert")
            .arg(&run)
            .arg(&path)
            .args(flags)
            .output()
            .unwrap();
        let told = text(&output.stderr);
        assert!(output.status.success(), "{told}");
        (path, told)
    };
    for (out, flags) in [
        ("w.safetensors", &[][..]),
        ("full.pth", &["--full"]),
        ("timm", &["--to", "timm"]),
        ("run", &["--to", "run"]),
    ] {
        let (path, told) = convert(out, flags);
        let set = place.embed(&path, &["--heads", "2", "--resize", "56", "--crop", "32"]);
        near(&set.data, &expected);
        let noted = told.contains("class token and the mean of the patch tokens");
        assert_eq!(noted, out != "run", "{out}: {told}");
    }
    // A plain state dictionary does not say it, which a note says.
    let (pth, told) = convert("w.pth", &[]);
    assert!(told.contains("--feature both"), "{told}");
    let flags = ["--heads", "2", "--resize", "56", "--crop", "32"];
    assert_eq!(place.embed(&pth, &flags).dim, WIDTH);
    let both = [&flags[..], &["--feature", "both"]].concat();
    near(&place.embed(&pth, &both).data, &expected);

    // Networks as graphs, and the head that is on the feature.
    let (onnx, _) = convert("w.onnx", &["--head"]);
    let bytes = fs::read(onnx).unwrap();
    let entry = b"\x0a\x07feature\x12\x04both";
    assert!(bytes.windows(entry.len()).any(|part| part == entry));
    let weights = read(&common::newest(&run), None).unwrap();
    assert_eq!(weights.feature().unwrap(), Feature::Both);
    let head = weights.head_config().unwrap();
    let head = Head::new(&head, 2 * WIDTH, &mut Init::new(0), &common::device()).unwrap();
    assert_eq!(head.width(), 2 * WIDTH);
    // The embedder of other programs.
    let weights = dinolab_run::weights::read(&run, None).unwrap();
    let embedder = dinolab_features::Embedder::from_weights(&weights).unwrap();
    assert_eq!(embedder.dim(), 2 * WIDTH);
    let bytes = fs::read(place.path("train/class-0/0.png")).unwrap();
    let image = dinolab_data::decode::decode("0.png", &bytes, 1 << 20).unwrap();
    near(&embedder.embed(&image).unwrap(), &expected[..2 * WIDTH]);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let place = Place::new();
    let run = place.run("class");
    let embed = |flags: &[&str]| {
        program()
            .args(["embed", "--weights"])
            .arg(&run)
            .arg(place.path("train"))
            .arg("--out")
            .arg(place.path("f.npy"))
            .args(flags)
            .output()
            .unwrap()
    };
    let unknown = usage_error(&embed(&["--feature", "mean"]));
    assert!(unknown.contains("--feature"), "{unknown}");
    let twice = one_error(&embed(&[
        "--feature",
        "both",
        "--avgpool-patchtokens",
        "true",
    ]));
    assert!(twice.contains("--avgpool-patchtokens"), "{twice}");
    let many = one_error(&embed(&["--n-last-blocks", "3"]));
    assert!(many.contains("--n-last-blocks"), "{many}");
    let tokens = usage_error(&embed(&["--feature", "both", "--patch-tokens"]));
    assert!(tokens.contains("--feature"), "{tokens}");
    assert!(embed(&[]).status.success());
    let saved = place.path("f.npy");
    let saved = program()
        .args(["eval", "knn", "--feature", "both", "--train"])
        .arg(&saved)
        .arg("--val")
        .arg(&saved)
        .output()
        .unwrap();
    assert!(one_error(&saved).contains("--feature both"));
    assert!(!place.path("run").exists());
}
