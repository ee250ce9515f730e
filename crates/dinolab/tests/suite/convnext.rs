//! ConvNeXts in the program: used, trained, converted, and refused where they lack something.

use std::path::{Path, PathBuf};

use crate::common::convolutional::{
    give_features, images, is_kept_by_a_run_folder, is_refused, is_written_as_onnx, run,
};
use crate::common::{Train, same_however_it_is_run, tensors};
use dinolab_nn::weights::read;
use dinolab_run::npy::read_npy_f32;

/// A network of timm's, 10 wide.
fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../dinolab-nn/tests/fixtures/convnext/timm.safetensors")
}

#[test]
fn commands_that_need_features_take_one() {
    give_features(&weights(), 10);
}

#[test]
fn an_onnx_file_computes_the_feature() {
    is_written_as_onnx(&weights(), 10);
}

#[test]
fn what_needs_a_transformer_refuses_it_with_a_sentence() {
    is_refused(
        &weights(),
        &[
            (".onnx", &["--attention"], "has no attention maps"),
            (".pth", &["--full"], "only the weights are written"),
        ],
    );
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
    is_kept_by_a_run_folder(&w);
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
