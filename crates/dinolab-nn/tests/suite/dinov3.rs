//! Networks of DINOv3, and gated ones of DINOv2, as timm and Hugging Face compute and differentiate them.
//!
//! `fixtures/weights` was made by `benches/peers/weight_fixtures.py`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::device;
use crate::common::fixtures::error;
use dinolab_nn::init::Init;
use dinolab_nn::position::{CoordinateChange, Rope};
use dinolab_nn::vit::{DropPath, NoDropPath};
use dinolab_nn::weights::{
    Array, Backbone, Kind, LoadOptions, Naming, Weights, deviation, file_arrays, load, read,
    to_bytes,
};
use dinolab_nn::{Parameters, Tensor, Vit, VitConfig};

type Arrays = BTreeMap<String, Array>;

const NEW: [&str; 6] = [
    "hf_dinov3",
    "hf_dinov3_gated",
    "hf_dinov2_gated",
    "timm_dinov3",
    "timm_dinov3_gated",
    "timm_dinov3_no_bias",
];
/// Those of which the fixtures have gradients, too.
const OLDER: [&str; 3] = ["hf_dinov2", "hf_dinov2_with_registers", "timm_registers"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/weights")
        .join(name)
}

fn arrays_of(path: &Path) -> Arrays {
    file_arrays(path, &fs::read(path).unwrap()).unwrap().0
}

fn read_at(path: &Path) -> Weights {
    read(path, None).unwrap_or_else(|error| panic!("{error}"))
}

fn with(weights: &Weights, config: &VitConfig) -> Vit {
    let mut vit = Vit::new(config, &mut Init::new(0), &device()).unwrap();
    load(&mut vit, "backbone", weights, LoadOptions::default()).unwrap();
    vit
}

fn network(folder: &str) -> Vit {
    let weights = read_at(&fixture(folder));
    with(&weights, &weights.vit_config(None).unwrap())
}

fn images() -> Vec<(String, Tensor<4>)> {
    let images = arrays_of(&fixture("images.safetensors")).into_iter();
    let tensor = |array: Array| {
        let shape: [usize; 4] = array.shape.try_into().unwrap();
        Tensor::<1>::from_floats(array.data.as_slice(), &device()).reshape(shape)
    };
    images.map(|(size, image)| (size, tensor(image))).collect()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().convert::<f32>().try_to_vec().unwrap()
}

#[test]
fn features_are_those_of_the_library_at_every_size() {
    for folder in NEW {
        let vit = network(folder);
        let expected = arrays_of(&fixture(folder).join("expected.safetensors"));
        for (size, image) in images() {
            let found = error(&values(vit.forward(image)), &expected[&size].data);
            assert!(found < 1e-5, "{folder} {size}: {found:e}");
        }
    }
}

/// The gradients of all parameters of the sum over the images of the class token times `direction`, by
/// the reference's names.
fn gradients(mut vit: Vit, direction: &Array) -> Arrays {
    vit.to_device(&device().autodiff());
    let direction = Tensor::<1>::from_floats(direction.data.as_slice(), &device().autodiff());
    let views = images();
    let autodiff = |image: Tensor<4>| Tensor::from_data(image.into_data(), &device().autodiff());
    let views = views
        .into_iter()
        .map(|(_, image)| autodiff(image))
        .collect();
    let tokens = vit.forward_views(views, &NoDropPath);
    let mut grads = (tokens * direction.reshape([1, 16])).sum().backward();
    let mut found = Arrays::new();
    vit.visit("backbone", &mut |name, param| {
        let data = values(
            param
                .take_grad(&mut grads)
                .expect("every parameter has one"),
        );
        let shape = param.shape().to_vec();
        found.insert(name.to_owned(), Array { shape, data });
    });
    found
}

/// The library's gradients under its own names are read as weights are, which joins the parts of joint
/// maps.
#[test]
fn gradients_are_those_of_the_library() {
    let root = tempfile::tempdir().unwrap();
    for folder in NEW.into_iter().chain(OLDER) {
        let mut theirs = arrays_of(&fixture(folder).join("gradients.safetensors"));
        let direction = theirs.remove("direction").unwrap();
        let path = root.path().join("gradients.safetensors");
        fs::write(&path, to_bytes(&theirs, &BTreeMap::new()).unwrap()).unwrap();
        let theirs = read_at(&path).arrays;
        let found = gradients(network(folder), &direction);
        for (name, found) in &found {
            let third = found.data.len() / 3;
            let mut found = found.data.clone();
            // Without rotary positions, the bias of keys changes nothing, and its gradient is noise.
            let keys = name.ends_with("attn.qkv.bias");
            let mut theirs = match theirs.get(name) {
                Some(theirs) => theirs.data.clone(),
                None => panic!("{folder}: no {name}"),
            };
            if keys && folder.contains("dinov3") {
                assert!(
                    found[third..2 * third].iter().all(|&x| x == 0.0),
                    "{folder} {name}"
                );
                if folder.ends_with("no_bias") {
                    continue;
                }
            }
            if keys {
                for part in [&mut found, &mut theirs] {
                    part[third..2 * third].fill(0.0);
                }
            }
            // timm has no place for the class token, and here it has one.
            if folder == "timm_registers" && name.ends_with("pos_embed") {
                for part in [&mut found, &mut theirs] {
                    part.drain(..16);
                }
            }
            let error = error(&found, &theirs);
            assert!(error < 1e-4, "{folder} {name}: {error:e}");
        }
    }
}

#[test]
fn sizes_and_conventions_are_read() {
    for folder in NEW {
        let config = read_at(&fixture(folder)).vit_config(None).unwrap();
        let dinov3 = folder.contains("dinov3");
        assert_eq!((config.image_size, config.patch_size), (28, 7), "{folder}");
        assert_eq!(
            (config.width, config.depth, config.heads),
            (16, 2, 2),
            "{folder}"
        );
        assert!(config.layer_scale, "{folder}");
        assert_eq!(config.gated_mlp, folder.contains("gated"), "{folder}");
        let hidden = match folder {
            "hf_dinov3" | "hf_dinov3_gated" => 24,
            "hf_dinov2_gated" => 48,
            _ => 32,
        };
        assert_eq!(config.mlp_hidden(), hidden, "{folder}");
        let rescale = if folder.starts_with("hf") { 2.0 } else { 1.0 };
        let rope = Rope {
            rescale,
            ..Rope::default()
        };
        assert_eq!(config.rope, dinov3.then_some(rope), "{folder}");
        let eps = if dinov3 { 1e-5 } else { 1e-6 };
        assert_eq!(config.layer_norm_eps, eps, "{folder}");
    }
    // Without the files next to it, what goes with the names is assumed.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("network.safetensors");
    for name in ["hf_dinov3", "timm_dinov3"] {
        fs::copy(fixture(name).join("model.safetensors"), &file).unwrap();
        let config = read_at(&file).vit_config(Some(2)).unwrap();
        assert_eq!(config.rope, Some(Rope::default()));
        assert_eq!((config.image_size, config.layer_norm_eps), (224, 1e-5));
    }
}

/// Each network to each format that its library or another reads.
#[test]
fn what_is_written_is_the_same_network() {
    let root = tempfile::tempdir().unwrap();
    for folder in NEW {
        let weights = read_at(&fixture(folder));
        let vit = network(folder);
        let config = vit.config();
        let mask_token = weights.arrays.get("backbone.mask_token");
        let backbone = Backbone::new(&vit, &weights.metadata, mask_token);
        let kind = Kind::of(config);
        for naming in [Naming::Reference, Naming::Timm, Naming::HuggingFace(kind)] {
            let what = format!("{folder} as {naming:?}");
            let out = root.path().join(what.replace(['(', ')', ' '], "-"));
            let [pth, file] = ["pth", "safetensors"].map(|kind| out.with_extension(kind));
            backbone.check(naming).unwrap();
            backbone.write_pth(&pth, naming).unwrap();
            backbone.write_safetensors(&file, naming).unwrap();
            backbone.write_folder(&out, naming).unwrap();
            for path in [&pth, &file, &out] {
                // timm's networks without registers do not show by their names what they are.
                if path == &pth && naming == Naming::Timm && config.registers == 0 {
                    continue;
                }
                let back = read_at(path);
                let mut said = back.vit_config(Some(config.heads)).unwrap();
                assert_eq!(said.layer_norm_eps, config.layer_norm_eps, "{what}");
                assert_eq!(said.rope.is_some(), config.rope.is_some(), "{what}");
                if path != &pth {
                    assert_eq!(said.rope, config.rope, "{what}");
                    assert_eq!(said.image_size, config.image_size, "{what}");
                }
                (said.position_rule, said.image_size) = (config.position_rule, config.image_size);
                for (h, w, error) in deviation(&with(&back, &said), &vit) {
                    assert!(error < 1e-6, "{what} {h}×{w}: {error:e}");
                }
            }
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
    for folder in NEW.into_iter().filter(|name| !name.ends_with("no_bias")) {
        let weights = read_at(&fixture(folder));
        let vit = network(folder);
        let naming = match folder.starts_with("timm") {
            true => Naming::Timm,
            false => Naming::HuggingFace(Kind::of(vit.config())),
        };
        let mask_token = weights.arrays.get("backbone.mask_token");
        let backbone = Backbone::new(&vit, &weights.metadata, mask_token);
        backbone.write_folder(root.path(), naming).unwrap();
        let written = root.path().join("model.safetensors");
        assert_eq!(
            shapes(&written),
            shapes(&fixture(folder).join("model.safetensors")),
            "{folder}"
        );
        if folder.starts_with("timm") {
            continue;
        }
        let json = |path: &Path| -> serde_json::Value {
            serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap()
        };
        let (ours, theirs) = (json(root.path()), json(&fixture(folder)));
        for (key, value) in theirs.as_object().unwrap() {
            if key != "transformers_version" && !(key == "hidden_act" && ours[key] == "gelu") {
                assert_eq!(&ours[key], value, "{folder} {key}");
            }
        }
    }
}

/// DINOv3's own files: masked biases of keys, and rounded periods.
#[test]
fn dinov3s_own_files_are_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("network.safetensors");
    let vit = network("hf_dinov3_gated");
    let backbone = Backbone::new(&vit, &BTreeMap::new(), None);
    let written = backbone.named(Naming::Reference);
    for name in [
        "blocks.1.mlp.w1.weight",
        "blocks.0.mlp.w2.bias",
        "blocks.0.mlp.w3.weight",
        "blocks.0.attn.qkv.bias_mask",
        "rope_embed.periods",
        "mask_token",
    ] {
        assert!(written.contains_key(name), "{name}");
    }
    let try_with = |edit: &dyn Fn(&mut Arrays)| {
        let mut arrays = written.clone();
        edit(&mut arrays);
        fs::write(&path, to_bytes(&arrays, &BTreeMap::new()).unwrap()).unwrap();
        let weights = read(&path, None)?;
        let config = weights.vit_config(None)?;
        assert_eq!(config.heads, 2, "by the periods");
        Ok::<_, dinolab_nn::Error>(with(&weights, &config))
    };
    // Behind the mask there may be anything.
    let masked = try_with(&|arrays| {
        let bias = arrays.get_mut("blocks.0.attn.qkv.bias").unwrap();
        bias.data[16..32].fill(0.5);
        let periods = arrays.get_mut("rope_embed.periods").unwrap();
        periods.data.iter_mut().for_each(|period| *period *= 1.003);
    });
    for (_, _, error) in deviation(&masked.unwrap(), &vit) {
        assert!(error < 1e-6, "{error:e}");
    }
    let refused = try_with(&|arrays| {
        arrays.remove("blocks.0.attn.qkv.bias_mask");
        let bias = arrays.get_mut("blocks.0.attn.qkv.bias").unwrap();
        bias.data[16] = 0.5;
    });
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("blocks.0.attn.qkv.bias"), "{told}");
    let refused = try_with(&|arrays| {
        let periods = arrays.get_mut("rope_embed.periods").unwrap();
        periods.data[1] *= 2.0;
    });
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("rotary periods"), "{told}");
    // Nothing shows which rotary positions these would be.
    let refused = try_with(&|arrays| {
        arrays.remove("rope_embed.periods");
    });
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("pos_embed"), "{told}");
}

/// Coordinates that are moved.
struct Moved(CoordinateChange);

impl DropPath for Moved {
    fn factors(&self, _: usize, _: usize) -> Option<Vec<f32>> {
        None
    }

    fn coordinates(&self, _: usize) -> Option<CoordinateChange> {
        Some(self.0)
    }
}

/// Attention depends on differences of coordinates alone: a shift of all changes nothing, where the
/// class token, which has no place, has no part in it; a factor does.
#[test]
fn coordinates_are_moved() {
    let vit = network("hf_dinov3");
    let (_, image) = images().swap_remove(1);
    let features = |shift, scale| {
        let drop = Moved(CoordinateChange { shift, scale });
        values(vit.forward_views(vec![image.clone()], &drop))
    };
    let plain = values(vit.forward(image.clone()));
    assert_eq!(features([0.0; 2], [1.0; 2]), plain);
    for (shift, scale) in [
        ([0.3, 0.0], [1.0; 2]),
        ([0.0; 2], [1.0, 2.0]),
        ([0.0; 2], [0.5; 2]),
    ] {
        assert!(error(&features(shift, scale), &plain) > 1e-3);
    }
}

#[test]
fn changes_stay_within_their_ranges() {
    let rope = Rope {
        shift: 0.25,
        jitter: 1.5,
        rescale: 2.0,
        ..Rope::default()
    };
    let mut uniform = 0.0;
    for _ in 0..200 {
        uniform = (uniform + 0.381_966) % 1.0;
        let mut draws = (0..5).map(|i| (uniform + 0.137 * f64::from(i)) % 1.0);
        let change = rope.change(|| draws.next().unwrap()).unwrap();
        assert!(change.shift.iter().all(|shift| shift.abs() <= 0.25));
        assert!(change.scale.iter().all(|s| (1.0 / 3.0..=3.0).contains(s)));
        let ratio = change.scale[0] / change.scale[1];
        assert!((1.0 / 2.25..=2.25).contains(&ratio), "one factor of both");
    }
    assert_eq!(Rope::default().change(|| 0.3), None);
}

#[test]
fn attention_maps_are_of_turned_keys() {
    let vit = network("hf_dinov3");
    for (_, image) in images() {
        let [_, _, height, width] = image.dims();
        let maps = vit.class_attention(image.clone());
        let (h, w) = (height / 7, width / 7);
        assert_eq!(maps.dims(), [1, 2, h, w]);
        let whole = vit.last_attention(image);
        let row = whole
            .narrow(2, 0, 1)
            .narrow(3, 3, h * w)
            .reshape([1, 2, h, w]);
        assert_eq!(values(maps), values(row));
    }
}

#[test]
fn impossible_rotary_positions_are_refused() {
    let refuse = |edit: &dyn Fn(&mut VitConfig), why: &str| {
        let mut config = VitConfig {
            width: 16,
            heads: 2,
            rope: Some(Rope::default()),
            ..VitConfig::default()
        };
        config.validate().unwrap();
        edit(&mut config);
        let told = config.validate().unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
    };
    let rope =
        |edit: fn(&mut Rope)| move |config: &mut VitConfig| edit(config.rope.as_mut().unwrap());
    refuse(&|config| config.heads = 8, "4 divides");
    refuse(&rope(|rope| rope.theta = 1.0), "rope-theta");
    refuse(&rope(|rope| rope.shift = f64::NAN), "rope-shift");
    refuse(&rope(|rope| rope.jitter = 0.5), "rope-jitter");
    refuse(&rope(|rope| rope.rescale = f64::INFINITY), "rope-rescale");
}
