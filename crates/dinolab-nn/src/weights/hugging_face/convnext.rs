//! Hugging Face's `ConvNextModel` and `DINOv3ConvNextModel`, and what configurations say of ConvNeXts.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::super::{Array, bad};
use crate::{ConvNextConfig, Result};

type Arrays = BTreeMap<String, Array>;

/// The end of a name that every `ConvNextModel` has; what precedes it precedes all names.
pub(in super::super) const MARK: &str = "encoder.stages.0.layers.0.dwconv.weight";
/// The same of a `DINOv3ConvNextModel`, in memory after `model.`, in its files without that.
pub(in super::super) const DINOV3_MARK: &str = "stages.0.layers.0.depthwise_conv.weight";
/// Arguments of timm's networks that do not change how features are computed, or show in the tensors.
const HARMLESS: [&str; 11] = [
    "conv_mlp",
    "depths",
    "dims",
    "drop_path_rate",
    "drop_rate",
    "global_pool",
    "head_init_scale",
    "in_chans",
    "ls_init_value",
    "num_classes",
    "patch_size",
];

/// The authors' name of one of a `ConvNextModel`.
pub(in super::super) fn place(name: &str) -> Option<String> {
    Some(match name.split('.').collect::<Vec<_>>()[..] {
        ["embeddings", "patch_embeddings", last] => format!("downsample_layers.0.0.{last}"),
        ["embeddings", "layernorm", last] => format!("downsample_layers.0.1.{last}"),
        ["layernorm", last] => format!("norm.{last}"),
        ["encoder", "stages", stage, "downsampling_layer", part, last] => {
            format!("downsample_layers.{stage}.{part}.{last}")
        }
        ["encoder", "stages", stage, "layers", block, ref rest @ ..] => {
            let rest = match *rest {
                ["layer_scale_parameter"] => "gamma".into(),
                ["layernorm", last] => format!("norm.{last}"),
                ref other => other.join("."),
            };
            format!("stages.{stage}.{block}.{rest}")
        }
        _ => return None,
    })
}

/// The authors' name of one of a `DINOv3ConvNextModel`.
pub(in super::super) fn dinov3_place(name: &str) -> Option<String> {
    let name = name.strip_prefix("model.").unwrap_or(name);
    Some(match name.split('.').collect::<Vec<_>>()[..] {
        ["layer_norm", last] => format!("norm.{last}"),
        ["stages", stage, "downsample_layers", part, last] => {
            format!("downsample_layers.{stage}.{part}.{last}")
        }
        ["stages", stage, "layers", block, ref rest @ ..] => {
            let rest = match *rest {
                ["depthwise_conv", last] => format!("dwconv.{last}"),
                ["layer_norm", last] => format!("norm.{last}"),
                ["pointwise_conv1", last] => format!("pwconv1.{last}"),
                ["pointwise_conv2", last] => format!("pwconv2.{last}"),
                ref other => other.join("."),
            };
            format!("stages.{stage}.{block}.{rest}")
        }
        _ => return None,
    })
}

/// A backbone's tensors, by the authors' names, under those of a `ConvNextModel`.
pub(in super::super) fn named(backbone: &Arrays) -> Arrays {
    let name_of = |name: &str| match name.split('.').collect::<Vec<_>>()[..] {
        ["downsample_layers", "0", "0", last] => format!("embeddings.patch_embeddings.{last}"),
        ["downsample_layers", "0", "1", last] => format!("embeddings.layernorm.{last}"),
        ["downsample_layers", stage, part, last] => {
            format!("encoder.stages.{stage}.downsampling_layer.{part}.{last}")
        }
        ["norm", last] => format!("layernorm.{last}"),
        ["stages", stage, block, ref rest @ ..] => {
            let rest = match *rest {
                ["gamma"] => "layer_scale_parameter".into(),
                ["norm", last] => format!("layernorm.{last}"),
                ref other => other.join("."),
            };
            format!("encoder.stages.{stage}.layers.{block}.{rest}")
        }
        _ => name.to_owned(),
    };
    let pairs = backbone.iter();
    pairs.map(|(k, v)| (name_of(k), v.clone())).collect()
}

/// `config.json` of a `ConvNextModel`.
pub(in super::super) fn config_json(config: &ConvNextConfig) -> Value {
    json!({
        "architectures": ["ConvNextModel"],
        "depths": config.depths,
        "drop_path_rate": 0.0,
        "dtype": "float32",
        "hidden_act": "gelu",
        "hidden_sizes": config.widths,
        "image_size": 224,
        "initializer_range": 0.02,
        "layer_norm_eps": config.layer_norm_eps,
        "layer_scale_init_value": 1e-6,
        "model_type": "convnext",
        "num_channels": config.channels,
        "num_stages": 4,
        "out_features": ["stage4"],
        "out_indices": [4],
        "patch_size": 4,
        "stage_names": ["stem", "stage1", "stage2", "stage3", "stage4"],
    })
}

/// What the configuration of a ConvNeXt says of how it is computed.
///
/// # Errors
/// [`crate::Error::BadWeights`], which names the entry, for networks of Hugging Face and timm that have the
/// same tensors and are computed otherwise.
pub(in super::super) fn metadata(path: &Path, config: &Value) -> Result<Vec<(String, String)>> {
    let refused = |what: String| {
        let reason = format!("{what}: a ConvNeXt that is computed otherwise");
        Err(bad(path, reason))
    };
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let kind = text("model_type");
    if let Some(kind) = kind.filter(|kind| !matches!(*kind, "convnext" | "dinov3_convnext")) {
        return refused(format!("model_type {kind}"));
    }
    if let Some(act) = text("hidden_act").filter(|&act| act != "gelu") {
        return refused(format!("hidden_act {act}"));
    }
    let plain = |name: &str| {
        let name = name.split('.').next().unwrap_or_default();
        let size = name.strip_prefix("convnext_");
        size.is_some_and(|size| size == "xlarge" || ConvNextConfig::NAMES.contains(&name))
    };
    if let Some(name) = text("architecture").filter(|name| !plain(name)) {
        return refused(format!("architecture {name}"));
    }
    let arguments = config.get("model_args").and_then(Value::as_object);
    let mut names = arguments.into_iter().flat_map(serde_json::Map::keys);
    if let Some(name) = names.find(|name| !HARMLESS.contains(&name.as_str())) {
        return refused(format!("model_args {name}"));
    }
    let mut metadata = Vec::new();
    if let Some(eps) = config.get("layer_norm_eps").filter(|eps| !eps.is_null()) {
        let number = eps.as_f64();
        // DINOv3's is that of all norms.
        if number.is_none() || kind == Some("dinov3_convnext") && number != Some(1e-6) {
            return refused(format!("layer_norm_eps {eps}"));
        }
        metadata.push(("layer_norm_eps".to_owned(), eps.to_string()));
    }
    Ok(metadata)
}
