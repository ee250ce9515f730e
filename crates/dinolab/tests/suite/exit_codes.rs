//! Each way to end has its exit code.

use std::fs;
use std::path::Path;

use crate::common::{Train, pictures, program, text};

fn code(arguments: &[&str]) -> (Option<i32>, String) {
    let output = program().args(arguments).output().unwrap();
    let said = text(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code(), said)
}

#[test]
fn bad_input_is_1() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("empty")).unwrap();
    fs::write(path("weights.pth"), "no weights").unwrap();
    pictures(Path::new(&path("images")), 2);
    for arguments in [
        &["data", "inspect", &path("nowhere")][..],
        &["train", &path("empty"), "--out", &path("run")],
        &[
            "embed",
            "--weights",
            &path("weights.pth"),
            &path("images"),
            "--out",
            &path("a.npy"),
        ],
        &["overfit", &path("weights.pth")],
    ] {
        let (code, said) = code(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(said.starts_with("error: "), "{said}");
    }
}

#[test]
fn a_command_line_that_cannot_be_followed_is_2() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    pictures(Path::new(&path("images")), 2);
    Train::tiny(&run).with("epochs", 0.25).succeed();
    let weights = run.to_str().unwrap();
    let images = path("images");
    for (arguments, flag) in [
        (&["train", "--no-such-flag"][..], "--no-such-flag"),
        (&["teach"], "teach"),
        // By the program.
        (
            &["train", "--batch-size", "0", "--out", &path("x")],
            "--batch-size",
        ),
        (
            &[
                "attend",
                "--weights",
                weights,
                &images,
                "--out",
                &path("x"),
                "--threshold",
                "2",
            ],
            "--threshold",
        ),
        (
            &[
                "embed",
                "--weights",
                weights,
                &images,
                "--out",
                &path("x.csv"),
            ],
            "--out",
        ),
        // By a library, which says no dashes.
        (
            &[
                "train",
                &images,
                "--heads",
                "7",
                "--arch",
                "custom",
                "--width",
                "32",
                "--depth",
                "1",
                "--out",
                &path("x"),
            ],
            "--heads",
        ),
        (
            &[
                "embed",
                "--weights",
                weights,
                &images,
                "--out",
                &path("x.npy"),
                "--n-last-blocks",
                "99",
            ],
            "--n-last-blocks",
        ),
        (
            &[
                "eval",
                "retrieval",
                "--weights",
                weights,
                &images,
                "--k",
                "0",
            ],
            "--k",
        ),
    ] {
        let (code, said) = code(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        let last = said.lines().find(|l| l.starts_with("error: "));
        assert!(
            last.is_some_and(|line| line.contains(flag)),
            "{flag}: {said}"
        );
    }
}

#[test]
fn divergence_is_3() {
    let root = tempfile::tempdir().unwrap();
    let output = Train::tiny(&root.path().join("run"))
        .with("lr", "1e30")
        .with("clip-grad", 0)
        .with("warmup-epochs", 0)
        .with("epochs", 20)
        .output();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));

    // An evaluation's training too.
    let rows: Vec<f32> = (0..12).map(|i| (i * 7 % 5) as f32 - 2.0).collect();
    let features = root.path().join("f.npy");
    dinolab_run::npy::write_npy_f32(&features, &[6, 2], &rows).unwrap();
    fs::write(root.path().join("f.labels.txt"), "a\nb\na\nb\nb\na\n").unwrap();
    let features = features.to_str().unwrap();
    let linear = ["eval", "linear", "--train", features, "--val", features];
    let (code, said) = code(&[&linear[..], &["--lr", "1e38"]].concat());
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("; give a lower --lr"), "{said}");
    // Which helps.
    let output = program().args(linear).args(["--lr", "0.1"]).output();
    assert!(output.unwrap().status.success());
}

/// A port that refuses connections.
#[test]
#[cfg(feature = "remote")]
fn unreachable_is_75() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/a.tar", listener.local_addr().unwrap());
    drop(listener);
    let (code, said) = code(&["data", "inspect", &address, "--remote-attempts", "1"]);
    assert_eq!(code, Some(75), "{said}");
}

/// What an error says to do helps when it is done.
#[test]
fn a_file_that_is_no_classifier_is_followed_by_one() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let set = dinolab_run::feature_set::FeatureSet {
        dim: 2,
        data: vec![0.0, 1.0, 1.0, 0.0],
        names: None,
        labels: Some(vec![Some("a".into()), Some("b".into())]),
    };
    let features = path("f.safetensors");
    set.write(Path::new(&features)).unwrap();
    let (code_, said) = code(&["classify", "--classifier", &features, &features]);
    assert_eq!(code_, Some(1), "{said}");
    let advice = "make one with dinolab eval linear --train IMAGES --val IMAGES --out FILE";
    assert!(said.trim_end().ends_with(advice), "{said}");
    let out = path("c.classifier");
    let made = [
        "eval", "linear", "--train", &features, "--val", &features, "--out", &out,
    ];
    let (code_, said) = code(&[&made[..], &["--batch-size-per-gpu", "2"]].concat());
    assert_eq!(code_, Some(0), "{said}");
    let (code_, said) = code(&["classify", "--classifier", &out, &features]);
    assert_eq!(code_, Some(0), "{said}");
}
