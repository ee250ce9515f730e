//! Hugging Face's `ViTModel`, `Dinov2Model`, `Dinov2WithRegistersModel`, `DINOv3ViTModel`, `ResNetModel`,
//! `ConvNextModel` and `DINOv3ConvNextModel`: their names and the two JSON sidecar files.

pub(super) mod convnext;
mod dinov3;
pub(super) mod resnet;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::joined::{self, Joined};
use super::preprocess::Preparation;
use super::scheme::{Kind, Naming};
use super::{Array, bad};
use crate::{Result, VitConfig};

type Arrays = BTreeMap<String, Array>;

/// The ends of names of which every such network has one; what precedes it precedes all names.
pub(super) const MARKS: [&str; 2] = [
    "embeddings.patch_embeddings.projection.weight",
    dinov3::MARK,
];

/// The prefix of the names (`vit.`, `dinov2.` or nothing), if they are Hugging Face's.
pub(super) fn prefix(raw: &Arrays) -> Option<String> {
    let marked = |name: &String| {
        let prefix = MARKS.iter().find_map(|mark| name.strip_suffix(mark))?;
        (prefix.is_empty() || prefix.ends_with('.')).then(|| prefix.to_owned())
    };
    raw.keys().find_map(marked)
}

/// A tensor's place in the reference's network.
enum Place {
    Whole(String),
    /// Rows of a joint map: part number `part` of `of`.
    Part {
        name: String,
        part: usize,
        of: usize,
    },
}

fn place(name: &str) -> Option<Place> {
    let whole = |name: String| Some(Place::Whole(name));
    let Some(rest) = name.strip_prefix("encoder.layer.") else {
        return whole(match name.split_once('.')? {
            ("embeddings", "position_embeddings") => "pos_embed".into(),
            ("embeddings", rest @ ("cls_token" | "mask_token" | "register_tokens")) => rest.into(),
            ("embeddings", rest) => rest.replace("patch_embeddings.projection", "patch_embed.proj"),
            ("layernorm", rest) => format!("norm.{rest}"),
            _ => return None,
        });
    };
    let (block, rest) = rest.split_once('.')?;
    let (part, last) = rest.rsplit_once('.')?;
    let joint = |part| {
        let name = format!("blocks.{block}.attn.qkv.{last}");
        Some(Place::Part { name, part, of: 3 })
    };
    let part = match part {
        "attention.attention.query" => return joint(0),
        "attention.attention.key" => return joint(1),
        "attention.attention.value" => return joint(2),
        "attention.output.dense" => "attn.proj",
        "layernorm_before" => "norm1",
        "layernorm_after" => "norm2",
        "intermediate.dense" => "mlp.fc1",
        "output.dense" | "mlp.weights_out" => "mlp.fc2",
        "mlp.weights_in" => "mlp.fc1",
        "layer_scale1" if last == "lambda1" => return whole(format!("blocks.{block}.ls1.gamma")),
        "layer_scale2" if last == "lambda1" => return whole(format!("blocks.{block}.ls2.gamma")),
        other => other,
    };
    whole(format!("blocks.{block}.{part}.{last}"))
}

/// The reference's names; queries, keys and values become one map. What belongs to other parts
/// (pooler, classifier) keeps its name.
pub(super) fn canonical(path: &Path, raw: Arrays, prefix: &str) -> Result<(Arrays, Naming)> {
    let kind = if raw.contains_key(&format!("{prefix}{}", dinov3::MARK)) {
        Kind::Dinov3
    } else if raw.keys().any(|name| name.contains("layernorm_before")) {
        Kind::Vit
    } else if raw.contains_key(&format!("{prefix}embeddings.register_tokens")) {
        Kind::Dinov2WithRegisters
    } else {
        Kind::Dinov2
    };
    let is_dinov3 = kind == Kind::Dinov3;
    let gated = is_dinov3 && raw.keys().any(|name| name.contains(".mlp.gate_proj."));
    let place = if is_dinov3 { dinov3::place } else { place };
    let mut arrays = Arrays::new();
    let mut parts = Joined::default();
    for (name, array) in raw {
        // As it is written for a network without registers.
        if is_dinov3 && array.data.is_empty() && name.ends_with("register_tokens") {
            continue;
        }
        match name.strip_prefix(prefix).and_then(place) {
            Some(Place::Whole(place)) => {
                arrays.insert(format!("backbone.{place}"), array);
            }
            Some(Place::Part { name, of: 2, .. }) if !gated => {
                arrays.insert(format!("backbone.{name}"), array);
            }
            Some(Place::Part { name, part, of }) => {
                parts.add(format!("backbone.{name}"), part, of, array);
            }
            None => {
                arrays.insert(name, array);
            }
        }
    }
    arrays.extend(parts.finish(path, is_dinov3)?);
    Ok((arrays, Naming::HuggingFace(kind)))
}

/// A backbone's tensors, by the reference's names without `backbone.`, under Hugging Face's.
pub(super) fn named(backbone: &Arrays, kind: Kind, config: &VitConfig) -> Arrays {
    if kind == Kind::Dinov3 {
        return dinov3::named(backbone, config);
    }
    let mut arrays = Arrays::new();
    for (name, array) in backbone {
        let parts: Vec<_> = name.split('.').collect();
        let name = match parts[..] {
            ["cls_token" | "mask_token" | "register_tokens"] => format!("embeddings.{name}"),
            ["pos_embed"] => "embeddings.position_embeddings".into(),
            ["patch_embed", "proj", last] => {
                format!("embeddings.patch_embeddings.projection.{last}")
            }
            ["norm", last] => format!("layernorm.{last}"),
            ["blocks", i, "attn", "qkv", last] => {
                let at = |which| format!("encoder.layer.{i}.attention.attention.{which}.{last}");
                arrays.extend(joined::split(array, ["query", "key", "value"].map(at)));
                continue;
            }
            ["blocks", i, ref rest @ ..] => {
                let rest = match (kind, rest) {
                    (_, ["attn", "proj", last]) => format!("attention.output.dense.{last}"),
                    (Kind::Vit, ["norm1", last]) => format!("layernorm_before.{last}"),
                    (Kind::Vit, ["norm2", last]) => format!("layernorm_after.{last}"),
                    (Kind::Vit, ["mlp", "fc1", last]) => format!("intermediate.dense.{last}"),
                    (Kind::Vit, ["mlp", "fc2", last]) => format!("output.dense.{last}"),
                    (_, ["mlp", "fc1", last]) if config.gated_mlp => {
                        format!("mlp.weights_in.{last}")
                    }
                    (_, ["mlp", "fc2", last]) if config.gated_mlp => {
                        format!("mlp.weights_out.{last}")
                    }
                    (_, ["ls1", _]) => "layer_scale1.lambda1".into(),
                    (_, ["ls2", _]) => "layer_scale2.lambda1".into(),
                    (_, rest) => rest.join("."),
                };
                format!("encoder.layer.{i}.{rest}")
            }
            _ => continue,
        };
        arrays.insert(name, array.clone());
    }
    arrays
}

/// The network's metadata in `config.json`.
///
/// # Errors
/// [`crate::Error::BadWeights`] if it needs something that is not supported.
pub(super) fn metadata(path: &Path, config: &Value) -> Result<Vec<(String, String)>> {
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let mut metadata = Vec::new();
    if let Some(model_type) = text("model_type") {
        let kind = Kind::of_type(model_type).ok_or_else(|| {
            bad(
                path,
                format!(
                    "model_type {model_type}: one of vit, dinov2, dinov2_with_registers, dinov3_vit can \
                     be read"
                ),
            )
        })?;
        let rule = Naming::HuggingFace(kind).position_rule(kind == Kind::Dinov2WithRegisters);
        metadata.push(("position_rule".into(), rule.to_string()));
    }
    // DINOv2's gates are always SiLU's, whatever is written here.
    let gated = config.get("use_gated_mlp") == Some(&Value::Bool(true));
    let known = |act: &str| match gated {
        true => matches!(act, "silu" | "swish"),
        false => matches!(act, "gelu" | "gelu_python"),
    };
    if let Some(act) = text("hidden_act").filter(|act| !known(act)) {
        let reason = format!("hidden_act {act}: only gelu, and silu of gated MLPs, are supported");
        return Err(bad(path, reason));
    }
    if config.get("key_bias") == Some(&Value::Bool(true))
        && text("model_type") == Some("dinov3_vit")
    {
        return Err(bad(
            path,
            "key_bias true: keys with a bias are not supported".into(),
        ));
    }
    for (key, entry) in [
        ("num_attention_heads", "num_heads"),
        ("layer_norm_eps", "layer_norm_eps"),
        ("image_size", "image_size"),
        ("rope_theta", "rope_theta"),
        ("pos_embed_shift", "rope_shift"),
        ("pos_embed_jitter", "rope_jitter"),
        ("pos_embed_rescale", "rope_rescale"),
    ] {
        match config.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Number(number)) => metadata.push((entry.into(), number.to_string())),
            Some(other) => return Err(bad(path, format!("{key} {other}: not a number"))),
        }
    }
    Ok(metadata)
}

/// The multiple of the width that DINOv2's classes make the hidden width of, if there is one.
fn dinov2_ratio(config: &VitConfig) -> Option<usize> {
    let hidden = |ratio: &usize| match config.gated_mlp {
        true => (config.width * ratio * 2 / 3).next_multiple_of(8),
        false => config.width * ratio,
    };
    (1..=64).find(|ratio| hidden(ratio) == config.mlp_hidden())
}

/// Whether a class can have the hidden width of a network's MLP.
pub(super) fn has_hidden_width(config: &VitConfig, kind: Kind) -> bool {
    matches!(kind, Kind::Vit | Kind::Dinov3) || dinov2_ratio(config).is_some()
}

/// `config.json` for a network.
pub(super) fn config_json(config: &VitConfig, kind: Kind, mask_token: bool) -> Value {
    let (model_type, class) = kind.names();
    let mut value = json!({
        "architectures": [class],
        "attention_probs_dropout_prob": 0.0,
        "dtype": "float32",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": config.width,
        "image_size": config.image_size,
        "initializer_range": 0.02,
        "intermediate_size": config.mlp_hidden(),
        "layer_norm_eps": config.layer_norm_eps,
        "model_type": model_type,
        "num_attention_heads": config.heads,
        "num_channels": config.channels,
        "num_hidden_layers": config.depth,
        "patch_size": config.patch_size,
        "qkv_bias": true,
    });
    if kind == Kind::Vit {
        return value;
    }
    // Common to all classes that are backbones of others.
    let stages: Vec<_> = std::iter::once("stem".to_owned())
        .chain((1..=config.depth).map(|i| format!("stage{i}")))
        .collect();
    let backbone = json!({
        "apply_layernorm": true,
        "drop_path_rate": 0.0,
        "layerscale_value": 1.0,
        "out_features": [stages[config.depth]],
        "out_indices": [config.depth],
        "reshape_hidden_states": true,
        "stage_names": stages,
    });
    let all = value.as_object_mut().expect("an object");
    all.extend(backbone.as_object().expect("an object").clone());
    if kind == Kind::Dinov3 {
        dinov3::extend_config(all, config);
        return value;
    }
    all.remove("intermediate_size");
    let ratio = dinov2_ratio(config).unwrap_or(config.mlp_ratio);
    all.insert("mlp_ratio".into(), ratio.into());
    all.insert("use_swiglu_ffn".into(), config.gated_mlp.into());
    if kind == Kind::Dinov2 {
        all.insert("use_mask_token".into(), mask_token.into());
    } else {
        all.insert("num_register_tokens".into(), config.registers.into());
    }
    value
}

/// The preprocessing in `preprocessor_config.json`; `None` if it is incomplete.
///
/// Its class for `ViTModel` squeezes images into a square; here the aspect ratio is kept and
/// the centre cut out.
pub(super) fn preparation(config: &Value) -> Option<Preparation> {
    let off = |key: &str| config.get(key) == Some(&Value::Bool(false));
    let number = |value: &Value| usize::try_from(value.as_u64()?).ok();
    let side = |key: &str| {
        let value = config.get(key)?;
        number(value).or_else(|| {
            let height = value.get("height").and_then(number);
            let width = value.get("width").and_then(number);
            let shortest = value.get("shortest_edge").and_then(number);
            shortest.or(height.filter(|_| height == width))
        })
    };
    let size = side("size").or_else(|| side("crop_size"))?;
    let crop = match side("crop_size") {
        Some(crop) if !off("do_center_crop") => crop,
        _ => size,
    };
    // Of residual networks: the crop, and its share of the image.
    let share = config.get("crop_pct").and_then(Value::as_f64);
    let share = share.filter(|&share| share > 0.0 && share <= 1.0 && size < 384);
    let resize = match share {
        Some(share) if side("crop_size").is_none() => (size as f64 / share) as usize,
        _ => size,
    };
    let numbers = |key: &str, default: f32| {
        if off("do_normalize") {
            return Some(vec![default; 3]);
        }
        super::preprocess::numbers(config.get(key)?)
    };
    let mean = numbers("image_mean", 0.0)?;
    Preparation {
        resize: resize.max(crop),
        crop,
        stored: mean.len() != 3,
        mean,
        std: numbers("image_std", 1.0)?,
    }
    .checked()
}

/// `preprocessor_config.json` for a preparation.
pub(super) fn preprocessor_json(preparation: &Preparation) -> Value {
    json!({
        "crop_size": { "height": preparation.crop, "width": preparation.crop },
        "do_center_crop": true,
        "do_convert_rgb": !preparation.stored,
        "do_normalize": true,
        "do_rescale": true,
        "do_resize": true,
        "image_mean": preparation.mean,
        "image_processor_type": "BitImageProcessor",
        "image_std": preparation.std,
        // Pillow's number for bicubic.
        "resample": 3,
        "rescale_factor": 1.0 / 255.0,
        "size": { "shortest_edge": preparation.resize },
    })
}
