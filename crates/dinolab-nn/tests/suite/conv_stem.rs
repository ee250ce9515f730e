//! Transformers with a convolutional stem against timm's.
//!
//! `fixtures/stem` was made by `benches/peers/stem_fixtures.py`: two small networks, images, and what PyTorch
//! makes of them, in evaluation and in training.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::device;
use crate::common::fixtures::{error, images};
use burn::tensor::{Device, Tensor, TensorData};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::weights::{self, Array, Backbone, Kind, LoadOptions, Naming, Weights};
use dinolab_nn::{Parameters, Vit};

type Arrays = BTreeMap<String, Array>;

const PATCHES: [usize; 2] = [8, 16];

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/stem")
        .join(file)
}

fn expected(patch: usize) -> Arrays {
    let path = fixture(&format!("expected-{patch}.safetensors"));
    weights::read_arrays(&path).unwrap().0
}

fn read(patch: usize) -> Weights {
    let path = fixture(&format!("timm-{patch}.safetensors"));
    weights::read(&path, None).unwrap()
}

fn network(weights: &Weights, device: &Device) -> Vit {
    let config = weights.vit_config(None).unwrap();
    let mut network = Vit::new(&config, &mut Init::new(0), device).unwrap();
    let report = weights::load(&mut network, "backbone", weights, LoadOptions::default()).unwrap();
    assert!(report.missing.is_empty() && report.left_over.is_empty());
    network
}

#[test]
fn features_are_those_of_timm_at_every_size() {
    for patch in PATCHES {
        let (weights, expected) = (read(patch), expected(patch));
        let network = network(&weights, &device());
        let config = network.config();
        assert!(config.conv_stem && config.patch_size == patch && config.heads == 2);
        let sizes = expected.keys().filter_map(|k| k.strip_prefix("image."));
        let mut compared = 0;
        for size in sizes {
            let image = images(&expected[&format!("image.{size}")], &device());
            let ours = to_host_f32(network.forward(image));
            let off = error(&ours, &expected[&format!("features.{size}")].data);
            assert!(off < 1e-5, "{patch} {size}: {off}");
            compared += 1;
        }
        assert_eq!(compared, 3);
    }
}

#[test]
fn training_has_the_features_and_gradients_of_pytorch() {
    let recording = device().autodiff();
    for patch in PATCHES {
        let (weights, expected) = (read(patch), expected(patch));
        let network = network(&weights, &recording);
        let layers = network.config().stem_kernels().len();
        let views = [0, 1].map(|i| images(&expected[&format!("view.{i}")], &recording));
        let features = network.forward_views(views.to_vec(), &NoDropPath);
        let found = to_host_f32(features.clone().inner());
        let off = error(&found, &expected["training.features"].data);
        assert!(off < 1e-5, "{patch}: {off}");
        let along = &expected["along"];
        let along = TensorData::new(along.data.clone(), along.shape.clone());
        let along = Tensor::from_data(along, &recording);
        let mut gradients = (features * along).sum().backward();
        let mut ours = Arrays::new();
        network.visit("", &mut |name, param| {
            let gradient = param.take_grad(&mut gradients).unwrap();
            let array = Array {
                shape: param.shape().to_vec(),
                data: to_host_f32(gradient),
            };
            ours.insert(name.to_owned(), array);
        });
        let mut compared = 0;
        for (name, theirs) in &expected {
            let Some(name) = name.strip_prefix("gradient.") else {
                continue;
            };
            let own = own_name(name, layers);
            let off = error(&ours[&own].data, &theirs.data);
            assert!(off < 1e-4, "{patch} {name}: {off}");
            compared += 1;
        }
        assert_eq!(compared, ours.len());
    }
}

/// This program's name of one of timm's tensors, of a stem with `layers` convolutions before the patch embedding.
fn own_name(timm: &str, layers: usize) -> String {
    match timm.split('.').collect::<Vec<_>>()[..] {
        ["patch_embed", "backbone", layer, "conv", last] if layer == layers.to_string() => {
            format!("patch_embed.proj.{last}")
        }
        ["patch_embed", "backbone", layer, "conv", last] => {
            format!("patch_embed.stem.{layer}.conv.{last}")
        }
        ["patch_embed", "backbone", layer, "bn", last] => {
            format!("patch_embed.stem.{layer}.norm.{last}")
        }
        _ => timm.to_owned(),
    }
}

#[test]
fn files_by_every_name_hold_the_same_network() {
    let folder = tempfile::tempdir().unwrap();
    for patch in PATCHES {
        let weights = read(patch);
        let network = network(&weights, &device());
        let backbone = Backbone::new(&network, &BTreeMap::new(), None);
        let own = folder.path().join("own.pth");
        backbone.write_pth(&own, Naming::Reference).unwrap();
        let timm = folder.path().join("timm.safetensors");
        backbone.write_safetensors(&timm, Naming::Timm).unwrap();
        let original = weights::read_arrays(&fixture(&format!("timm-{patch}.safetensors")));
        assert_eq!(weights::read_arrays(&timm).unwrap().0, original.unwrap().0);
        for path in [own, timm] {
            let again = weights::read(&path, None).unwrap();
            assert_eq!(again.arrays, weights.arrays, "{}", path.display());
            assert!(again.vit_config(Some(2)).unwrap().conv_stem);
        }
    }
}

#[test]
fn classes_without_such_a_stem_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let network = network(&read(16), &device());
    let backbone = Backbone::new(&network, &BTreeMap::new(), None);
    let kind = Naming::HuggingFace(Kind::of(network.config()));
    let place = folder.path().join("model");
    for error in [
        backbone.check(kind).unwrap_err(),
        backbone.write_folder(&place, Naming::Timm).unwrap_err(),
    ] {
        assert!(error.to_string().contains("convolutional stem"), "{error}");
    }
    assert!(!place.exists());
    backbone.check(Naming::Timm).unwrap();
}

#[test]
fn stems_that_are_computed_otherwise_are_refused() {
    let refused = |edit: fn(&mut Arrays), with: &str| {
        let mut weights = read(16);
        edit(&mut weights.arrays);
        let error = weights.vit_config(Some(2)).unwrap_err().to_string();
        assert!(error.contains(with), "{error}");
    };
    refused(
        |arrays| {
            let name = "backbone.patch_embed.stem.1.conv.weight";
            arrays.get_mut(name).unwrap().shape = vec![8, 4, 9, 1];
        },
        "patch_embed.stem.1.conv.weight has shape [8, 4, 9, 1], not [8, 4, 3, 3]",
    );
    refused(
        |arrays| {
            arrays.remove("backbone.patch_embed.stem.0.norm.bias");
        },
        "has no tensor backbone.patch_embed.stem.0.norm.bias",
    );
    // Without its second layer it would be a stem of patches of 8 px.
    refused(
        |arrays| {
            arrays.remove("backbone.patch_embed.stem.1.conv.weight");
        },
        "patch_embed.stem.0.conv.weight has shape",
    );
    // Batch normalisation, as timm's own default, is not there.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("batch.safetensors");
    let (mut arrays, _) = weights::read_arrays(&fixture("timm-16.safetensors")).unwrap();
    let mean = Array {
        shape: vec![4],
        data: vec![0.0; 4],
    };
    arrays.insert("patch_embed.backbone.0.bn.running_mean".into(), mean);
    std::fs::write(&path, weights::to_bytes(&arrays, &BTreeMap::new()).unwrap()).unwrap();
    let error = weights::read(&path, None).unwrap_err().to_string();
    assert!(
        error.contains("patch_embed.stem.0.norm.running_mean"),
        "{error}"
    );
}
