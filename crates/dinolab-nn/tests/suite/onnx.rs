//! Export to ONNX: files compute what the network computes, and what is left if an export fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::device;
use crate::common::onnx_runtime::{Array, computed, deviation, images};
use dinolab_nn::init::Init;
use dinolab_nn::onnx::{self, Options, Report};
use dinolab_nn::position::{PositionRule, Rope};
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::{
    Feature, Head, HeadConfig, Parameters, ProjectionHead, Result, Tensor, Vit, VitConfig,
};
use proptest::prelude::*;

/// Writes a transformer.
fn export(vit: &Vit, head: Option<&Head>, path: &Path, options: &Options) -> Result<Report> {
    onnx::export(&vit.clone().into(), head, path, options)
}

/// With weights larger than at the start of training, so that every part of the network counts.
fn network(edit: impl FnOnce(&mut VitConfig)) -> Vit {
    let mut config = VitConfig {
        image_size: 20,
        patch_size: 4,
        width: 12,
        depth: 2,
        heads: 3,
        ..VitConfig::default()
    };
    edit(&mut config);
    let mut vit = Vit::new(&config, &mut Init::new(5), &device()).unwrap();
    let mut init = Init::new(6);
    vit.visit_mut("", &mut |name, param| {
        let mut values = init.truncated_normal(param.len(), 0.4);
        if config.rope.is_some() && name.ends_with("attn.qkv.bias") {
            // Keys have none.
            let third = values.len() / 3;
            values[third..2 * third].fill(0.0);
        }
        param.set_flat(Tensor::from_data(values.as_slice(), &device()));
    });
    vit
}

/// The outputs of the network, with the class token as its feature.
fn expected(vit: &Vit, head: Option<&Head>, shape: [usize; 4]) -> BTreeMap<String, Array> {
    expected_of(vit, Feature::Class, head, shape)
}

/// The outputs of the network.
fn expected_of(
    vit: &Vit,
    feature: Feature,
    head: Option<&Head>,
    shape: [usize; 4],
) -> BTreeMap<String, Array> {
    fn array<const D: usize>(tensor: Tensor<D>) -> Array {
        let shape = tensor.dims().to_vec();
        (shape, dinolab_nn::device::to_host_f32(tensor))
    }
    let images = Tensor::<1>::from_data(images(shape).as_slice(), &device()).reshape(shape);
    let features = vit.features(vec![images.clone()], feature, &NoDropPath);
    let tokens = vit.intermediate(images.clone(), 1).remove(0);
    let count = tokens.dims()[1];
    let mut outputs = BTreeMap::from([
        ("features".to_owned(), array(features.clone())),
        (
            "patch_features".to_owned(),
            array(tokens.narrow(1, 1, count - 1)),
        ),
        ("attention".to_owned(), array(vit.class_attention(images))),
    ]);
    if let Some(head) = head {
        outputs.insert("logits".to_owned(), array(head.forward(features)));
    }
    outputs
}

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
    head_on(24, use_bn)
}

fn head_on(width: usize, use_bn: bool) -> Head {
    let config = HeadConfig {
        out_dim: 10,
        hidden_dim: 16,
        bottleneck_dim: 6,
        use_bn,
        norm_last_layer: false,
        ..HeadConfig::default()
    };
    Head::new(&config, width, &mut Init::new(1), &device()).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    entries.map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn every_output_is_the_networks_at_every_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vit.onnx");
    let options = Options {
        patch_features: true,
        attention: true,
        metadata: [("mean".to_owned(), "[0.5,0.5,0.5]".to_owned())].into(),
        ..Options::default()
    };
    let (vit, head) = (vit(0), head(false));
    let report = export(&vit, Some(&head), &path, &options).unwrap();
    assert_eq!(report.bytes, fs::metadata(&path).unwrap().len());
    let outputs: Vec<_> = report
        .outputs
        .iter()
        .map(|o| (&o.name, o.shape.join(" ")))
        .collect();
    let outputs: Vec<_> = outputs
        .iter()
        .map(|(name, shape)| (name.as_str(), shape.as_str()))
        .collect();
    assert_eq!(
        outputs,
        [
            ("features", "batch 24"),
            ("patch_features", "batch patches 24"),
            ("attention", "batch 2 rows columns"),
            ("logits", "batch 10"),
        ]
    );
    // The trained size; a larger square and a smaller rectangle, both with pixels left over.
    for shape in [[1, 3, 32, 32], [1, 3, 55, 55], [3, 3, 20, 26]] {
        let (found, expected) = (computed(&path, shape), expected(&vit, Some(&head), shape));
        assert!(found.keys().eq(expected.keys()), "{:?}", found.keys());
        for (name, found) in &found {
            let error = deviation(found, &expected[name]);
            assert!(error < 2e-5, "{name} {shape:?}: {error}");
        }
    }
    // Metadata and names are readable in the file.
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_computes_what_the_network_computes(
        b in 1usize..4, height in 4usize..40, width in 4usize..40, rule in 0..3usize,
        registers in 0usize..3, layer_scale: bool, gated_mlp: bool, rotary: bool,
        patch_features: bool
    ) {
        let rules = [PositionRule::Dino, PositionRule::Ratio, PositionRule::RatioAntialias];
        let vit = network(|config| {
            config.position_rule = rules[rule];
            config.registers = registers;
            config.layer_scale = layer_scale;
            config.layer_norm_eps = 1e-5;
            config.gated_mlp = gated_mlp;
            config.rope = rotary.then(Rope::default);
        });
        let options = Options { patch_features, attention: true, ..Options::default() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vit.onnx");
        export(&vit, None, &path, &options).unwrap();
        let shape = [b, 3, height, width];
        let (found, expected) = (computed(&path, shape), expected(&vit, None, shape));
        prop_assert_eq!(found.len(), if patch_features { 3 } else { 2 });
        for (name, found) in &found {
            let error = deviation(found, &expected[name]);
            prop_assert!(error < 2e-5, "{} {}", name, error);
        }
    }
}

#[test]
fn a_convolutional_stem_is_computed_at_every_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vit.onnx");
    let options = Options {
        patch_features: true,
        attention: true,
        ..Options::default()
    };
    for patch_size in [8, 16] {
        let vit = network(|config| {
            config.conv_stem = true;
            config.patch_size = patch_size;
            config.image_size = 2 * patch_size;
        });
        export(&vit, None, &path, &options).unwrap();
        // The last two with pixels left over.
        for shape in [
            [2, 3, 32, 32],
            [1, 3, 16, 48],
            [1, 3, 53, 36],
            [2, 3, 47, 31],
        ] {
            let (found, expected) = (computed(&path, shape), expected(&vit, None, shape));
            assert_eq!(found.len(), 3);
            for (name, found) in &found {
                let error = deviation(found, &expected[name]);
                assert!(error < 2e-5, "{patch_size} {name} {shape:?}: {error}");
            }
        }
    }
}

#[test]
fn the_feature_is_the_one_that_was_trained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vit.onnx");
    let vit = network(|config| config.registers = 2);
    for feature in Feature::ALL {
        let head = head_on(feature.width(12), false);
        for patch_features in [false, true] {
            let options = Options {
                feature,
                patch_features,
                ..Options::default()
            };
            let report = export(&vit, Some(&head), &path, &options).unwrap();
            let width = feature.width(12).to_string();
            assert_eq!(report.outputs[0].shape, ["batch", width.as_str()]);
            for shape in [[2, 3, 20, 20], [1, 3, 31, 18]] {
                let found = computed(&path, shape);
                let expected = expected_of(&vit, feature, Some(&head), shape);
                for (name, found) in &found {
                    let error = deviation(found, &expected[name]);
                    assert!(error < 2e-5, "{feature} {name} {shape:?}: {error}");
                }
            }
        }
        let bytes = fs::read(&path).unwrap();
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        let (class, other) = (Feature::Class, feature.name().as_bytes());
        let entry = [b"\x0a\x07feature\x12", &[other.len() as u8][..], other].concat();
        assert_eq!(holds(&entry), feature != class, "{feature}");
    }
}

/// The comparison notices one other value, and another rule for positions at other sizes only.
#[test]
fn other_networks_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vit.onnx");
    let vit = network(|_| ());
    let error = |other: &Vit, shape| {
        export(other, None, &path, &Options::default()).unwrap();
        deviation(
            &computed(&path, shape)["features"],
            &expected(&vit, None, shape)["features"],
        )
    };
    let (trained, larger) = ([1, 3, 20, 20], [1, 3, 31, 31]);
    assert!(error(&vit, trained) < 2e-5);
    let mut other = vit.clone();
    other.visit_mut("", &mut |name, param| {
        if name == "blocks.1.mlp.fc2.weight" {
            let mut values = param.to_vec();
            values[0] = 7.0;
            param.set_flat(Tensor::from_data(values.as_slice(), &device()));
        }
    });
    assert!(error(&other, trained) > 1e-4);
    let other = network(|config| config.position_rule = PositionRule::Ratio);
    assert!(error(&other, trained) < 2e-5 && error(&other, larger) > 1e-4);
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
fn a_network_with_values_that_are_not_finite_is_not_written() {
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
    assert!(
        error.contains("norm.bias has values that are not finite"),
        "{error}"
    );
    assert!(files(folder.path()).is_empty());
}
