//! What commands do with networks that are no transformers.

use std::path::{Path, PathBuf};

use dinolab_run::npy::read_npy_f32;

use super::{one_error, picture, program, text};

/// Runs the program, which succeeds; what it says on standard output.
pub fn run(arguments: &[&str]) -> String {
    let output = program().args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Eight pictures of two classes.
pub fn images(root: &Path) -> PathBuf {
    let folder = root.join("images");
    for class in 0..2 {
        for i in 0..4 {
            let path = folder.join(format!("class-{class}/{i}.png"));
            picture(&path, 72, class * 40 + i);
        }
    }
    folder
}

/// Every command that needs features takes a network, whose feature has `width` values.
pub fn give_features(weights: &Path, width: usize) {
    let root = tempfile::tempdir().unwrap();
    let images = images(root.path());
    let at = |name: &str| root.path().join(name);
    let w = weights.to_str().unwrap();
    let set = images.to_str().unwrap();
    let place = |name: &str| at(name).display().to_string();
    run(&["embed", "--weights", w, set, "--out", &place("f.npy")]);
    let features = read_npy_f32(at("f.npy")).unwrap();
    assert_eq!(features.shape, [8, width]);
    let tokens = ["--patch-tokens", "--resize", "80", "--crop", "70"];
    let command = ["embed", "--weights", w, set, "--out", &place("t.npy")];
    run(&[&command[..], &tokens].concat());
    assert_eq!(read_npy_f32(at("t.npy")).unwrap().shape, [8, 2, 2, width]);
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

/// What needs a transformer refuses a network with a sentence, and so does its conversion to what has a
/// name with an ending, with flags.
pub fn is_refused(weights: &Path, conversions: &[(&str, &[&str], &str)]) {
    let root = tempfile::tempdir().unwrap();
    let images = images(root.path());
    let out = root.path().join("out");
    let (w, set, out) = (
        weights.to_str().unwrap(),
        images.to_str().unwrap(),
        out.to_str().unwrap(),
    );
    let npy = format!("{out}.npy");
    let commands: [(&[&str], &str); 3] = [
        (
            &["attend", "--weights", w, set, "--out", out],
            "has no attention maps; activation shows the share of each position",
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
    ];
    for (command, reason) in commands {
        let error = one_error(&program().args(command).output().unwrap());
        assert!(error.contains(reason), "{command:?}: {error}");
    }
    for (ending, flags, reason) in conversions {
        let path = format!("{out}{ending}");
        let arguments = [&["convert", w, &path], *flags].concat();
        let error = one_error(&program().args(&arguments).output().unwrap());
        assert!(error.contains(reason), "{arguments:?}: {error}");
    }
}
