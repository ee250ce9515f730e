//! timm's names and the `config.json` of its folders.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Array;
use super::preprocess::{self, Preparation};
use super::scheme::Naming;
use crate::VitConfig;

type Arrays = BTreeMap<String, Array>;

/// Returns the metadata in timm's `config.json`; `None` if the file is not timm's.
pub(super) fn metadata(config: &Value) -> Option<Vec<(String, String)>> {
    config.get("architecture")?.as_str()?;
    let rule = Naming::Timm.position_rule(false);
    let mut metadata = vec![("position_rule".to_owned(), rule.to_string())];
    let heads = config
        .get("model_args")
        .and_then(|args| args.get("num_heads"));
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
    if config.layer_scale {
        all.insert("init_values".into(), 1e-5.into());
    }
    if config.registers > 0 {
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
        let prepared = json!({
            "crop_mode": "center",
            "crop_pct": preparation.crop as f64 / preparation.resize as f64,
            "input_size": [config.channels, preparation.crop, preparation.crop],
            "interpolation": "bicubic",
            "mean": preparation.mean,
            "std": preparation.std,
        });
        let images = images.as_object_mut().expect("an object");
        images.extend(prepared.as_object().expect("an object").clone());
    }
    json!({
        "architecture": "vit_small_patch16_224",
        "num_classes": 0,
        "num_features": config.width,
        "global_pool": "token",
        "model_args": args,
        "pretrained_cfg": images,
    })
}
