//! timm's names and the `config.json` of its folders.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::preprocess::{self, Preparation};
use super::scheme::Naming;
use super::{Array, joined};
use crate::VitConfig;
use crate::position::ROPE_THETA;

type Arrays = BTreeMap<String, Array>;

/// Returns the metadata in timm's `config.json`; `None` if the file is not timm's.
pub(super) fn metadata(config: &Value) -> Option<Vec<(String, String)>> {
    config.get("architecture")?.as_str()?;
    let rule = Naming::Timm.position_rule(false);
    let mut metadata = vec![("position_rule".to_owned(), rule.to_string())];
    let argument = |name: &str| config.get("model_args").and_then(|args| args.get(name));
    let architecture = config.get("architecture").and_then(Value::as_str);
    let dinov3 = argument("rope_type").is_some_and(|kind| kind == "dinov3")
        || architecture.is_some_and(|name| name.contains("dinov3"));
    if dinov3 {
        let theta = argument("rope_temperature").and_then(Value::as_f64);
        let theta = theta.unwrap_or(ROPE_THETA);
        metadata.push(("rope_theta".into(), theta.to_string()));
        for part in ["shift", "jitter", "rescale"] {
            let value = argument(&format!("rope_{part}_coords")).and_then(Value::as_f64);
            metadata.extend(value.map(|value| (format!("rope_{part}"), value.to_string())));
        }
    }
    if let Some(side) = argument("img_size").and_then(Value::as_u64) {
        metadata.push(("image_size".into(), side.to_string()));
    }
    let heads = argument("num_heads");
    if let Some(heads) = heads.and_then(Value::as_u64) {
        metadata.push(("num_heads".into(), heads.to_string()));
    }
    // Older files have these at the top.
    let images = config.get("pretrained_cfg").unwrap_or(config);
    metadata.extend(preparation(images).map(|preparation| preparation.metadata_entry()));
    Some(metadata)
}

fn preparation(config: &Value) -> Option<Preparation> {
    let side = config.get("input_size")?.as_array()?.last()?.as_u64()?;
    let share = config
        .get("crop_pct")
        .and_then(Value::as_f64)
        .unwrap_or(0.875);
    if !(share > 0.0 && share <= 1.0) {
        return None;
    }
    let mean = preprocess::numbers(config.get("mean")?)?;
    Preparation {
        // Down, as timm does, but not for a share that was rounded.
        resize: (side as f64 / share + 1e-6).floor() as usize,
        crop: usize::try_from(side).ok()?,
        stored: mean.len() != 3,
        mean,
        std: preprocess::numbers(config.get("std")?)?,
    }
    .checked()
}

/// A backbone's tensors, by the reference's names without `backbone.`, under timm's. With
/// registers, timm has no position embedding for the class token; it is added to the token.
pub(super) fn named(backbone: &Arrays, config: &VitConfig) -> Arrays {
    let mut arrays = backbone.clone();
    arrays.remove("mask_token");
    if config.conv_stem {
        arrays = stem_named(arrays, config);
    }
    if config.rope.is_some() {
        return eva_named(arrays, config);
    }
    if config.registers == 0 {
        return arrays;
    }
    let registers = arrays.remove("register_tokens");
    arrays.extend(registers.map(|array| ("reg_token".to_owned(), array)));
    let places = arrays.remove("pos_embed");
    if let (Some(places), Some(class)) = (places, arrays.get_mut("cls_token")) {
        let (first, grid) = places.data.split_at(config.width);
        class
            .data
            .iter_mut()
            .zip(first)
            .for_each(|(value, place)| *value += place);
        let grid = Array {
            shape: vec![1, grid.len() / config.width, config.width],
            data: grid.to_vec(),
        };
        arrays.insert("pos_embed".into(), grid);
    }
    arrays
}

/// Where timm's `ConvStem` has its layers, and its patch embedding as the last of them.
const STEM: &str = "patch_embed.backbone.";

/// A convolutional stem's tensors, by this program's names, under those of timm's `ConvStem`.
fn stem_named(arrays: Arrays, config: &VitConfig) -> Arrays {
    let layers = config.stem_kernels().len();
    let named = |name: String| match name.split('.').collect::<Vec<_>>()[..] {
        ["patch_embed", "proj", last] => format!("{STEM}{layers}.conv.{last}"),
        ["patch_embed", "stem", layer, "conv", last] => format!("{STEM}{layer}.conv.{last}"),
        ["patch_embed", "stem", layer, "norm", last] => format!("{STEM}{layer}.bn.{last}"),
        _ => name,
    };
    let arrays = arrays.into_iter();
    arrays.map(|(name, array)| (named(name), array)).collect()
}

/// A backbone's tensors by their full names, those of timm's `ConvStem` under this program's.
pub(super) fn stem_renamed(arrays: Arrays) -> Arrays {
    // The last convolution alone has a bias.
    let last = arrays.keys().find_map(|name| {
        let layer = name.strip_prefix("backbone.")?.strip_prefix(STEM)?;
        Some(layer.strip_suffix(".conv.bias")?.to_owned())
    });
    let Some(embedding) = last else { return arrays };
    let renamed = |name: String| match name.split('.').collect::<Vec<_>>()[..] {
        ["backbone", "patch_embed", "backbone", layer, "conv", last] => match layer == embedding {
            true => format!("backbone.patch_embed.proj.{last}"),
            false => format!("backbone.patch_embed.stem.{layer}.conv.{last}"),
        },
        ["backbone", "patch_embed", "backbone", layer, "bn", last] => {
            format!("backbone.patch_embed.stem.{layer}.norm.{last}")
        }
        _ => name,
    };
    let arrays = arrays.into_iter();
    arrays.map(|(name, array)| (renamed(name), array)).collect()
}

/// The same under the names of timm's `Eva`, which computes DINOv3's networks.
fn eva_named(backbone: Arrays, config: &VitConfig) -> Arrays {
    let mut arrays = Arrays::new();
    for (name, array) in backbone {
        let parts: Vec<_> = name.split('.').collect();
        let name = match parts[..] {
            ["register_tokens"] => "reg_token".into(),
            ["blocks", i, "ls1", _] => format!("blocks.{i}.gamma_1"),
            ["blocks", i, "ls2", _] => format!("blocks.{i}.gamma_2"),
            ["blocks", i, "attn", "qkv", "bias"] => {
                let at = |which| format!("blocks.{i}.attn.{which}_bias");
                let thirds = joined::split(&array, ["q", "k", "v"].map(at));
                // Keys have no bias.
                let keep = |(name, _): &(String, Array)| !name.ends_with("k_bias");
                arrays.extend(thirds.into_iter().filter(keep));
                continue;
            }
            ["blocks", i, "mlp", "fc1", last] if config.gated_mlp => {
                let at = |which| format!("blocks.{i}.mlp.fc1_{which}.{last}");
                arrays.extend(joined::split(&array, ["g", "x"].map(at)));
                continue;
            }
            _ => name,
        };
        arrays.insert(name, array);
    }
    arrays
}

/// What timm's `Eva` has to know of a network with rotary positions.
fn eva_args(all: &mut serde_json::Map<String, Value>, config: &VitConfig) {
    let rope = config.rope.unwrap_or_default();
    let moved = |value: f64, none: f64| (value != none).then_some(value);
    let own = json!({
        "init_values": config.layer_scale.then_some(1e-5),
        "mlp_ratio": config.mlp_hidden() as f64 / config.width as f64,
        "num_reg_tokens": config.registers,
        "rope_jitter_coords": moved(rope.jitter, 1.0),
        "rope_rescale_coords": moved(rope.rescale, 1.0),
        "rope_shift_coords": moved(rope.shift, 0.0),
        "rope_temperature": rope.theta,
        "rope_type": "dinov3",
        // As it is, but not 0, with which timm has both maps in one.
        "swiglu_align_to": 1,
        "swiglu_mlp": config.gated_mlp,
    });
    all.extend(own.as_object().expect("an object").clone());
}

/// The entries of a preparation.
pub(super) fn prepared(preparation: &Preparation) -> serde_json::Map<String, Value> {
    let entries = json!({
        "crop_mode": "center",
        "crop_pct": preparation.crop as f64 / preparation.resize as f64,
        "input_size": [preparation.mean.len(), preparation.crop, preparation.crop],
        "interpolation": "bicubic",
        "mean": preparation.mean,
        "std": preparation.std,
    });
    entries.as_object().expect("an object").clone()
}

/// `config.json` of a folder that `timm.create_model("local-dir:…")` reads. The architecture is
/// the nearest that timm has, its sizes in `model_args`. Without a preparation, timm takes its own.
pub(super) fn config_json(config: &VitConfig, preparation: Option<&Preparation>) -> Value {
    let mut args = json!({
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "in_chans": config.channels,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": config.mlp_ratio,
        "dynamic_img_size": true,
    });
    let all = args.as_object_mut().expect("an object");
    let rotary = config.rope.is_some();
    if rotary {
        eva_args(all, config);
    } else {
        // Twice the hidden width with gates, whose maps are one here.
        let outputs = config.mlp_hidden() * if config.gated_mlp { 2 } else { 1 };
        if config.gated_mlp || config.mlp_width > 0 {
            all.insert(
                "mlp_ratio".into(),
                (outputs as f64 / config.width as f64).into(),
            );
        }
    }
    if config.layer_scale {
        all.insert("init_values".into(), 1e-5.into());
    }
    if config.registers > 0 && !rotary {
        all.insert("reg_tokens".into(), config.registers.into());
        all.insert("no_embed_class".into(), true.into());
    }
    let mut images = json!({
        "custom_load": false,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "fixed_input_size": false,
        "num_classes": 0,
        "pool_size": null,
    });
    if let Some(preparation) = preparation {
        let images = images.as_object_mut().expect("an object");
        images.extend(prepared(preparation));
    }
    let architecture = match (rotary, config.gated_mlp) {
        (true, _) => "vit_small_patch16_dinov3_qkvb",
        (false, true) => "vit_giant_patch14_dinov2",
        (false, false) => "vit_small_patch16_224",
    };
    json!({
        "architecture": architecture,
        "num_classes": 0,
        "num_features": config.width,
        "global_pool": "token",
        "model_args": args,
        "pretrained_cfg": images,
    })
}
