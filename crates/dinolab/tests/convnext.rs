//! ConvNeXts in the program: used, trained, converted, and refused where they lack something.

mod common;

use std::path::{Path, PathBuf};

use common::{Train, one_error, picture, program, same_however_it_is_run, tensors, text};
use dinolab_nn::weights::read;
use dinolab_run::npy::read_npy_f32;

/// A network of timm's, 10 wide.
fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../dinolab-nn/tests/fixtures/convnext/timm.safetensors")
}

fn run(arguments: &[&str]) -> String {
    let output = program().args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn images(root: &Path) -> PathBuf {
    let folder = root.join("images");
    for class in 0..2 {
        for i in 0..4 {
            let path = folder.join(format!("class-{class}/{i}.png"));
            picture(&path, 72, class * 40 + i);
        }
    }
    folder
}

#[test]
fn commands_that_need_features_take_one() {
    let root = tempfile::tempdir().unwrap();
    let images = images(root.path());
    let (weights, at) = (weights(), |name: &str| root.path().join(name));
    let w = weights.to_str().unwrap();
    let set = images.to_str().unwrap();
    let place = |name: &str| at(name).display().to_string();
    run(&["embed", "--weights", w, set, "--out", &place("f.npy")]);
    let features = read_npy_f32(at("f.npy")).unwrap();
    assert_eq!(features.shape, [8, 10]);
    let tokens = ["--patch-tokens", "--resize", "80", "--crop", "70"];
    let command = ["embed", "--weights", w, set, "--out", &place("t.npy")];
    run(&[&command[..], &tokens].concat());
    assert_eq!(read_npy_f32(at("t.npy")).unwrap().shape, [8, 2, 2, 10]);
    run(&["eval", "knn", "--weights", w, "--train", set, "--val", set]);
    let linear = [
        "eval",
        "linear",
        "--weights",
        w,
        "--train",
        set,
        "--val",
        set,
    ];
    let classifier = place("c.safetensors");
    run(&[&linear[..], &["--epochs", "2", "--out", &classifier]].concat());
    run(&["classify", "--weights", w, "--classifier", &classifier, set]);
    let query = images.join("class-0/1.png");
    let index = place("index.safetensors");
    let found = run(&[
        "neighbours",
        "--weights",
        w,
        set,
        query.to_str().unwrap(),
        "--index",
        &index,
    ]);
    assert!(found.contains("class-0/1.png"), "{found}");
    run(&["pca", "--weights", w, set, "--out", &place("pca")]);
    run(&["eval", "retrieval", "--weights", w, set]);
}

#[test]
fn what_needs_a_transformer_refuses_it_with_a_sentence() {
    let root = tempfile::tempdir().unwrap();
    let images = images(root.path());
    let (weights, out) = (weights(), root.path().join("out"));
    let (w, set, out) = (
        weights.to_str().unwrap(),
        images.to_str().unwrap(),
        out.to_str().unwrap(),
    );
    let npy = format!("{out}.npy");
    let onnx = format!("{out}.onnx");
    let commands: [(&[&str], &str); 6] = [
        (
            &["attend", "--weights", w, set, "--out", out],
            "has no attention maps",
        ),
        (
            &[
                "embed",
                "--weights",
                w,
                set,
                "--out",
                &npy,
                "--n-last-blocks",
                "2",
            ],
            "has no tokens of several blocks",
        ),
        (
            &[
                "eval",
                "transfer",
                "--weights",
                w,
                "--train",
                set,
                "--val",
                set,
            ],
            "has no transformer blocks",
        ),
        (&["convert", w, &onnx], "is not written as ONNX"),
        (&["convert", w, out, "--to", "run"], "not as training state"),
        (
            &["convert", w, &npy.replace("npy", "pth"), "--full"],
            "not as training state",
        ),
    ];
    for (command, reason) in commands {
        let error = one_error(&program().args(command).output().unwrap());
        assert!(error.contains(reason), "{command:?}: {error}");
    }
}

#[test]
fn a_converted_network_has_the_same_values() {
    let root = tempfile::tempdir().unwrap();
    let original = read(&weights(), None).unwrap();
    let w = weights();
    for (name, to) in [
        ("ours.pth", "reference"),
        ("timm.pth", "timm"),
        ("hf.safetensors", "hf"),
        ("timm", "timm"),
        ("hf", "hf"),
    ] {
        let path = root.path().join(name);
        let out = path.to_str().unwrap();
        run(&["convert", w.to_str().unwrap(), out, "--to", to]);
        assert_eq!(read(&path, None).unwrap().arrays, original.arrays, "{name}");
    }
}

#[test]
fn a_run_is_the_same_on_any_threads_and_however_often_it_is_stopped() {
    let root = tempfile::tempdir().unwrap();
    let images = images(root.path());
    let train = |out: &Path| {
        Train::tiny(out)
            .on(&images)
            .with("arch", "convnext_atto")
            .with("drop-path-rate", "0.2")
            .with("batch-size", 4)
            .without("patch-size")
            .without("width")
            .without("depth")
            .without("heads")
    };
    let run_folder = same_however_it_is_run(root.path(), train);
    let tensors = tensors(&run_folder);
    let stem = &tensors["teacher.backbone.downsample_layers.0.0.weight"];
    assert_eq!(stem.shape, [40, 3, 4, 4]);
    let scale = &tensors["student.backbone.stages.3.1.gamma"].data;
    assert!(scale.iter().any(|&value| value != 1e-6));
    let features = root.path().join("f.npy");
    let of_run = run_folder.to_str().unwrap();
    run(&[
        "embed",
        "--weights",
        of_run,
        images.to_str().unwrap(),
        "--out",
        features.to_str().unwrap(),
    ]);
    assert_eq!(read_npy_f32(&features).unwrap().shape, [8, 320]);
    let error = Train::tiny_dinov2(&root.path().join("other"))
        .without("patch-size")
        .without("width")
        .without("depth")
        .without("heads")
        .with("arch", "convnext_atto")
        .fail();
    assert!(
        error.contains("a ConvNeXt has no patches to mask"),
        "{error}"
    );
}
