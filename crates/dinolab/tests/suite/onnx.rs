//! `dinolab convert` to ONNX.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::{one_error, program, text};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::weights::{LoadOptions, load, read};
use dinolab_nn::{Head, ProjectionHead, Tensor, Vit, device};
use serde_json::Value;

fn checkpoint() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vit_custom/checkpoint.pth")
}

fn convert(out: &Path, flags: &[&str]) -> Output {
    let mut command = program();
    command
        .arg("convert")
        .arg(checkpoint())
        .arg(out)
        .args(flags);
    command.output().unwrap()
}

/// Random images of `[B, C, H, W]`.
fn images(shape: [usize; 4]) -> Vec<f32> {
    Init::new(3).truncated_normal(shape.iter().product(), 1.0)
}

/// The outputs of the file at `path` in an ONNX runtime.
fn computed(path: &Path, shape: [usize; 4]) -> BTreeMap<String, Vec<f32>> {
    let model = rten::Model::load(fs::read(path).unwrap()).unwrap();
    let input = rten_tensor::Tensor::from_data(&shape, images(shape));
    let outputs = model.output_ids().to_vec();
    let values = model
        .run(vec![(model.input_ids()[0], input.into())], &outputs, None)
        .unwrap();
    let name = |id: &rten::NodeId| model.node_info(*id).unwrap().name().unwrap().to_owned();
    let array = |value: rten::Value| {
        let tensor: rten_tensor::Tensor<f32> = value.try_into().unwrap();
        tensor.into_data()
    };
    outputs
        .iter()
        .map(name)
        .zip(values.into_iter().map(array))
        .collect()
}

/// The outputs of the checkpoint's network.
fn expected(shape: [usize; 4]) -> BTreeMap<String, Vec<f32>> {
    let device = device::by_name("cpu").unwrap();
    let weights = read(&checkpoint(), None).unwrap();
    let config = weights.vit_config(None).unwrap();
    let mut vit = Vit::new(&config, &mut Init::new(0), &device).unwrap();
    load(&mut vit, "backbone", &weights, LoadOptions::default()).unwrap();
    let head_config = weights.head_config().unwrap();
    let mut head = Head::new(&head_config, config.width, &mut Init::new(0), &device).unwrap();
    load(&mut head, "head", &weights, LoadOptions::default()).unwrap();
    let images = Tensor::<1>::from_data(images(shape).as_slice(), &device).reshape(shape);
    let class = vit.forward(images.clone());
    let tokens = vit.intermediate(images.clone(), 1).remove(0);
    let count = tokens.dims()[1];
    BTreeMap::from([
        ("features".into(), to_host_f32(class.clone())),
        (
            "patch_features".into(),
            to_host_f32(tokens.narrow(1, 1, count - 1)),
        ),
        ("attention".into(), to_host_f32(vit.class_attention(images))),
        ("logits".into(), to_host_f32(head.forward(class))),
    ])
}

#[test]
fn the_program_writes_onnx() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("vit.onnx");
    let flags = ["--attention", "--patch-features", "--head", "--json"];
    let output = convert(&out, &flags);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["bytes"], fs::metadata(&out).unwrap().len());
    let outputs = report["outputs"].as_array().unwrap();
    let names: Vec<_> = outputs.iter().map(|output| &output["name"]).collect();
    assert_eq!(names, ["features", "patch_features", "attention", "logits"]);
    // The file computes what the network computes.
    let found = computed(&out, [3, 3, 120, 133]);
    assert_eq!(found.len(), 4);
    let expected = expected([3, 3, 120, 133]);
    for (name, expected) in expected {
        let found = &found[&name];
        let square = |x: f32| f64::from(x) * f64::from(x);
        let pairs = found.iter().zip(&expected);
        let error: f64 = pairs.map(|(f, e)| square(f - e)).sum();
        let size: f64 = expected.iter().map(|e| square(*e)).sum();
        assert!((error / size).sqrt() < 1e-5, "{name}: {error} of {size}");
        assert_eq!(found.len(), expected.len());
    }
    // The file says how images are prepared.
    let bytes = fs::read(&out).unwrap();
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    assert!(holds(b"\x0a\x04crop\x12\x03224"));
    assert!(holds(b"\x0a\x04mean\x12\x13[0.485,0.456,0.406]"));

    let output = convert(&out, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(
        table.contains("features") && table.contains("batch × "),
        "{table}"
    );
    assert!(!table.contains("attention"), "{table}");
    // Fewer outputs, and no parameters of a head.
    assert!(fs::metadata(&out).unwrap().len() < bytes.len() as u64);
}

#[test]
fn flags_that_do_not_go_together_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |out: &str, flags: &[&str]| {
        let out = folder.path().join(out);
        let error = one_error(&convert(&out, flags));
        assert!(!out.exists(), "{error}");
        error
    };
    assert!(refused("vit.onnx", &["--to", "timm"]).contains("--to"));
    assert!(refused("vit.onnx", &["--full"]).contains("--full"));
    assert!(refused("vit.onnx", &["--image-size", "96"]).contains("--image-size"));
    assert!(refused("vit.safetensors", &["--attention"]).contains("--attention"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(refused("file/vit.onnx", &[]).contains("file is a file"));
}
