//! Hugging Face's `ViTModel`, `Dinov2Model` and `Dinov2WithRegistersModel`: their names and the
//! two JSON sidecar files.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::preprocess::Preparation;
use super::scheme::{Kind, Naming};
use super::{Array, bad};
use crate::{Result, VitConfig};

type Arrays = BTreeMap<String, Array>;

/// The end of a name that every such network has; what precedes it precedes all names.
pub(super) const MARK: &str = "embeddings.patch_embeddings.projection.weight";

/// The prefix of the names (`vit.`, `dinov2.` or nothing), if they are Hugging Face's.
pub(super) fn prefix(raw: &Arrays) -> Option<String> {
    raw.keys()
        .find_map(|name| name.strip_suffix(MARK))
        .map(str::to_owned)
}

/// A tensor's place in the reference's network.
enum Place {
    Whole(String),
    /// The query's, key's or value's (0, 1, 2) rows of a joint map.
    Third(String, usize),
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
    let joint = |third| {
        let name = format!("blocks.{block}.attn.qkv.{last}");
        Some(Place::Third(name, third))
    };
    let part = match part {
        "attention.attention.query" => return joint(0),
        "attention.attention.key" => return joint(1),
        "attention.attention.value" => return joint(2),
        "attention.output.dense" => "attn.proj",
        "layernorm_before" => "norm1",
        "layernorm_after" => "norm2",
        "intermediate.dense" => "mlp.fc1",
        "output.dense" => "mlp.fc2",
        "layer_scale1" if last == "lambda1" => return whole(format!("blocks.{block}.ls1.gamma")),
        "layer_scale2" if last == "lambda1" => return whole(format!("blocks.{block}.ls2.gamma")),
        other => other,
    };
    whole(format!("blocks.{block}.{part}.{last}"))
}

/// The reference's names; queries, keys and values become one map. What belongs to other parts
/// (pooler, classifier) keeps its name.
pub(super) fn canonical(path: &Path, raw: Arrays, prefix: &str) -> Result<(Arrays, Naming)> {
    let kind = if raw.keys().any(|name| name.contains("layernorm_before")) {
        Kind::Vit
    } else if raw.contains_key(&format!("{prefix}embeddings.register_tokens")) {
        Kind::Dinov2WithRegisters
    } else {
        Kind::Dinov2
    };
    let mut arrays = Arrays::new();
    let mut thirds: BTreeMap<String, [Option<Array>; 3]> = BTreeMap::new();
    for (name, array) in raw {
        match name.strip_prefix(prefix).and_then(place) {
            Some(Place::Whole(place)) => {
                arrays.insert(format!("backbone.{place}"), array);
            }
            Some(Place::Third(place, third)) => {
                thirds.entry(format!("backbone.{place}")).or_default()[third] = Some(array);
            }
            None => {
                arrays.insert(name, array);
            }
        }
    }
    for (name, thirds) in thirds {
        let [Some(query), Some(key), Some(value)] = thirds else {
            return Err(bad(
                path,
                format!("does not have all of query, key and value of {name}"),
            ));
        };
        if query.shape != key.shape || key.shape != value.shape || query.shape.is_empty() {
            return Err(bad(
                path,
                format!(
                    "query, key and value of {name} differ in shape: {:?}, {:?}, {:?}",
                    query.shape, key.shape, value.shape
                ),
            ));
        }
        let mut shape = query.shape.clone();
        shape[0] = shape[0].saturating_mul(3);
        let data = [query.data, key.data, value.data].concat();
        arrays.insert(name, Array { shape, data });
    }
    Ok((arrays, Naming::HuggingFace(kind)))
}

/// A backbone's tensors, by the reference's names without `backbone.`, under Hugging Face's.
pub(super) fn named(backbone: &Arrays, kind: Kind) -> Arrays {
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
                let third = array.data.len() / 3;
                let mut shape = array.shape.clone();
                shape[0] /= 3;
                for (j, which) in ["query", "key", "value"].into_iter().enumerate() {
                    let part = Array {
                        shape: shape.clone(),
                        data: array.data[j * third..][..third].to_vec(),
                    };
                    let name = format!("encoder.layer.{i}.attention.attention.{which}.{last}");
                    arrays.insert(name, part);
                }
                continue;
            }
            ["blocks", i, ref rest @ ..] => {
                let rest = match (kind, rest) {
                    (_, ["attn", "proj", last]) => format!("attention.output.dense.{last}"),
                    (Kind::Vit, ["norm1", last]) => format!("layernorm_before.{last}"),
                    (Kind::Vit, ["norm2", last]) => format!("layernorm_after.{last}"),
                    (Kind::Vit, ["mlp", "fc1", last]) => format!("intermediate.dense.{last}"),
                    (Kind::Vit, ["mlp", "fc2", last]) => format!("output.dense.{last}"),
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
                    "model_type {model_type}: one of vit, dinov2, dinov2_with_registers can be read"
                ),
            )
        })?;
        let rule = Naming::HuggingFace(kind).position_rule(kind == Kind::Dinov2WithRegisters);
        metadata.push(("position_rule".into(), rule.to_string()));
    }
    if let Some(act) = text("hidden_act").filter(|act| !matches!(*act, "gelu" | "gelu_python")) {
        return Err(bad(
            path,
            format!("hidden_act {act}: only gelu is supported"),
        ));
    }
    if config.get("use_swiglu_ffn") == Some(&Value::Bool(true)) {
        let reason = "use_swiglu_ffn: a gated MLP (SwiGLU, as in DINOv2's giant) is not supported";
        return Err(bad(path, reason.into()));
    }
    for (key, entry) in [
        ("num_attention_heads", "num_heads"),
        ("layer_norm_eps", "layer_norm_eps"),
    ] {
        match config.get(key) {
            None => {}
            Some(Value::Number(number)) => metadata.push((entry.into(), number.to_string())),
            Some(other) => return Err(bad(path, format!("{key} {other}: not a number"))),
        }
    }
    Ok(metadata)
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
        "intermediate_size": config.width * config.mlp_ratio,
        "layer_norm_eps": config.layer_norm_eps,
        "model_type": model_type,
        "num_attention_heads": config.heads,
        "num_channels": config.channels,
        "num_hidden_layers": config.depth,
        "patch_size": config.patch_size,
        "qkv_bias": true,
    });
    if kind != Kind::Vit {
        let stages: Vec<_> = std::iter::once("stem".to_owned())
            .chain((1..=config.depth).map(|i| format!("stage{i}")))
            .collect();
        let dinov2 = json!({
            "apply_layernorm": true,
            "drop_path_rate": 0.0,
            "layerscale_value": 1.0,
            "mlp_ratio": config.mlp_ratio,
            "out_features": [stages[config.depth]],
            "out_indices": [config.depth],
            "reshape_hidden_states": true,
            "stage_names": stages,
            "use_swiglu_ffn": false,
        });
        let all = value.as_object_mut().expect("an object");
        all.remove("intermediate_size");
        all.extend(dinov2.as_object().expect("an object").clone());
        if kind == Kind::Dinov2 {
            all.insert("use_mask_token".into(), mask_token.into());
        } else {
            all.insert("num_register_tokens".into(), config.registers.into());
        }
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
    let resize = side("size").or_else(|| side("crop_size"))?;
    let crop = match side("crop_size") {
        Some(crop) if !off("do_center_crop") => crop,
        _ => resize,
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
