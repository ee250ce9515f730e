//! ConvNeXts against timm's and transformers' classes.
//!
//! `fixtures/convnext` was made by `benches/peers/convnext_fixtures.py`: one small network in the files of
//! four classes, images, and what PyTorch makes of them, in evaluation and in training.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::device;
use crate::common::fixtures::{error, images};
use burn::tensor::{Device, Tensor, TensorData};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::vit::{DropPath, NoDropPath};
use dinolab_nn::weights::{
    self, Array, ConvolutionalBackbone, ConvolutionalNaming, LoadOptions, Weights,
};
use dinolab_nn::{
    AnyBackbone, Backbone, BackboneConfig, ConvNext, ConvNextConfig, Feature, Parameters, backbone,
};

type Arrays = BTreeMap<String, Array>;

/// The same network by the names and shapes of timm, Hugging Face and DINOv3.
const FILES: [&str; 4] = ["timm.safetensors", "timm-conv.pth", "hf", "dinov3"];

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/convnext")
        .join(file)
}

fn expected() -> Arrays {
    weights::read_arrays(&fixture("expected.safetensors"))
        .unwrap()
        .0
}

fn read(file: &str) -> Weights {
    weights::read(&fixture(file), None).unwrap()
}

fn network(file: &str, device: &Device) -> AnyBackbone {
    let weights = read(file);
    let config = weights.backbone_config(None).unwrap();
    let mut network = AnyBackbone::new(&config, &mut Init::new(0), device).unwrap();
    let report = weights::load(&mut network, "backbone", &weights, LoadOptions::default()).unwrap();
    assert!(report.missing.is_empty() && report.left_over.is_empty());
    network
}

#[test]
fn features_and_tokens_are_those_of_timm_and_transformers_at_every_size() {
    let expected = expected();
    for file in FILES {
        let network = network(file, &device());
        let sizes = expected.keys().filter_map(|k| k.strip_prefix("image."));
        let mut compared = 0;
        for size in sizes {
            let image = images(&expected[&format!("image.{size}")], &device());
            let theirs = &expected[&format!("features.{size}")].data;
            let ours = network.features(vec![image.clone()], Feature::Class, &NoDropPath);
            let off = error(&to_host_f32(ours), theirs);
            assert!(off < 1e-5, "{file} {size}: {off}");
            // DINOv3's class and patch tokens in one.
            let tokens = network.tokens(image.clone());
            let [b, n, d] = tokens.patches.dims();
            assert_eq!(tokens.grid.0 * tokens.grid.1, n);
            let class = tokens.class.clone().reshape([b, 1, d]);
            let all = Tensor::cat(vec![class, tokens.patches.clone()], 1);
            let theirs = &expected[&format!("tokens.{size}")].data;
            let off = error(&to_host_f32(all), theirs);
            assert!(off < 1e-5, "{file} {size}: {off}");
            for feature in [Feature::Patches, Feature::Both] {
                let found = network.features(vec![image.clone()], feature, &NoDropPath);
                let of_tokens = to_host_f32(tokens.feature(feature));
                assert!(error(&to_host_f32(found), &of_tokens) < 1e-6);
            }
            compared += 1;
        }
        assert_eq!(compared, 3);
    }
}

#[test]
fn training_has_the_features_and_gradients_of_pytorch() {
    let recording = device().autodiff();
    let network = network("timm.safetensors", &recording);
    let expected = expected();
    let views = [0, 1].map(|i| images(&expected[&format!("view.{i}")], &recording));
    let features = network.training_features(views.to_vec(), Feature::Class, &NoDropPath);
    let off = error(
        &to_host_f32(features.clone().inner()),
        &expected["training.features"].data,
    );
    assert!(off < 1e-5, "{off}");
    let along = &expected["along"];
    let along = TensorData::new(along.data.clone(), along.shape.clone());
    let mut gradients = (features * Tensor::from_data(along, &recording))
        .sum()
        .backward();
    let timm = timm_names(&read("timm.safetensors"));
    let mut compared = 0;
    network.visit("", &mut |name, param| {
        let ours = to_host_f32(param.take_grad(&mut gradients).unwrap());
        let theirs = &expected[&format!("gradient.{}", timm[name])].data;
        let off = error(&ours, theirs);
        assert!(off < 2e-4, "{name}: {off}");
        compared += 1;
    });
    assert_eq!(compared, timm.len());
}

/// timm's name of each tensor, found by their values.
fn timm_names(weights: &Weights) -> BTreeMap<String, String> {
    let export = ConvolutionalBackbone::new(weights, &BTreeMap::new()).unwrap();
    let original = export.named(ConvolutionalNaming::Original);
    let timm = export.named(ConvolutionalNaming::Timm);
    let name_of = |array: &Array| {
        let mut same = timm.iter().filter(|(_, other)| other.data == array.data);
        same.next().unwrap().0.clone()
    };
    original
        .iter()
        .map(|(name, array)| (name.clone(), name_of(array)))
        .collect()
}

/// Drops the MLP of all blocks for images of odd number.
struct Odd(usize);

impl DropPath for Odd {
    fn factors(&self, _: usize, branch: usize) -> Option<Vec<f32>> {
        assert_eq!(branch, 1);
        Some((0..self.0).map(|i| [1.0, 0.0][i % 2]).collect())
    }
}

#[test]
fn stochastic_depth_counts_images_over_views_of_all_sizes() {
    let network = network("timm.safetensors", &device());
    let expected = expected();
    let views: Vec<_> = [0, 1]
        .map(|i| images(&expected[&format!("view.{i}")], &device()))
        .into();
    let rows = |x: Tensor<2>| -> Vec<Vec<f32>> {
        let d = x.dims()[1];
        to_host_f32(x).chunks(d).map(<[f32]>::to_vec).collect()
    };
    let whole = rows(network.class_tokens(views.clone(), &NoDropPath));
    let dropped = rows(network.class_tokens(views, &Odd(8)));
    for (i, (whole, dropped)) in whole.iter().zip(&dropped).enumerate() {
        assert_eq!(error(dropped, whole) < 1e-6, i % 2 == 0, "{i}");
    }
}

#[test]
fn layer_scale_starts_by_the_number_of_blocks_in_all_stages() {
    let initial = |depths: [usize; 4]| {
        let config = ConvNextConfig {
            widths: [8, 8, 16, 16],
            depths,
            ..ConvNextConfig::default()
        };
        let network = ConvNext::new(&config, &mut Init::new(0), &device()).unwrap();
        let mut found = Vec::new();
        network.visit("", &mut |name, param| {
            if name.ends_with(".gamma") {
                found.extend(param.to_vec());
            }
        });
        let width = |(width, depth)| width * depth;
        let sizes = config.widths.into_iter().zip(depths);
        assert_eq!(found.len(), sizes.map(width).sum::<usize>());
        assert!(found.iter().all(|value| *value == found[0]), "{depths:?}");
        found[0]
    };
    let depths = [[3, 3, 9, 3], [3, 3, 10, 3], [3, 3, 27, 3]];
    assert_eq!(depths.map(initial), [0.1, 1e-5, 1e-6]);
}

#[test]
fn small_images_have_one_position() {
    let network = network("timm.safetensors", &device());
    let image = Tensor::<4>::ones([2, 3, 20, 40], &device());
    let tokens = network.tokens(image);
    assert_eq!(tokens.grid, (1, 1));
    assert!(to_host_f32(tokens.class).iter().all(|x| x.is_finite()));
}

#[test]
fn written_names_and_shapes_are_those_of_the_libraries() {
    for file in FILES {
        let weights = read(file);
        let export = ConvolutionalBackbone::new(&weights, &BTreeMap::new()).unwrap();
        for (naming, theirs) in [
            (ConvolutionalNaming::Timm, "timm.safetensors"),
            (ConvolutionalNaming::HuggingFace, "hf/model.safetensors"),
        ] {
            let theirs = weights::read_arrays(&fixture(theirs)).unwrap().0;
            assert_eq!(export.named(naming), theirs, "{file} as {naming:?}");
        }
    }
    // timm's small sizes have convolutions in place of linear layers.
    let config = ConvNextConfig::named("convnext_atto").unwrap();
    let network = ConvNext::new(&config, &mut Init::new(0), &device()).unwrap();
    let arrays = weights::arrays(&network, "backbone");
    let atto = Weights {
        arrays,
        ..Weights::default()
    };
    let export = ConvolutionalBackbone::new(&atto, &BTreeMap::new()).unwrap();
    let timm = export.named(ConvolutionalNaming::Timm);
    assert_eq!(
        timm["stages.0.blocks.0.mlp.fc1.weight"].shape,
        [160, 40, 1, 1]
    );
}

#[test]
fn folders_are_written_and_read_again() {
    for naming in [ConvolutionalNaming::Timm, ConvolutionalNaming::HuggingFace] {
        let original = read("hf");
        let folder = tempfile::tempdir().unwrap();
        let export = ConvolutionalBackbone::new(&original, &BTreeMap::new()).unwrap();
        export.write_folder(folder.path(), naming).unwrap();
        let again = weights::read(folder.path(), None).unwrap();
        assert_eq!(again.arrays, original.arrays);
        // With the epsilon of Hugging Face's final norm.
        let (ours, theirs) = (again.backbone_config(None), original.backbone_config(None));
        assert_eq!(ours.unwrap(), theirs.unwrap());
        assert!(again.metadata["preprocess"].contains("\"crop\":224"));
    }
}

#[test]
fn what_it_lacks_is_refused_by_type() {
    let network = network("timm.safetensors", &device());
    for (error, lacking) in [
        (backbone::attention_maps(&network).err(), "attention maps"),
        (
            backbone::block_tokens(&network).err(),
            "tokens of several blocks",
        ),
        (network.vit().err(), "transformer blocks"),
    ] {
        let text = error.unwrap().to_string();
        assert!(text.starts_with("a ConvNeXt of width 10 has no"), "{text}");
        assert!(text.contains(lacking), "{text}");
    }
}

/// Writes arrays under other names, with a configuration next to them, and reads them back.
fn renamed(
    arrays: &Arrays,
    config: Option<&str>,
    rename: impl Fn(&str) -> String,
) -> dinolab_nn::Result<Weights> {
    let folder = tempfile::tempdir().unwrap();
    let renamed = arrays
        .iter()
        .map(|(name, array)| (rename(name), array.clone()));
    let bytes = weights::to_bytes(&renamed.collect(), &BTreeMap::new()).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    if let Some(config) = config {
        std::fs::write(folder.path().join("config.json"), config).unwrap();
    }
    let weights = weights::read(folder.path(), None)?;
    weights.backbone_config(None)?;
    Ok(weights)
}

#[test]
fn prefixes_heads_and_classifiers_are_told_apart() {
    let wanted = read("timm.safetensors").arrays;
    let classifier = Array {
        shape: vec![1],
        data: vec![0.0],
    };
    let files = [
        ("timm.safetensors", "head.fc.bias"),
        ("hf/model.safetensors", "classifier.bias"),
        ("dinov3/model.safetensors", "classifier.bias"),
    ];
    for (file, name) in files {
        let mut arrays = weights::read_arrays(&fixture(file)).unwrap().0;
        arrays.insert(name.into(), classifier.clone());
        for prefix in ["", "module.", "teacher.backbone."] {
            let weights = renamed(&arrays, None, |name| format!("{prefix}{name}")).unwrap();
            for (name, array) in &wanted {
                assert_eq!(
                    weights.arrays.get(name),
                    Some(array),
                    "{file} {prefix}{name}"
                );
            }
            assert_eq!(weights.arrays.len(), wanted.len() + 1, "{file} {prefix}");
        }
    }
    // A classifier of transformers precedes the names of the backbone.
    let hf = weights::read_arrays(&fixture("hf/model.safetensors"))
        .unwrap()
        .0;
    let inside = renamed(&hf, None, |name| format!("convnext.{name}")).unwrap();
    assert_eq!(inside.arrays, wanted);
    // The names of DINOv3's class in memory.
    let dinov3 = weights::read_arrays(&fixture("dinov3/model.safetensors"))
        .unwrap()
        .0;
    let in_memory = |name: &str| match name.starts_with("layer_norm") {
        true => name.to_owned(),
        false => format!("model.{name}"),
    };
    let read = renamed(&dinov3, None, in_memory).unwrap();
    assert_eq!(read.arrays, wanted);
    // The authors' names, with DINOv3's second copy of the final norm.
    let local = |name: &str| name.strip_prefix("backbone.").unwrap().to_owned();
    let mut plain: Arrays = wanted
        .iter()
        .map(|(name, array)| (local(name), array.clone()))
        .collect();
    for part in ["weight", "bias"] {
        let copy = plain[&format!("norm.{part}")].clone();
        plain.insert(format!("norms.3.{part}"), copy);
    }
    let read = renamed(&plain, None, str::to_owned).unwrap();
    assert_eq!(read.arrays, wanted);
}

/// As timm writes it for the Hugging Face Hub.
#[test]
fn a_folder_of_timm_says_how_its_images_are_prepared() {
    let arrays = weights::read_arrays(&fixture("timm.safetensors"))
        .unwrap()
        .0;
    let config = r#"{"architecture": "convnext_atto", "global_pool": "avg",
        "model_args": {"in_chans": 3, "num_classes": 0, "global_pool": "avg"},
        "pretrained_cfg": {"input_size": [3, 160, 160], "crop_pct": 1.0,
            "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}}"#;
    let found = renamed(&arrays, Some(config), str::to_owned).unwrap();
    let prepared = &found.metadata["preprocess"];
    assert!(
        prepared.contains("\"resize\":160,\"crop\":160"),
        "{prepared}"
    );
}

#[test]
fn networks_that_would_be_computed_wrongly_are_refused() {
    let local = |name: &str| name.strip_prefix("backbone.").unwrap().to_owned();
    let arrays: Arrays = read("timm.safetensors")
        .arrays
        .iter()
        .map(|(name, array)| (local(name), array.clone()))
        .collect();
    let refused = |arrays: &Arrays, config: Option<&str>, what: &str| {
        let told = renamed(arrays, config, str::to_owned).unwrap_err();
        let told = told.to_string();
        assert!(told.contains(what), "{told}");
    };
    let some = arrays["norm.weight"].clone();
    for extra in ["stages.0.0.grn.gamma", "norm_pre.weight", "stem.2.weight"] {
        let mut other = arrays.clone();
        other.insert(extra.into(), some.clone());
        refused(&other, None, &format!("the first is {extra}"));
    }
    let mut lacking = arrays.clone();
    lacking.remove("stages.2.1.gamma");
    refused(&lacking, None, "has no tensor stages.2.1.gamma");
    let mut other = arrays.clone();
    let kernel = other.get_mut("stages.1.0.dwconv.weight").unwrap();
    kernel.shape = vec![1, 8, 7, 7];
    refused(&other, None, "stages.1.0.dwconv.weight has shape");
    let mut flat = arrays.clone();
    flat.get_mut("downsample_layers.0.0.weight").unwrap().shape = vec![5 * 48];
    refused(&flat, None, "tensor downsample_layers.0.0.weight has shape");
    for (config, entry) in [
        (r#"{"model_type": "convnextv2"}"#, "model_type convnextv2"),
        (r#"{"hidden_act": "relu"}"#, "hidden_act relu"),
        (
            r#"{"model_type": "dinov3_convnext", "layer_norm_eps": 0.001}"#,
            "layer_norm_eps 0.001",
        ),
        (
            r#"{"architecture": "convnext_xxlarge"}"#,
            "architecture convnext_xxlarge",
        ),
        (
            r#"{"architecture": "convnext_tiny", "model_args": {"norm_eps": 0.001}}"#,
            "model_args norm_eps",
        ),
    ] {
        refused(&arrays, Some(config), entry);
    }
}

#[test]
fn impossible_sizes_are_errors() {
    let usual = ConvNextConfig::default;
    for config in [
        ConvNextConfig {
            depths: [1, 0, 1, 1],
            ..usual()
        },
        ConvNextConfig {
            widths: [0, 1, 1, 1],
            ..usual()
        },
        ConvNextConfig {
            layer_norm_eps: f64::NAN,
            ..usual()
        },
    ] {
        assert!(ConvNext::new(&config, &mut Init::new(0), &device()).is_err());
    }
    let named = BackboneConfig::convolutional("convnext_tiny", 4).unwrap();
    assert_eq!(named.convolutional_name(), Some("convnext_tiny"));
    assert_eq!((named.channels(), named.stride()), (4, 32));
}
