//! Residual networks against torchvision's blocks.
//!
//! `fixtures/resnet` was made by `benches/peers/resnet_fixtures.py`: small networks, images, and what
//! PyTorch makes of them, in evaluation and in training.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::device;
use crate::common::fixtures::{error, images};
use burn::tensor::{Device, Tensor, TensorData};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::weights::{
    self, Array, ConvolutionalBackbone, ConvolutionalNaming, LoadOptions, Weights,
};
use dinolab_nn::{
    AnyBackbone, Backbone, BackboneConfig, Feature, HeadConfig, Parameters, ResNet, ResNetConfig,
    backbone,
};

type Arrays = BTreeMap<String, Array>;

const FOLDERS: [&str; 2] = ["basic", "bottleneck"];

fn fixture(folder: &str, file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/resnet");
    root.join(folder).join(file)
}

fn expected(folder: &str) -> Arrays {
    weights::read_arrays(&fixture(folder, "expected.safetensors"))
        .unwrap()
        .0
}

fn read(folder: &str) -> Weights {
    weights::read(&fixture(folder, "model.pth"), None).unwrap()
}

fn network(folder: &str, device: &Device) -> AnyBackbone {
    let weights = read(folder);
    let config = weights.backbone_config(None).unwrap();
    let mut network = AnyBackbone::new(&config, &mut Init::new(0), device).unwrap();
    let report = weights::load(&mut network, "backbone", &weights, LoadOptions::default()).unwrap();
    assert!(report.missing.is_empty() && report.left_over.is_empty());
    network
}

/// torchvision's name under Hugging Face's.
fn hugging_face(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let kind = |text: &str| {
        if text.starts_with("bn") {
            "normalization"
        } else {
            "convolution"
        }
    };
    let before = |text: &str| text[text.len() - 1..].parse::<usize>().unwrap() - 1;
    let rest = match parts[..] {
        [stem, last] => format!("embedder.embedder.{}.{last}", kind(stem)),
        [stage, block, "downsample", at, last] => format!(
            "encoder.stages.{}.layers.{block}.shortcut.{}.{last}",
            before(stage),
            if at == "0" {
                "convolution"
            } else {
                "normalization"
            }
        ),
        [stage, block, layer, last] => format!(
            "encoder.stages.{}.layers.{block}.layer.{}.{}.{last}",
            before(stage),
            before(layer),
            kind(layer)
        ),
        _ => panic!("{name}"),
    };
    format!("resnet.{rest}")
}

/// Names as of `ResNetForImageClassification`; parity with the library is checked by
/// `benches/peers/resnet_check.py`.
#[test]
fn folders_of_hugging_face_and_timm_are_read_or_refused_by_their_configuration() {
    for folder in FOLDERS {
        let wanted = read(folder);
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let named = |name: &String| name.strip_prefix("backbone.").unwrap().to_owned();
        let plain: Arrays = wanted
            .arrays
            .iter()
            .map(|(k, v)| (named(k), v.clone()))
            .collect();
        let mut theirs: Arrays = plain
            .iter()
            .map(|(k, v)| (hugging_face(k), v.clone()))
            .collect();
        let classifier = Array {
            shape: vec![1],
            data: vec![0.0],
        };
        theirs.insert("classifier.1.bias".into(), classifier);
        let write = |arrays: &Arrays| {
            let bytes = weights::to_bytes(arrays, &BTreeMap::new()).unwrap();
            std::fs::write(at("model.safetensors"), bytes).unwrap();
        };
        let config = |text: &str| {
            std::fs::write(at("config.json"), text).unwrap();
            weights::read(root.path(), None)
        };
        write(&theirs);
        let processor = r#"{"size": {"shortest_edge": 224}, "crop_pct": 0.875,
            "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}"#;
        std::fs::write(at("preprocessor_config.json"), processor).unwrap();
        let found = config(r#"{"model_type": "resnet", "hidden_act": "relu"}"#).unwrap();
        for (name, array) in &wanted.arrays {
            assert_eq!(found.arrays.get(name), Some(array), "{name}");
        }
        assert_eq!(
            found.backbone_config(None).unwrap(),
            wanted.backbone_config(None).unwrap()
        );
        let prepared = &found.metadata["preprocess"];
        assert!(
            prepared.contains("\"resize\":256,\"crop\":224"),
            "{prepared}"
        );
        for (text, entry) in [
            (r#"{"model_type": "regnet"}"#, "model_type regnet"),
            (r#"{"hidden_act": "silu"}"#, "hidden_act silu"),
            (
                r#"{"downsample_in_bottleneck": true}"#,
                "downsample_in_bottleneck",
            ),
            (
                r#"{"downsample_in_first_stage": true}"#,
                "downsample_in_first_stage",
            ),
        ] {
            let told = config(text).unwrap_err().to_string();
            assert!(
                told.contains(entry) && told.contains("config.json"),
                "{told}"
            );
        }
        std::fs::remove_file(at("preprocessor_config.json")).unwrap();
        write(&plain);
        let images = r#""pretrained_cfg": {"input_size": [3, 160, 160], "crop_pct": 1.0,
            "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}"#;
        let timm = |rest: &str| config(&format!("{{{rest}, {images}}}"));
        let found = timm(r#""architecture": "resnet50.a1_in1k", "model_args": {"in_chans": 3}"#);
        let prepared = &found.unwrap().metadata["preprocess"];
        assert!(
            prepared.contains("\"resize\":160,\"crop\":160"),
            "{prepared}"
        );
        // With the same tensors, and other pooling or strides.
        for (rest, entry) in [
            (
                r#""architecture": "resnetblur50""#,
                "architecture resnetblur50",
            ),
            (
                r#""architecture": "resnet50", "model_args": {"output_stride": 8}"#,
                "output_stride",
            ),
        ] {
            let told = timm(rest).unwrap_err().to_string();
            assert!(told.contains(entry), "{told}");
        }
    }
}

#[test]
fn features_are_those_of_torchvision_at_every_size() {
    for folder in FOLDERS {
        let network = network(folder, &device());
        let expected = expected(folder);
        let sizes: Vec<_> = expected
            .keys()
            .filter_map(|k| k.strip_prefix("image."))
            .collect();
        assert_eq!(sizes.len(), 3);
        for size in sizes {
            let image = images(&expected[&format!("image.{size}")], &device());
            let theirs = &expected[&format!("features.{size}")].data;
            for feature in [Feature::Class, Feature::Patches] {
                let ours = network.features(vec![image.clone()], feature, &NoDropPath);
                let off = error(&to_host_f32(ours), theirs);
                assert!(off < 1e-5, "{folder} {size}: {off}");
            }
            let both = network.features(vec![image], Feature::Both, &NoDropPath);
            assert_eq!(both.dims(), [1, 2 * network.width()]);
        }
    }
}

#[test]
fn patches_are_the_last_grid_and_their_mean_the_feature() {
    let network = network("bottleneck", &device());
    let image = images(&expected("bottleneck")["image.48x48"], &device());
    // Without what is beyond whole strides.
    let tokens = network.tokens(image.clone());
    assert_eq!(tokens.grid, (1, 1));
    let whole = image.clone().narrow(2, 0, 32).narrow(3, 0, 32);
    let feature = network.features(vec![whole], Feature::Class, &NoDropPath);
    assert!(error(&to_host_f32(tokens.class), &to_host_f32(feature)) < 1e-6);
    let wide = image.repeat_dim(3, 3);
    let tokens = network.tokens(wide);
    assert_eq!(tokens.grid, (1, 4));
    assert_eq!(tokens.patches.dims(), [1, 4, network.width()]);
}

#[test]
fn training_has_the_features_gradients_and_running_statistics_of_pytorch() {
    for folder in FOLDERS {
        let recording = device().autodiff();
        let network = network(folder, &recording);
        let expected = expected(folder);
        let views = [0, 1].map(|i| images(&expected[&format!("view.{i}")], &recording));
        let before = weights::arrays(&network, "");
        let features = network.training_features(views.to_vec(), Feature::Class, &NoDropPath);
        let off = error(
            &to_host_f32(features.clone().inner()),
            &expected["training.features"].data,
        );
        assert!(off < 1e-5, "{folder}: {off}");
        let along = &expected["along"];
        let along = TensorData::new(along.data.clone(), along.shape.clone());
        let mut gradients = (features * Tensor::from_data(along, &recording))
            .sum()
            .backward();
        let mut compared = 0;
        network.visit("", &mut |name, param| {
            if param.trainable() {
                let ours = to_host_f32(param.take_grad(&mut gradients).unwrap());
                let off = error(&ours, &expected[&format!("gradient.{name}")].data);
                assert!(off < 2e-4, "{folder} {name}: {off}");
            } else {
                let theirs = &expected[&format!("after.{name}")].data;
                assert!(error(&param.to_vec(), theirs) < 1e-5, "{folder} {name}");
                assert_ne!(param.to_vec(), before[name].data);
            }
            compared += 1;
        });
        assert_eq!(compared, before.len());
    }
}

#[test]
fn using_a_network_leaves_its_running_statistics() {
    let network = network("basic", &device());
    let before = weights::arrays(&network, "");
    let image = images(&expected("basic")["image.48x48"], &device());
    network.tokens(image.clone());
    network.class_tokens(vec![image.clone()], &NoDropPath);
    assert_eq!(weights::arrays(&network, ""), before);
    // A copy has statistics of its own.
    let copy = network.clone();
    copy.training_features(vec![image], Feature::Class, &NoDropPath);
    assert_eq!(weights::arrays(&network, ""), before);
    assert_ne!(weights::arrays(&copy, ""), before);
}

#[test]
fn what_it_lacks_is_refused_by_type() {
    let network = network("basic", &device());
    for (error, lacking) in [
        (backbone::attention_maps(&network).err(), "attention maps"),
        (
            backbone::block_tokens(&network).err(),
            "tokens of several blocks",
        ),
        (network.vit().err(), "transformer blocks"),
    ] {
        let text = error.unwrap().to_string();
        assert!(
            text.starts_with("a residual network of width 32 has no"),
            "{text}"
        );
        assert!(text.contains(lacking), "{text}");
    }
}

/// Writes arrays under other names and reads them back.
fn renamed(
    arrays: &Arrays,
    rename: impl Fn(&str) -> Option<String>,
) -> dinolab_nn::Result<Weights> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let renamed = arrays
        .iter()
        .filter_map(|(name, array)| Some((rename(name)?, array.clone())));
    let bytes = weights::to_bytes(&renamed.collect(), &BTreeMap::new()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let weights = weights::read(&path, None)?;
    weights.backbone_config(None)?;
    Ok(weights)
}

#[test]
fn prefixes_heads_and_classifiers_are_told_apart() {
    let network = network("basic", &device());
    let arrays = weights::arrays(&network, "");
    let same = |weights: &Weights| {
        for (name, array) in &arrays {
            assert_eq!(&weights.arrays[&format!("backbone.{name}")], array);
        }
    };
    let wrapped = renamed(&arrays, |name| Some(format!("state_dict.module.{name}"))).unwrap();
    same(&wrapped);
    // As in a checkpoint of the reference: both networks, each with a head.
    let config = ResNetConfig {
        width: 4,
        blocks: [1, 2, 1, 1],
        bottleneck: false,
        ..ResNetConfig::default()
    };
    let head = HeadConfig {
        out_dim: 6,
        hidden_dim: 8,
        bottleneck_dim: 5,
        ..HeadConfig::default()
    };
    let head_of = <dinolab_nn::Head as dinolab_nn::ProjectionHead>::new(
        &head,
        config.features(),
        &mut Init::new(1),
        &device(),
    )
    .unwrap();
    let mut both = Arrays::new();
    for role in ["student.module", "teacher"] {
        both.extend(weights::arrays(&network, &format!("{role}.backbone")));
        both.extend(weights::arrays(&head_of, &format!("{role}.head")));
    }
    let teacher = renamed(&both, |name| Some(name.to_owned())).unwrap();
    same(&teacher);
    assert_eq!(teacher.role, Some(weights::NetworkRole::Teacher));
    assert_eq!(teacher.head_config(), Some(head));
    assert_eq!(
        teacher.backbone_config(None).unwrap(),
        BackboneConfig::ResNet(config)
    );
    // A classifier is left over.
    let mut classifier = arrays.clone();
    classifier.insert(
        "fc.weight".into(),
        Array {
            shape: vec![3, 32],
            data: vec![0.0; 96],
        },
    );
    let weights = renamed(&classifier, |name| Some(name.to_owned())).unwrap();
    same(&weights);
    let mut again = network.clone();
    let report = weights::load(&mut again, "backbone", &weights, LoadOptions::default()).unwrap();
    assert_eq!(report.left_over, ["backbone.fc.weight"]);
}

#[test]
fn networks_that_would_be_computed_wrongly_are_refused() {
    let arrays = weights::arrays(&network("basic", &device()), "");
    let keep = |name: &str| Some(name.to_owned());
    let refused = |arrays: &Arrays, what: &str| {
        let text = renamed(arrays, keep).unwrap_err().to_string();
        assert!(text.contains(what), "{text}");
    };
    let mut excited = arrays.clone();
    let some = arrays["bn1.weight"].clone();
    excited.insert("layer1.0.se.fc1.weight".into(), some);
    refused(&excited, "the first is layer1.0.se.fc1.weight");
    let mut lacking = arrays.clone();
    lacking.remove("layer2.1.bn2.running_var");
    refused(&lacking, "has no tensor layer2.1.bn2.running_var");
    let mut other = arrays.clone();
    other.get_mut("layer3.0.conv2.weight").unwrap().shape = vec![8, 32, 3, 3];
    refused(&other, "layer3.0.conv2.weight has shape [8, 32, 3, 3]");
    let mut wide = arrays;
    wide.get_mut("conv1.weight").unwrap().shape = vec![4 * 3 * 49];
    refused(&wide, "tensor conv1.weight has shape");
}

#[test]
fn impossible_sizes_are_errors() {
    for config in [
        ResNetConfig {
            blocks: [1, 0, 1, 1],
            ..ResNetConfig::default()
        },
        ResNetConfig {
            width: 0,
            ..ResNetConfig::default()
        },
    ] {
        assert!(ResNet::new(&config, &mut Init::new(0), &device()).is_err());
    }
    assert!(ResNetConfig::named("resnet20").is_none());
}

#[test]
fn folders_are_written_for_hugging_face_and_timm() {
    for folder in FOLDERS {
        let original = read(folder);
        let root = tempfile::tempdir().unwrap();
        let metadata = BTreeMap::new();
        let export = ConvolutionalBackbone::new(&original, &metadata).unwrap();
        export
            .write_folder(root.path(), ConvolutionalNaming::HuggingFace)
            .unwrap();
        let file = root.path().join("model.safetensors");
        let written = weights::read_arrays(&file).unwrap().0;
        for (name, array) in &original.arrays {
            // Those of the classifier's class, without its prefix.
            let theirs = hugging_face(name.strip_prefix("backbone.").unwrap());
            let theirs = theirs.strip_prefix("resnet.").unwrap();
            assert_eq!(written.get(theirs), Some(array), "{theirs}");
        }
        assert_eq!(written.len(), original.arrays.len());
        assert_eq!(
            weights::read(root.path(), None).unwrap().arrays,
            original.arrays
        );
        let refused = export.write_folder(root.path(), ConvolutionalNaming::Timm);
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("timm"), "{told}");
    }
    let config = BackboneConfig::convolutional("resnet18", 2).unwrap();
    let network = AnyBackbone::new(&config, &mut Init::new(0), &device()).unwrap();
    let mut arrays = Arrays::new();
    network.visit("backbone", &mut |name, param| {
        let (shape, data) = (param.shape().to_vec(), param.to_vec());
        arrays.insert(name.to_owned(), Array { shape, data });
    });
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("r18.safetensors");
    std::fs::write(&file, weights::to_bytes(&arrays, &BTreeMap::new()).unwrap()).unwrap();
    let read_back = weights::read(&file, None).unwrap();
    let export = ConvolutionalBackbone::new(&read_back, &BTreeMap::new()).unwrap();
    let out = root.path().join("timm");
    std::fs::create_dir(&out).unwrap();
    export
        .write_folder(&out, ConvolutionalNaming::Timm)
        .unwrap();
    let text = std::fs::read_to_string(out.join("config.json")).unwrap();
    for said in [r#""architecture": "resnet18""#, r#""in_chans": 2"#] {
        assert!(text.contains(said), "{text}");
    }
    assert_eq!(weights::read(&out, None).unwrap().arrays, arrays);
}
