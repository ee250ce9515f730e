//! Residual networks in the program: used, trained, converted, and refused where they lack something.

use std::path::{Path, PathBuf};

use crate::common::convolutional::{
    give_features, images, is_kept_by_a_run_folder, is_refused, is_written_as_onnx, run,
};
use crate::common::{Train, same_however_it_is_run, tensors};
use dinolab_nn::weights::read;
use dinolab_run::npy::read_npy_f32;

/// A network of torchvision's blocks, 32 wide.
fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../dinolab-nn/tests/fixtures/resnet/basic/model.pth")
}

#[test]
fn commands_that_need_features_take_one() {
    give_features(&weights(), 32);
}

#[test]
fn activations_show_what_the_feature_is_made_of() {
    let root = tempfile::tempdir().unwrap();
    let (set, out) = (root.path().join("set"), root.path().join("maps"));
    std::fs::create_dir(&set).unwrap();
    image::RgbImage::from_fn(256, 256, |x, y| match (x, y) {
        (160.., 160..) => image::Rgb([255, 255, (x * y % 255) as u8]),
        _ => image::Rgb([0; 3]),
    })
    .save(set.join("square.png"))
    .unwrap();
    let (set, folder) = (set.to_str().unwrap(), out.to_str().unwrap());
    run(&[
        "attend",
        "--weights",
        weights().to_str().unwrap(),
        set,
        "--out",
        folder,
        "--size",
        "0",
        "--threshold",
        "0.5",
    ]);
    for name in [
        "activation.png",
        "activation-overlay.png",
        "activation-mask.png",
        "activation.npy",
    ] {
        assert!(out.join(format!("square-{name}")).exists(), "{name}");
    }
    let shares = read_npy_f32(out.join("square-activation.npy")).unwrap();
    assert_eq!(shares.shape, [1, 8, 8]);
    let tokens = root.path().join("tokens.npy");
    let sizes = ["--resize", "256", "--crop", "256", "--patch-tokens"];
    let w = weights();
    let embed = ["embed", "--weights", w.to_str().unwrap(), set, "--out"];
    run(&[&embed[..], &[tokens.to_str().unwrap()], &sizes].concat());
    let tokens = read_npy_f32(&tokens).unwrap();
    assert_eq!(tokens.shape, [1, 8, 8, 32]);
    let mut feature = [0.0; 32];
    for token in tokens.data.chunks(32) {
        (0..32).for_each(|i| feature[i] += token[i] / 64.0);
    }
    let terms = tokens.data.chunks(32);
    let terms = terms.map(|token| (0..32).map(|i| token[i] * feature[i]).sum::<f32>().max(0.0));
    let terms: Vec<f32> = terms.collect();
    let sum: f32 = terms.iter().sum();
    for (share, term) in shares.data.iter().zip(terms) {
        assert!((share - term / sum).abs() < 1e-5, "{share} {}", term / sum);
    }
}

#[test]
fn an_onnx_file_computes_the_feature() {
    is_written_as_onnx(&weights(), 32);
}

#[test]
fn what_needs_a_transformer_refuses_it_with_a_sentence() {
    is_refused(
        &weights(),
        &[
            (".onnx", &["--attention"], "has no attention maps"),
            (
                "",
                &["--to", "timm"],
                "timm has no residual network of these sizes",
            ),
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
        ("ours.safetensors", "timm"),
        ("hf.safetensors", "hf"),
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
            .with("arch", "resnet18")
            .with("optimizer", "sgd")
            .with("batch-size", 4)
            .with("width", 128)
            .without("patch-size")
            .without("depth")
            .without("heads")
    };
    let run_folder = same_however_it_is_run(root.path(), train);
    let tensors = tensors(&run_folder);
    assert_eq!(
        tensors["teacher.backbone.conv1.weight"].shape,
        [16, 3, 7, 7]
    );
    let moved = &tensors["teacher.backbone.bn1.running_mean"].data;
    assert!(moved.iter().any(|&value| value != 0.0));
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
    assert_eq!(read_npy_f32(&features).unwrap().shape, [8, 128]);
    let report = std::fs::read_to_string(run_folder.join("report.html")).unwrap();
    assert!(report.contains("resnet18: width 128"));
    assert!(!report.contains("heads, patch"));
    assert!(report.contains("Activation before training") && !report.contains("class token"));
    assert!(
        run_folder
            .join("pictures/activation-epoch-0000.png")
            .exists()
    );
    // Whoever names the network goes on with the width of its weights.
    let adapted = root.path().join("adapted");
    let narrow = train(&adapted).without("width").with("weights", of_run);
    narrow.succeed();
    assert_eq!(
        self::tensors(&adapted)["teacher.backbone.conv1.weight"].shape,
        [16, 3, 7, 7]
    );
    let error = train(&root.path().join("other"))
        .with("accumulate", 2)
        .fail();
    assert!(error.contains("a residual network takes 1"), "{error}");
}
