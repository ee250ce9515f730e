//! Files that timm and Hugging Face wrote, read and written back.
//!
//! `fixtures/weights` was made by `benches/peers/weight_fixtures.py`: small networks of the real
//! libraries with random weights, three images, and what the libraries make of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::device;
use dinolab_nn::init::Init;
use dinolab_nn::position::PositionRule;
use dinolab_nn::weights::{
    Array, Backbone, Kind, LoadOptions, Naming, NetworkRole, Weights, deviation, file_arrays, load,
    read, to_bytes,
};
use dinolab_nn::{Tensor, Vit, VitConfig};

type Arrays = BTreeMap<String, Array>;

const FOLDERS: [&str; 7] = [
    "timm",
    "timm_registers",
    "timm_placed_registers",
    "timm_no_bias",
    "hf_vit",
    "hf_dinov2",
    "hf_dinov2_with_registers",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/weights")
        .join(name)
}

fn arrays_of(path: &Path) -> Arrays {
    file_arrays(path, &fs::read(path).unwrap()).unwrap().0
}

fn read_at(path: &Path) -> Weights {
    read(path, NetworkRole::Teacher).unwrap_or_else(|e| panic!("{e}"))
}

fn network(weights: &Weights) -> Vit {
    with(weights, &weights.vit_config(None).unwrap())
}

fn with(weights: &Weights, config: &VitConfig) -> Vit {
    let mut vit = Vit::new(config, &mut Init::new(0), &device()).unwrap();
    load(&mut vit, "backbone", weights, LoadOptions::default()).unwrap();
    vit
}

/// The largest relative error of features against the library's.
fn error(folder: &str, vit: &Vit) -> f64 {
    let images = arrays_of(&fixture("images.safetensors"));
    let expected = arrays_of(&fixture(folder).join("expected.safetensors"));
    let mut worst = 0f64;
    assert_eq!(images.len(), 3);
    for (size, image) in images {
        let [b, c, h, w] = image.shape[..] else {
            panic!("{size}")
        };
        let input = Tensor::<1>::from_floats(image.data.as_slice(), &device());
        let found = vit.forward(input.reshape([b, c, h, w])).into_data();
        let found: Vec<f32> = found.convert::<f32>().try_to_vec().unwrap();
        let theirs = &expected[&size].data;
        let square = |x: f32| f64::from(x).powi(2);
        let difference: f64 = found.iter().zip(theirs).map(|(a, b)| square(a - b)).sum();
        let norm: f64 = theirs.iter().map(|&x| square(x)).sum();
        worst = worst.max((difference / norm).sqrt());
    }
    worst
}

#[test]
fn features_are_those_of_the_library_at_every_size() {
    for folder in FOLDERS {
        let weights = read_at(&fixture(folder));
        let found = error(folder, &network(&weights));
        assert!(found < 1e-5, "{folder}: {found:e}");
    }
}

#[test]
fn sizes_conventions_and_preparation_are_read() {
    let config = |folder: &str| read_at(&fixture(folder)).vit_config(None).unwrap();
    for folder in FOLDERS {
        let config = config(folder);
        let sizes = (config.image_size, config.patch_size, config.width);
        assert_eq!(sizes, (28, 7, 16), "{folder}");
        assert_eq!((config.depth, config.heads), (2, 2), "{folder}");
        let registers = if folder.contains("registers") { 2 } else { 0 };
        assert_eq!(config.registers, registers, "{folder}");
        let scaled = registers > 0 || folder.contains("dinov2");
        assert_eq!(config.layer_scale, scaled, "{folder}");
        let rule = match folder {
            "hf_vit" | "hf_dinov2" => PositionRule::Ratio,
            _ => PositionRule::RatioAntialias,
        };
        assert_eq!(config.position_rule, rule, "{folder}");
        let eps = if folder == "hf_vit" { 1e-12 } else { 1e-6 };
        assert_eq!(config.layer_norm_eps, eps, "{folder}");
        let preprocess = &read_at(&fixture(folder)).metadata["preprocess"];
        assert_eq!(
            preprocess, r#"{"resize":32,"crop":28,"mean":[0.5,0.5,0.5],"std":[0.25,0.25,0.25]}"#,
            "{folder}"
        );
    }
    // Without the files beside it, what goes with the names is assumed.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("network.safetensors");
    for (name, rule, eps) in [
        ("timm", PositionRule::RatioAntialias, 1e-6),
        ("hf_vit", PositionRule::Ratio, 1e-12),
    ] {
        fs::copy(fixture(name).join("model.safetensors"), &file).unwrap();
        let weights = read(&file, NetworkRole::Teacher).unwrap();
        let config = weights.vit_config(None).unwrap();
        assert_eq!((config.position_rule, config.layer_norm_eps), (rule, eps));
        assert_eq!(config.heads, 1);
        assert!(!weights.metadata.contains_key("preprocess"));
    }
}

/// Each network to each format that its library or another reads.
#[test]
fn what_is_written_is_the_same_network() {
    let root = tempfile::tempdir().unwrap();
    for folder in FOLDERS {
        let weights = read_at(&fixture(folder));
        let vit = network(&weights);
        let config = vit.config();
        let mask_token = weights.arrays.get("backbone.mask_token");
        let backbone = Backbone::new(&vit, &weights.metadata, mask_token);
        let kind = Kind::of(config);
        for naming in [Naming::Reference, Naming::Timm, Naming::HuggingFace(kind)] {
            let what = format!("{folder} as {naming:?}");
            let out = root.path().join(what.replace(['(', ')', ' '], "-"));
            let [pth, file] = ["pth", "safetensors"].map(|kind| out.with_extension(kind));
            backbone.write_pth(&pth, naming).unwrap();
            backbone.write_safetensors(&file, naming).unwrap();
            backbone.write_folder(&out, naming).unwrap();
            for path in [&pth, &file, &out] {
                let back = read_at(path);
                let mut said = back.vit_config(Some(config.heads)).unwrap();
                if path != &pth {
                    assert_eq!(said.position_rule, config.position_rule, "{what}");
                    assert_eq!(said.layer_norm_eps, config.layer_norm_eps, "{what}");
                }
                (said.position_rule, said.layer_norm_eps) =
                    (config.position_rule, config.layer_norm_eps);
                let again = with(&back, &said);
                for (h, w, error) in deviation(&again, &vit) {
                    // timm adds the class token's place to the token, which rounds.
                    assert!(error < 1e-6, "{what} {h}×{w}: {error:e}");
                }
            }
            let prepared = &read_at(&out).metadata["preprocess"];
            assert_eq!(prepared, &weights.metadata["preprocess"], "{what}");
        }
    }
}

/// The library's own files and ours have the same tensors under the same names.
#[test]
fn names_and_shapes_are_the_librarys() {
    let root = tempfile::tempdir().unwrap();
    let shapes = |path: &Path| -> BTreeMap<String, Vec<usize>> {
        let arrays = arrays_of(path).into_iter();
        arrays.map(|(name, array)| (name, array.shape)).collect()
    };
    for folder in [
        "timm",
        "timm_registers",
        "hf_vit",
        "hf_dinov2",
        "hf_dinov2_with_registers",
    ] {
        let weights = read_at(&fixture(folder));
        let vit = network(&weights);
        let naming = if folder.starts_with("timm") {
            Naming::Timm
        } else {
            Naming::HuggingFace(Kind::of(vit.config()))
        };
        let mask_token = weights.arrays.get("backbone.mask_token");
        let backbone = Backbone::new(&vit, &weights.metadata, mask_token);
        backbone.write_folder(root.path(), naming).unwrap();
        let mut theirs = shapes(&fixture(folder).join("model.safetensors"));
        theirs.retain(|name, _| !name.starts_with("head.") && !name.starts_with("pooler."));
        assert_eq!(
            shapes(&root.path().join("model.safetensors")),
            theirs,
            "{folder}"
        );
        let json = |path: &Path| -> serde_json::Value {
            serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap()
        };
        let (ours, theirs) = (json(root.path()), json(&fixture(folder)));
        for key in [
            "model_type",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "image_size",
            "patch_size",
            "layer_norm_eps",
            "num_register_tokens",
            "use_mask_token",
        ] {
            assert_eq!(ours.get(key), theirs.get(key), "{folder} {key}");
        }
    }
}

#[test]
fn another_trained_size_is_resampled_by_the_networks_rule() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("larger.safetensors");
    let weights = read_at(&fixture("hf_dinov2"));
    let vit = network(&weights);
    let larger = Backbone::new(&vit, &weights.metadata, None)
        .resized(45)
        .unwrap();
    // Six patches of seven pixels fit.
    assert_eq!(larger.config().image_size, 42);
    larger.write_safetensors(&file, Naming::Timm).unwrap();
    let back = network(&read(&file, NetworkRole::Teacher).unwrap());
    let at_size = deviation(&back, &vit);
    assert_eq!(back.config().side(), 6);
    let found = deviation(&vit, &back)[0];
    assert_eq!((found.0, found.1), (42, 42));
    assert!(found.2 < 1e-6, "{found:?}");
    // At other sizes it is another network.
    assert!(at_size[0].2 > 1e-4, "{at_size:?}");
}

#[test]
fn networks_that_are_computed_otherwise_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let refuse = |arrays: &Arrays, why: &str| {
        let path = root.path().join("model.safetensors");
        fs::write(&path, to_bytes(arrays, &BTreeMap::new()).unwrap()).unwrap();
        let told = read(&path, NetworkRole::Teacher).unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
    };
    let timm = arrays_of(&fixture("timm").join("model.safetensors"));
    let vector = Array {
        shape: vec![16],
        data: vec![1.0; 16],
    };
    let with = |name: &str| {
        let mut arrays = timm.clone();
        arrays.insert(name.into(), vector.clone());
        arrays
    };
    refuse(
        &with("blocks.1.attn.q_norm.weight"),
        "blocks.1.attn.q_norm.weight",
    );
    refuse(&with("blocks.0.mlp.w1.weight"), "gates and values");
    refuse(&with("norm_pre.weight"), "norm_pre");
    refuse(&with("dist_token"), "dist_token");
    let mut gap = arrays_of(&fixture("hf_dinov2").join("model.safetensors"));
    gap.remove("encoder.layer.1.attention.attention.key.weight");
    refuse(&gap, "query, key and value");
    let mut odd = timm.clone();
    odd.insert(
        "pos_embed".into(),
        Array {
            shape: vec![1, 19, 16],
            data: vec![0.0; 19 * 16],
        },
    );
    refuse(&odd, "19 position embeddings");

    // What config.json asks for.
    let folder = root.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let from = fixture("hf_dinov2");
    fs::copy(
        from.join("model.safetensors"),
        folder.join("model.safetensors"),
    )
    .unwrap();
    let config = fs::read_to_string(from.join("config.json")).unwrap();
    for (is, becomes, why) in [
        ("\"gelu\"", "\"quick_gelu\"", "quick_gelu"),
        ("\"dinov2\"", "\"vit_mae\"", "vit_mae"),
        ("{", "", "config.json"),
        (
            "\"num_attention_heads\": 2",
            "\"num_attention_heads\": \"2\"",
            "num_attention_heads",
        ),
    ] {
        let changed = config.replacen(is, becomes, 1);
        assert_ne!(changed, config, "{is}");
        fs::write(folder.join("config.json"), changed).unwrap();
        let found = read(&folder.join("model.safetensors"), NetworkRole::Teacher);
        let told = found.unwrap_err().to_string();
        assert!(told.contains(why) && told.contains("config.json"), "{told}");
    }
    // Heads that do not divide the width come out where the network is made.
    let changed = config.replace("\"num_attention_heads\": 2", "\"num_attention_heads\": 5");
    fs::write(folder.join("config.json"), changed).unwrap();
    assert!(read_at(&folder).vit_config(None).is_err());
    assert_eq!(read_at(&folder).vit_config(Some(4)).unwrap().heads, 4);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let told = read(&folder, NetworkRole::Teacher).unwrap_err().to_string();
    assert!(told.contains("is not a model folder"), "{told}");
}

/// As large networks are published.
#[test]
fn weights_in_several_files_are_those_of_one() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    for name in ["config.json", "preprocessor_config.json"] {
        fs::copy(fixture("hf_vit").join(name), at(name)).unwrap();
    }
    let whole = arrays_of(&fixture("hf_vit").join("model.safetensors"));
    let mut parts = [Arrays::new(), Arrays::new()];
    let mut map = serde_json::Map::new();
    let file = |part: usize| format!("model-0000{}-of-00002.safetensors", part + 1);
    for (place, (name, array)) in whole.into_iter().enumerate() {
        parts[place % 2].insert(name.clone(), array);
        map.insert(name, file(place % 2).into());
    }
    let write = |part: usize, arrays: &Arrays| {
        fs::write(at(&file(part)), to_bytes(arrays, &BTreeMap::new()).unwrap()).unwrap();
    };
    let index = at("model.safetensors.index.json");
    let write_index = |map: &serde_json::Map<String, serde_json::Value>| {
        let text = serde_json::json!({ "metadata": {}, "weight_map": map }).to_string();
        fs::write(&index, text).unwrap();
    };
    write_index(&map);
    write(0, &parts[0]);
    let told = |path: &Path| read(path, None).unwrap_err().to_string();
    assert!(
        told(root.path()).contains(&file(1)),
        "{}",
        told(root.path())
    );
    write(1, &parts[1]);
    for path in [root.path(), &index] {
        let (found, mut wanted) = (read_at(path), read_at(&fixture("hf_vit")));
        wanted.metadata.remove("format");
        assert_eq!(found.arrays, wanted.arrays);
        assert_eq!(found.metadata, wanted.metadata);
        assert_eq!(found.naming, wanted.naming);
        assert_eq!(found.path, index);
    }
    // A tensor that is in both files, and files that are elsewhere.
    let mut double = parts[1].clone();
    double.extend(
        parts[0]
            .first_key_value()
            .map(|(k, v)| (k.clone(), v.clone())),
    );
    write(1, &double);
    assert!(
        told(&index).contains("is in another file of the index too"),
        "{}",
        told(&index)
    );
    for name in [
        "../model.safetensors",
        "/a.safetensors",
        "a.bin",
        ".safetensors",
        "",
    ] {
        map.insert("one".into(), name.into());
        write_index(&map);
        assert!(
            told(&index).contains("the file of one is not"),
            "{}",
            told(&index)
        );
    }
    for text in ["{}", "[", "{\"weight_map\": {}}"] {
        fs::write(&index, text).unwrap();
        assert!(
            told(&index).contains("model.safetensors.index.json"),
            "{}",
            told(&index)
        );
    }
}

/// DINOv2's own names, and blocks in chunks as its training has them.
#[test]
fn dinov2_checkpoints_are_read() {
    let root = tempfile::tempdir().unwrap();
    let weights = read_at(&fixture("hf_dinov2"));
    let vit = network(&weights);
    let path = root.path().join("dinov2.safetensors");
    let chunked: Arrays = weights
        .arrays
        .iter()
        .map(|(name, array)| {
            let name = name.strip_prefix("backbone.").unwrap();
            let name = name
                .replace("blocks.0.", "blocks.0.0.")
                .replace("blocks.1.", "blocks.1.1.");
            (name, array.clone())
        })
        .collect();
    assert!(chunked.contains_key("blocks.1.1.ls2.gamma") && chunked.contains_key("mask_token"));
    fs::write(&path, to_bytes(&chunked, &BTreeMap::new()).unwrap()).unwrap();
    let back = read(&path, NetworkRole::Teacher).unwrap();
    assert_eq!(back.arrays, weights.arrays);
    let pth = root.path().join("dinov2.pth");
    let mask_token = weights.arrays.get("backbone.mask_token");
    let backbone = Backbone::new(&vit, &weights.metadata, mask_token);
    backbone.write_pth(&pth, Naming::Reference).unwrap();
    let back = read(&pth, NetworkRole::Teacher).unwrap();
    assert_eq!(back.arrays, weights.arrays);
    // Without registers DINOv2 resamples as DINO did.
    assert_eq!(
        back.vit_config(Some(2)).unwrap().position_rule,
        PositionRule::Dino
    );
}
