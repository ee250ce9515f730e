//! Transformers with a convolutional stem in the program: trained, resumed, converted, and refused where a format or
//! a network lacks it.

use crate::common;
use std::path::Path;
use std::process::Output;

use crate::common::{Train, one_error, program, relative, same_however_it_is_run, tensors, text};
use dinolab_run::npy::read_npy_f32;

fn convert(run: &Path, out: &Path, flags: &[&str]) -> Output {
    let mut command = program();
    command.arg("convert").arg(run).arg(out).args(flags);
    command.output().unwrap()
}

#[test]
fn a_run_is_the_same_on_any_threads_and_however_often_it_is_stopped() {
    let root = tempfile::tempdir().unwrap();
    let train = |out: &Path| {
        Train::tiny_lejepa(out)
            .with("stem", "conv")
            .with("patch-drop-rate", 0.5)
    };
    let run = same_however_it_is_run(root.path(), train);
    let tensors = tensors(&run);
    let kernel =
        |layer: &str| &tensors[&format!("average.backbone.patch_embed.{layer}.weight")].shape;
    assert_eq!(kernel("stem.0.conv"), &[16, 3, 4, 4]);
    assert_eq!(kernel("proj"), &[32, 16, 3, 3]);
}

#[test]
fn weights_are_written_where_a_format_has_the_stem() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let run = at("run");
    let train = Train::tiny_lejepa(&run).with("stem", "conv");
    train.with("epochs", 1).succeed();
    let images = at("images");
    for i in 0..3 {
        common::picture(&images.join(format!("{i}.png")), 40, 7 * i);
    }
    let features = |weights: &Path| {
        let out = at("features.npy");
        let mut embed = program();
        embed.arg("embed").arg("--weights").arg(weights);
        embed.arg(&images).arg("--out").arg(&out);
        // Formats without metadata have no preprocessing.
        embed.args(["--resize", "40", "--crop", "32", "--heads", "2"]);
        let output = embed.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        read_npy_f32(&out).unwrap().data
    };
    let original = features(&run);
    for (name, to) in [
        ("own.pth", "reference"),
        ("own.safetensors", "reference"),
        ("timm.pth", "timm"),
        ("timm.safetensors", "timm"),
    ] {
        let output = convert(&run, &at(name), &["--to", to]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(relative(&features(&at(name)), &original) < 1e-6, "{name}");
    }
    let output = convert(&run, &at("vit.onnx"), &["--attention"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // What is refused names a way that was just taken.
    for to in ["hf", "timm"] {
        let error = one_error(&convert(&run, &at("folder"), &["--to", to]));
        let advice = "write ONNX, or --to timm a .pth or .safetensors file";
        assert!(error.contains(advice), "{error}");
        assert!(!at("folder").exists());
    }
    let error = one_error(&convert(&run, &at("full.pth"), &["--full"]));
    assert!(error.contains("without --full, the weights"), "{error}");
    assert!(!at("full.pth").exists());
}

#[test]
fn networks_without_it_refuse_it() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let refused = |train: Train, with: &str| {
        let error = train.fail();
        assert!(error.contains(with), "{error}");
    };
    let short = Train::tiny_lejepa(&run).with("epochs", 1);
    let stem = short.clone().with("stem", "conv");
    let resnet = |train: &Train| {
        let train = train.clone().with("arch", "resnet18").with("width", 128);
        let sizes = ["depth", "heads", "patch-size"];
        sizes.into_iter().fold(train, Train::without)
    };
    let advice = "--stem belongs to transformers; leave it out or give --arch custom";
    refused(resnet(&stem), advice);
    let at = |name: &str| root.path().join(name).display().to_string();
    resnet(&short).with("out", at("resnet")).succeed();
    stem.clone().with("out", at("stem")).succeed();
    refused(
        stem.clone().with("patch-size", 4),
        "--patch-size: 4 is not 8, 16, 32 or 64",
    );
    // Weights without a stem keep their network.
    let plain = root.path().join("plain");
    let train = Train::tiny_lejepa(&plain).with("epochs", 1);
    train.clone().succeed();
    let from = plain.display();
    refused(stem.with("weights", from), "differs in --stem");
}
