//! `dinolab convert`, and what other verbs do with weights from elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{
    Arrays, Train, figures, newest, one_error, picture, program, relative, tensors, text,
};
use dinolab_nn::weights::{NetworkRole, file_arrays, read};
use dinolab_run::npy::read_npy_f32;
use serde_json::Value;

/// A training checkpoint of the reference: patch 16, 224 px, width 128, 2 heads, with head.
fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vit_custom/checkpoint.pth")
}

/// A folder that Hugging Face's library wrote.
fn dinov2() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../dinolab-nn/tests/fixtures/weights/hf_dinov2_with_registers")
}

fn convert(input: &Path, output: &Path, flags: &[&str]) -> Value {
    let mut command = program();
    command.arg("convert").arg(input).arg(output).args(flags);
    let output = command.arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    assert!(!checks.is_empty());
    for check in checks {
        assert!(check["relative_error"].as_f64().unwrap() <= 1e-4, "{check}");
    }
    report
}

fn refuse(input: &Path, output: &Path, flags: &[&str]) -> String {
    let mut command = program();
    command.arg("convert").arg(input).arg(output).args(flags);
    one_error(&command.output().unwrap())
}

fn embed(weights: &Path, images: &Path, flags: &[&str]) -> Vec<f32> {
    let out = images.with_extension("npy");
    let mut command = program();
    command
        .arg("embed")
        .arg("--weights")
        .arg(weights)
        .arg(images);
    let output = command.arg("--out").arg(&out).args(flags).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    read_npy_f32(&out).unwrap().data
}

/// A folder of three classes of pictures, which do not look like classes.
fn classes(folder: &Path, each: u32) -> PathBuf {
    for class in 0..3 {
        for i in 0..each {
            let path = folder.join(format!("class-{class}/{i}.png"));
            picture(&path, 48, (class * 31 + (i + each) * 17) % 23);
        }
    }
    folder.into()
}

#[test]
fn a_network_goes_round_and_stays_the_same() {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("images");
    picture(&images.join("a.png"), 300, 1);
    let at = |name: &str| root.path().join(name);
    let stages: [(&str, &str, &[&str]); 7] = [
        ("", "run", &["--to", "run"]),
        ("run", "timm", &["--to", "timm"]),
        ("timm", "vit", &[]),
        ("vit", "timm.safetensors", &["--to", "timm"]),
        ("timm.safetensors", "reference.safetensors", &[]),
        ("reference.safetensors", "again.pth", &[]),
        ("again.pth", "run-again", &["--to", "run"]),
    ];
    let sizes: [&[&str]; 3] = [&[], &["--size", "480"], &["--size", "320x448"]];
    let original = sizes.map(|flags| embed(&reference(), &images, flags));
    assert!(relative(&original[1], &original[2]) > 1e-2);
    for (from, to, flags) in stages {
        let from = if from.is_empty() {
            reference()
        } else {
            at(from)
        };
        convert(&from, &at(to), flags);
        for (flags, original) in sizes.into_iter().zip(&original) {
            let found = embed(&at(to), &images, flags);
            assert!(relative(&found, original) < 1e-6, "{to} {flags:?}");
        }
    }
    // The head came along to the first run folder, and no further.
    let head = |run: &str| {
        let weights = read(&newest(&at(run)), NetworkRole::Teacher).unwrap();
        weights.head_config().map(|head| head.out_dim)
    };
    assert_eq!((head("run"), head("run-again")), (Some(256), None));
}

#[test]
fn what_a_format_cannot_say_is_said() {
    let root = tempfile::tempdir().unwrap();
    let notes = |report: &Value| -> String { report["notes"].to_string() };
    let report = convert(&reference(), &root.path().join("timm"), &["--to", "timm"]);
    assert_eq!(report["to"], "timm");
    let said = notes(&report);
    assert!(
        said.contains("ratio-antialias") && said.contains("--image-size"),
        "{said}"
    );
    assert!(said.contains("head."), "the head is left out: {said}");
    let said = notes(&convert(&dinov2(), &root.path().join("b.pth"), &[]));
    assert!(said.contains("heads: pass 2"), "{said}");

    // Position embeddings for another size, by the network's own rule.
    let larger = root.path().join("larger");
    let report = convert(&reference(), &larger, &["--image-size", "480"]);
    assert_eq!(report["checks"].as_array().unwrap().len(), 1);
    let config = fs::read(larger.join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["image_size"], 480);
    assert_eq!(config["model_type"], "vit");

    // A table without --json.
    let mut command = program();
    command
        .arg("convert")
        .arg(reference())
        .arg(root.path().join("c.pth"));
    let output = command.output().unwrap();
    let said = text(&output.stdout);
    assert!(
        said.contains("relative error") && said.contains("224 × 224"),
        "{said}"
    );
}

#[test]
fn a_run_becomes_a_checkpoint_of_the_reference_and_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let (run, file, back) = (
        root.path().join("run"),
        root.path().join("full.pth"),
        root.path().join("back"),
    );
    Train::tiny(&run).succeed();
    convert(&run, &file, &["--full"]);
    let written = read(&file, NetworkRole::Student).unwrap();
    assert_eq!(written.metadata["out_dim"], "32");
    assert_eq!(written.metadata["num_heads"], "2");
    convert(&file, &back, &["--to", "run"]);
    let (before, after) = (tensors(&run), tensors(&back));
    let mut compared = 0;
    for (name, array) in before
        .iter()
        .filter(|(name, _)| !name.starts_with("optimiser"))
    {
        assert_eq!(after[name].data, array.data, "{name}");
        compared += 1;
    }
    assert_eq!(compared, after.len());
    assert!(after.contains_key("centre") && after.contains_key("student.head.mlp.0.weight"));

    // It serves as weights, but there is no run in it to go on with.
    let told = Train::tiny(&back).fail();
    assert!(
        told.contains("weights from elsewhere") && told.contains("--weights"),
        "{told}"
    );
    let next = root.path().join("next");
    let said = Train::tiny(&next)
        .with("weights", back.display())
        .with("epochs", 0.25)
        .succeed();
    assert!(said.contains("missing          0"), "{said}");
    // The reference could not go on with what it does not have.
    let (muon, weights) = (root.path().join("muon"), root.path().join("weights.pth"));
    Train::tiny(&muon).with("optimizer", "muon").succeed();
    let refused = refuse(&muon, &weights, &["--full"]);
    assert!(refused.contains("without --full, its weights"), "{refused}");
    convert(&muon, &weights, &[]);
    // Nor can weights become what they are not.
    assert!(refuse(&back, &file, &["--full"]).contains("from elsewhere"));
    assert!(refuse(&file, &back, &["--to", "run"]).contains("already holds a run"));
    assert!(refuse(&file, &back, &[]).contains("is a run folder"));
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let checkpoint = reference();
    assert!(refuse(&checkpoint, &at("x.gif"), &[]).contains(".gif"));
    assert!(refuse(&checkpoint, &at("x.pth"), &["--to", "run"]).contains("folder"));
    assert!(refuse(&checkpoint, &at("x"), &["--to", "reference"]).contains("--to reference"));
    assert!(refuse(&checkpoint, &at("x"), &["--full"]).contains("--full"));
    assert!(refuse(&checkpoint, &at("x.pth"), &["--full"]).contains("not a checkpoint of a run"));
    assert!(refuse(&checkpoint, &at("x.pth"), &["--heads", "5"]).contains("heads"));
    assert!(refuse(&at("absent"), &at("x.pth"), &[]).contains("absent"));
    let key = ["--checkpoint-key", "student"];
    assert!(refuse(&checkpoint, &at("x.pth"), &key).contains("has no student"));
    let copy = at("copy.pth");
    fs::copy(&checkpoint, &copy).unwrap();
    assert!(refuse(&copy, &copy, &[]).contains("same file"));
    assert_eq!(fs::read(&copy).unwrap(), fs::read(&checkpoint).unwrap());
    let left: Vec<_> = fs::read_dir(root.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing else is written: {left:?}");
}

#[test]
fn training_goes_on_from_the_references_checkpoint_without_a_jump() {
    let root = tempfile::tempdir().unwrap();
    let (train, val) = (
        classes(&root.path().join("train"), 8),
        classes(&root.path().join("val"), 5),
    );
    let run = root.path().join("run");
    let sizes = [("eval-resize", "72"), ("eval-crop", "64"), ("knn-k", "3")];
    let start = |run: &Path, weights: &Path| {
        let mut start = Train::tiny(run).on(&train).with("val", val.display());
        for (flag, value) in [
            ("patch-size", "16"),
            ("image-size", "224"),
            ("width", "128"),
            ("depth", "6"),
            ("heads", "2"),
            ("head-hidden-dim", "192"),
            ("head-bottleneck-dim", "64"),
            ("out-dim", "256"),
            ("eval-every", "1"),
            ("epochs", "1"),
            // Nothing moves, so that what it started from can be looked at.
            ("lr", "0"),
            ("min-lr", "0"),
            ("center-momentum", "1"),
        ]
        .into_iter()
        .chain(sizes)
        {
            start = start.with(flag, value);
        }
        start.with("weights", weights.display())
    };
    let said = start(&run, &reference()).succeed();
    assert!(said.contains("missing          0"), "{said}");

    let judge = |weights: &Path| -> f64 {
        let mut command = program();
        command.args([
            "eval", "knn", "--json", "--k", "3", "--resize", "72", "--crop", "64",
        ]);
        command
            .arg("--weights")
            .arg(weights)
            .arg("--train")
            .arg(&train);
        let output = command.arg("--val").arg(&val).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["knn"][0]["top1"].as_f64().unwrap()
    };
    let expected = judge(&reference());
    // Neither all nor none: a figure that another network would not have by chance alone.
    assert!(expected > 0.0 && expected < 100.0, "{expected}");
    assert_eq!(figures(&run, "evaluation", "knn")[0], expected);
    assert_eq!(judge(&run), expected);

    // Head and centre came along.
    let given = read(&reference(), NetworkRole::Teacher).unwrap();
    let kept = tensors(&run);
    for (name, array) in &given.arrays {
        let found = kept[&format!("teacher.{name}")].data.iter();
        // The teacher is an average of equal values, which rounding alone moves.
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs();
        assert!(found.zip(&array.data).all(near), "{name}");
    }
    assert_eq!(kept["centre"].data, given.centre.unwrap());

    // The same through a run folder.
    let (folder, second) = (root.path().join("folder"), root.path().join("second"));
    convert(&reference(), &folder, &["--to", "run"]);
    start(&second, &folder).succeed();
    assert_eq!(figures(&second, "evaluation", "knn")[0], expected);
    assert_eq!(tensors(&second)["centre"].data, kept["centre"].data);
}

#[test]
fn later_networks_serve_every_verb() {
    let root = tempfile::tempdir().unwrap();
    let images = classes(&root.path().join("images"), 2);
    let expected = embed(&dinov2(), &images, &[]);
    assert_eq!(expected.len(), 6 * 16);
    let run = root.path().join("run");
    convert(&dinov2(), &run, &["--to", "run"]);
    for weights in [dinov2(), run.clone()] {
        assert_eq!(embed(&weights, &images, &[]), expected);
        let maps = root.path().join("maps");
        let mut command = program();
        command
            .args(["attend", "--size", "35x49", "--weights"])
            .arg(&weights);
        let output = command
            .arg(&images)
            .arg("--out")
            .arg(&maps)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let found = read_npy_f32(maps.join("class-0-0-attention.npy")).unwrap();
        assert_eq!(found.shape, [2, 5, 7]);
    }
    // The rule for position embeddings can be chosen where a file does not say it rightly.
    let [own, other] = [&[][..], &["--position-rule", "dino"]].map(|flags| {
        let flags = [&["--size", "35"], flags].concat();
        embed(&dinov2(), &images, &flags)
    });
    assert!(relative(&other, &own) > 1e-3);
}

#[test]
fn whole_images_are_embedded_at_any_size() {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("images");
    picture(&images.join("a.png"), 100, 4);
    let square = embed(&reference(), &images, &["--size", "64"]);
    assert_eq!(square, embed(&reference(), &images, &["--size", "64x64"]));
    assert_ne!(square, embed(&reference(), &images, &["--size", "64x80"]));
    // Of a square image the whole is what a crop of its own size leaves.
    let cut = embed(&reference(), &images, &["--resize", "64", "--crop", "64"]);
    assert_eq!(square, cut);
    for (flags, why) in [
        (&["--size", "0"][..], "SIDE"),
        (&["--size", "axb"], "SIDE"),
        (&["--size", "64", "--crop", "64"], "cannot be used with"),
    ] {
        let mut command = program();
        command
            .arg("embed")
            .arg("--weights")
            .arg(reference())
            .arg(&images);
        command
            .arg("--out")
            .arg(root.path().join("x.npy"))
            .args(flags);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        assert!(
            text(&output.stderr).contains(why),
            "{}",
            text(&output.stderr)
        );
    }
}

/// What is in the file is what the format says, to the last bit.
#[test]
fn values_are_not_touched() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("x.safetensors");
    convert(&reference(), &out, &[]);
    let (found, facts): (Arrays, _) = file_arrays(&out, &fs::read(&out).unwrap()).unwrap();
    let given = read(&reference(), NetworkRole::Teacher).unwrap();
    for (name, array) in &found {
        assert_eq!(
            given.arrays[&format!("backbone.{name}")].data,
            array.data,
            "{name}"
        );
    }
    assert_eq!(found.len(), 4 + 6 * 12 + 2);
    assert_eq!(facts["format"], "pt");
}
