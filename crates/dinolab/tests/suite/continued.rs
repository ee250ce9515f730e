//! Training that starts from networks of DINOv2 and DINOv3, and such networks from scratch.

use crate::common;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Train, assert_same, newest, one_error, program, relative, text};
use dinolab_nn::VitConfig;

fn fixture(name: &str) -> PathBuf {
    let folder = "../dinolab-nn/tests/fixtures/weights";
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(folder)
        .join(name)
}

/// A run of the network in a fixture, of width 16 with patches of 7 px.
fn from(name: &str, out: &Path) -> Train {
    let sizes = ["arch", "width", "depth", "heads", "patch-size"];
    let run = sizes.into_iter().fold(Train::tiny(out), Train::without);
    run.with("weights", fixture(name).display())
        .with("global-crops-size", 28)
        .with("local-crops-size", 14)
        .with("eval-crop", 28)
        .with("eval-resize", 28)
        .with("epochs", 2)
}

fn network(weights: &Path) -> VitConfig {
    let weights = dinolab_nn::weights::read(weights, None).unwrap();
    weights.vit_config(None).unwrap()
}

fn convert(arguments: &[&str]) {
    let output = program().arg("convert").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// The features of the built-in images.
fn features(weights: &Path, folder: &Path) -> Vec<f32> {
    let out = folder.join("features.npy");
    let output = program()
        .args(["embed", "--batch-size", "8", "--size", "28x35", "--weights"])
        .arg(weights)
        .arg(folder.join("images"))
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let bytes = fs::read(out).unwrap();
    let data = &bytes[bytes.len() - 4 * 3 * 16..];
    let (values, _) = data.as_chunks();
    values
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

#[test]
fn every_network_that_is_read_is_trained_resumed_and_exported() {
    let root = tempfile::tempdir().unwrap();
    common::pictures(&root.path().join("images"), 3);
    for name in [
        "hf_dinov2_with_registers",
        "hf_dinov2_gated",
        "hf_dinov3",
        "timm_dinov3_gated",
        "timm_placed_registers",
    ] {
        let at = |what: &str| root.path().join(format!("{name}-{what}"));
        let (whole, pieces) = (at("whole"), at("pieces"));
        from(name, &whole).threads(1).succeed();
        from(name, &pieces)
            .with("stop-after-epochs", 0.75)
            .succeed();
        // The weights are no longer needed.
        from(name, &pieces).succeed();
        assert_same(&whole, &pieces);

        let (before, after) = (network(&fixture(name)), network(&newest(&whole)));
        assert_eq!(after.registers, before.registers, "{name}");
        assert_eq!(after.layer_scale, before.layer_scale, "{name}");
        assert_eq!(after.gated_mlp, before.gated_mlp, "{name}");
        assert_eq!(after.mlp_hidden(), before.mlp_hidden(), "{name}");
        assert_eq!(after.rope, before.rope, "{name}");
        assert_eq!(after.position_rule, before.position_rule, "{name}");
        assert_eq!(after.layer_norm_eps, before.layer_norm_eps, "{name}");
        assert_eq!(after.image_size, before.image_size, "{name}");

        let trained = features(&whole, root.path());
        assert!(
            relative(&features(&fixture(name), root.path()), &trained) > 1e-5,
            "{name}"
        );
        for (to, out) in [
            ("hf", "hf"),
            ("timm", "timm"),
            ("reference", "ref.safetensors"),
        ] {
            let out = at(out);
            let [input, output] = [&whole, &out].map(|path| path.to_str().unwrap());
            convert(&[input, output, "--to", to]);
            let error = relative(&features(&out, root.path()), &trained);
            assert!(error < 1e-5, "{name} {to}: {error:e}");
        }
        let onnx = at("network.onnx");
        convert(&[
            whole.to_str().unwrap(),
            onnx.to_str().unwrap(),
            "--attention",
        ]);
    }
}

#[test]
fn such_networks_are_trained_from_scratch() {
    let root = tempfile::tempdir().unwrap();
    let (whole, pieces) = (root.path().join("whole"), root.path().join("pieces"));
    let run = |out: &Path| {
        Train::tiny(out)
            .with("registers", 2)
            .with("layer-scale", true)
            .with("ffn", "swiglu")
            .with("positions", "rope")
            .with("rope-shift", 0.1)
            .with("rope-jitter", 1.2)
            .with("patch-drop-rate", 0.25)
            .with("layer-norm-eps", 1e-5)
            .with("epochs", 2)
    };
    run(&whole).threads(1).succeed();
    run(&pieces).with("stop-after-epochs", 1.5).succeed();
    run(&pieces).succeed();
    assert_same(&whole, &pieces);
    let found = network(&newest(&whole));
    assert_eq!((found.registers, found.layer_scale), (2, true));
    assert_eq!((found.gated_mlp, found.mlp_hidden()), (true, 88));
    let rope = found.rope.unwrap();
    assert_eq!(
        (rope.theta, rope.shift, rope.jitter, rope.rescale),
        (100.0, 0.1, 1.2, 2.0)
    );
    // Coordinates that are not moved give other steps.
    let still = root.path().join("still");
    run(&still)
        .with("rope-shift", 0)
        .with("rope-jitter", 1)
        .with("rope-rescale", 1)
        .succeed();
    let losses = |run: &Path| common::figures(run, "train", "loss");
    assert_ne!(losses(&whole), losses(&still));
}

#[test]
fn settings_that_contradict_the_weights_are_refused() {
    let root = tempfile::tempdir().unwrap();
    for (name, flag, value) in [
        ("hf_dinov2", "layer-scale", "false"),
        ("hf_vit", "layer-scale", "true"),
        ("hf_dinov2_gated", "ffn", "mlp"),
        ("hf_dinov3", "positions", "learned"),
        ("hf_dinov3", "registers", "1"),
    ] {
        let run = from(name, &root.path().join("run")).with(flag, value);
        let error = one_error(&run.command().output().unwrap());
        assert!(error.contains(&format!("--{flag}")), "{error}");
    }
}
