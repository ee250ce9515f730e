//! Export to ONNX: what is written, and what is left where it fails.

mod common;

use std::fs;
use std::path::Path;

use common::device;
use dinolab_nn::init::Init;
use dinolab_nn::onnx::{Check, Options, export};
use dinolab_nn::{Head, HeadConfig, ProjectionHead, Vit, VitConfig};

fn vit(seed: u64) -> Vit {
    let config = VitConfig {
        image_size: 32,
        patch_size: 8,
        width: 24,
        depth: 2,
        heads: 2,
        ..VitConfig::default()
    };
    Vit::new(&config, &mut Init::new(seed), &device()).unwrap()
}

fn head(use_bn: bool) -> Head {
    let config = HeadConfig {
        out_dim: 10,
        hidden_dim: 16,
        bottleneck_dim: 6,
        use_bn,
        norm_last_layer: false,
        ..HeadConfig::default()
    };
    Head::new(&config, 24, &mut Init::new(1), &device()).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    entries.map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn every_output_is_checked_at_every_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vit.onnx");
    let options = Options {
        patch_features: true,
        attention: true,
        metadata: [("mean".to_owned(), "[0.5,0.5,0.5]".to_owned())].into(),
    };
    let report = export(&vit(0), Some(&head(false)), &path, &options).unwrap();
    assert_eq!(report.bytes, fs::metadata(&path).unwrap().len());
    let outputs = ["features", "patch_features", "attention", "logits"];
    let sizes = [[1, 3, 32, 32], [1, 3, 55, 55], [3, 3, 20, 26]];
    let expected = sizes
        .iter()
        .flat_map(|&size| outputs.map(|output| (output, size)));
    let found = report
        .checks
        .iter()
        .map(|check| (check.output, check.images));
    assert!(found.eq(expected));
    assert!(report.deviation() > 0.0 && report.deviation() < Check::LIMIT / 5.0);
    // Facts and names are readable in the file.
    let bytes = fs::read(&path).unwrap();
    let holds = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    for text in [
        "[0.5,0.5,0.5]",
        "\"image_size\":32",
        "blocks.1.attn.qkv.weight",
        "height",
    ] {
        assert!(holds(text), "{text}");
    }
    assert_eq!(files(folder.path()), ["vit.onnx"]);
}

#[test]
fn the_same_network_is_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, seed| {
        let path = folder.path().join(name);
        export(&vit(seed), None, &path, &Options::default()).unwrap();
        fs::read(path).unwrap()
    };
    let first = written("a.onnx", 0);
    assert!(written("b.onnx", 0) == first);
    assert!(written("b.onnx", 1) != first, "and replaces another");
}

#[test]
fn what_cannot_be_written_leaves_everything_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vit.onnx");
    fs::write(&path, "an earlier file").unwrap();
    let options = Options::default();
    let error = export(&vit(0), Some(&head(true)), &path, &options)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("vit.onnx") && error.contains("batch normalisation"),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"an earlier file");

    // A file where a folder must be.
    let below = path.join("deeper/vit.onnx");
    let error = export(&vit(0), None, &below, &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("vit.onnx is a file"), "{error}");
    let taken = folder.path().join("folder.onnx");
    fs::create_dir(&taken).unwrap();
    let error = export(&vit(0), None, &taken, &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("folder.onnx"), "{error}");
    let mut left = files(folder.path());
    left.sort_unstable();
    assert_eq!(left, ["folder.onnx", "vit.onnx"]);
}

#[test]
fn a_network_without_finite_outputs_is_not_written() {
    use dinolab_nn::Tensor;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vit.onnx");
    let mut broken = vit(0);
    let values = vec![f32::NAN; 24];
    broken
        .norm
        .beta
        .set_flat(Tensor::from_data(values.as_slice(), &device()));
    let error = export(&broken, None, &path, &Options::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("features"), "{error}");
    assert!(files(folder.path()).is_empty());
}
