//! Export of convolutional networks to ONNX: files compute what the network computes.

use std::path::Path;

use crate::common::device;
use crate::common::onnx_runtime::{computed, deviation, images};
use burn::tensor::{Tensor, TensorData};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::onnx::{Options, export};
use dinolab_nn::resnet::Statistics;
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::{
    AnyBackbone, Backbone, BackboneConfig, ConvNextConfig, Feature, Head, HeadConfig, Parameters,
    ProjectionHead, ResNetConfig,
};
use proptest::prelude::*;

/// Small networks of each kind.
fn configs() -> [BackboneConfig; 3] {
    let resnet = |bottleneck, blocks| ResNetConfig {
        channels: 3,
        width: 4,
        blocks,
        bottleneck,
    };
    let convnext = ConvNextConfig {
        channels: 3,
        widths: [4, 5, 6, 8],
        depths: [1, 2, 1, 1],
        layer_norm_eps: 1e-5,
    };
    [
        resnet(false, [1, 2, 1, 1]).into(),
        resnet(true, [1, 1, 2, 1]).into(),
        convnext.into(),
    ]
}

/// A network of which every parameter counts.
fn network(config: &BackboneConfig) -> AnyBackbone {
    let mut network = AnyBackbone::new(config, &mut Init::new(0), &device()).unwrap();
    let mut init = Init::new(6);
    network.visit_mut("", &mut |name, param| {
        let mut values = init.truncated_normal(param.len(), 0.4);
        if name.ends_with("running_var") {
            values
                .iter_mut()
                .for_each(|value| *value = value.abs() + 0.3);
        }
        set(param, values);
    });
    network
}

fn set(param: &mut dinolab_nn::Param, values: Vec<f32>) {
    let len = values.len();
    param.set_flat(Tensor::from_data(TensorData::new(values, [len]), &device()));
}

fn input(shape: [usize; 4]) -> Tensor<4> {
    Tensor::<1>::from_data(images(shape).as_slice(), &device()).reshape(shape)
}

/// The feature of images, and all positions of the last grid.
fn expected(network: &AnyBackbone, feature: Feature, shape: [usize; 4]) -> [Vec<f32>; 2] {
    let features = network.features(vec![input(shape)], feature, &NoDropPath);
    let patches = match network {
        AnyBackbone::ResNet(resnet) => to_host_f32(resnet.grid(input(shape), Statistics::Running)),
        other => to_host_f32(other.tokens(input(shape)).patches),
    };
    [to_host_f32(features), patches]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_file_computes_what_the_network_computes(
        kind in 0..3usize, b in 1usize..4, height in 1usize..100, width in 1usize..100,
        feature in 0..3usize, patch_features: bool
    ) {
        let feature = Feature::ALL[feature];
        let network = network(&configs()[kind]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network.onnx");
        let options = Options { feature, patch_features, ..Options::default() };
        export(&network, None, &path, &options).unwrap();
        let shape = [b, 3, height, width];
        let found = computed(&path, shape);
        let [features, patches] = expected(&network, feature, shape);
        let f = feature.width(network.width());
        let error = deviation(&found["features"], &(vec![b, f], features));
        prop_assert!(error < 2e-5, "features {}", error);
        prop_assert_eq!(found.contains_key("patch_features"), patch_features);
        if let Some(found) = found.get("patch_features") {
            let (h, w) = network.config().grid(height, width);
            let error = deviation(found, &(vec![b, h * w, network.width()], patches));
            prop_assert!(error < 2e-5, "patches {}", error);
        }
    }
}

/// The comparison notices a change of any parameter.
#[test]
fn other_parameters_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.onnx");
    let shape = [2, 3, 70, 64];
    for config in configs() {
        let network = network(&config);
        let [features, _] = expected(&network, Feature::Class, shape);
        let features = (vec![2, network.width()], features);
        let mut names = Vec::new();
        network.visit("", &mut |name, _| names.push(name.to_owned()));
        for changed in names {
            let mut other = network.clone();
            other.visit_mut("", &mut |name, param| {
                if name == changed {
                    let values = param.to_vec();
                    set(param, values.iter().map(|value| 1.5 * value).collect());
                }
            });
            export(&other, None, &path, &Options::default()).unwrap();
            let error = deviation(&computed(&path, shape)["features"], &features);
            assert!(error > 1e-4, "{changed}: {error}");
        }
    }
}

#[test]
fn a_file_has_the_logits_of_a_head_and_says_what_network_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.onnx");
    for (config, kind) in configs().iter().zip(["resnet", "resnet", "convnext"]) {
        let network = network(config);
        let sizes = HeadConfig {
            out_dim: 10,
            hidden_dim: 16,
            bottleneck_dim: 6,
            ..HeadConfig::default()
        };
        let head = Head::new(&sizes, network.width(), &mut Init::new(1), &device()).unwrap();
        let report = export(&network, Some(&head), &path, &Options::default()).unwrap();
        let names: Vec<_> = report.outputs.iter().map(|o| o.name.as_str()).collect();
        assert_eq!(names, ["features", "logits"]);
        let shape = [2, 3, 64, 64];
        let logits =
            head.forward(network.features(vec![input(shape)], Feature::Class, &NoDropPath));
        let expected = (vec![2, 10], to_host_f32(logits));
        let error = deviation(&computed(&path, shape)["logits"], &expected);
        assert!(error < 2e-5, "{error}");
        let bytes = std::fs::read(&path).unwrap();
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        let key = [&[0x0a, kind.len() as u8], kind.as_bytes(), &[0x12]].concat();
        assert!(holds(&key), "{kind}");
    }
}

#[test]
fn attention_is_refused() {
    let options = Options {
        attention: true,
        ..Options::default()
    };
    for config in configs() {
        let written = export(&network(&config), None, Path::new("none.onnx"), &options);
        let error = written.unwrap_err().to_string();
        assert!(error.contains("has no attention maps"), "{error}");
    }
    assert!(!Path::new("none.onnx").exists());
}
