//! What commands do with networks that are no transformers.

use std::path::{Path, PathBuf};

use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::weights::{LoadOptions, load, read};
use dinolab_nn::{AnyBackbone, Backbone, Tensor, device};
use dinolab_run::npy::read_npy_f32;
use rten_tensor::prelude::*;

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
    let transfer = [
        "eval",
        "transfer",
        "--weights",
        w,
        "--train",
        set,
        "--val",
        set,
    ];
    let few = [
        "--labels", "2", "--epochs", "2", "--seeds", "0", "--lr", "0.001",
    ];
    let table = run(&[&transfer[..], &few, &["--crop", "64", "--resize", "64"]].concat());
    assert!(table.contains("fine-tuned minus from scratch"), "{table}");
}

/// A network is the same after it was a run folder.
pub fn is_kept_by_a_run_folder(weights: &Path) {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name).display().to_string();
    let (folder, again) = (at("run"), at("again.safetensors"));
    let convert = ["convert", weights.to_str().unwrap(), &folder];
    run(&[&convert[..], &["--to", "run"]].concat());
    run(&["convert", &folder, &again]);
    let arrays = |path: &Path| read(path, None).unwrap().arrays;
    assert_eq!(arrays(Path::new(&again)), arrays(weights));
}

/// A network is written as ONNX, and the file computes its feature of `width` values at three sizes.
pub fn is_written_as_onnx(weights: &Path, width: usize) {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("network.onnx");
    let report = run(&[
        "convert",
        weights.to_str().unwrap(),
        out.to_str().unwrap(),
        "--patch-features",
        "--json",
    ]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["outputs"][0]["name"], "features");
    assert_eq!(report["outputs"][1]["name"], "patch_features");
    let cpu = device::by_name("cpu").unwrap();
    let weights = read(weights, None).unwrap();
    let config = weights.convolutional_config().unwrap().unwrap();
    let mut network = AnyBackbone::new(&config, &mut Init::new(0), &cpu).unwrap();
    load(&mut network, "backbone", &weights, LoadOptions::default()).unwrap();
    let model = rten::Model::load(std::fs::read(&out).unwrap()).unwrap();
    for (height, width_px) in [(64, 64), (50, 90), (224, 160)] {
        let shape = [2, 3, height, width_px];
        let pixels = Init::new(3).truncated_normal(shape.iter().product(), 1.0);
        let input = rten_tensor::Tensor::from_data(&shape, pixels.clone());
        let ids = &model.output_ids()[..1];
        let found = model.run(vec![(model.input_ids()[0], input.into())], ids, None);
        let found: rten_tensor::Tensor<f32> = found.unwrap().remove(0).try_into().unwrap();
        assert_eq!(found.shape(), [2, width]);
        let images = Tensor::<1>::from_floats(pixels.as_slice(), &cpu).reshape(shape);
        let expected = to_host_f32(network.class_tokens(vec![images], &NoDropPath));
        let largest = expected.iter().fold(0.0, |most, x| f32::max(most, x.abs()));
        for (found, expected) in found.into_data().iter().zip(&expected) {
            assert!(
                (found - expected).abs() < 1e-5 * largest,
                "{found} {expected}"
            );
        }
    }
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
    let commands: [(&[&str], &str); 2] = [
        (
            &[
                "attend",
                "--weights",
                w,
                set,
                "--out",
                out,
                "--maps",
                "mean",
            ],
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
