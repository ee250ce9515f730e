//! Hugging Face's `ResNetModel` under torchvision's names, and what configurations say of residual networks.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::super::{Array, bad};
use crate::{ResNetConfig, Result};

type Arrays = BTreeMap<String, Array>;

/// The end of a name that every such network has; what precedes it precedes all names.
pub(in super::super) const MARK: &str = "encoder.stages.0.layers.0.layer.0.convolution.weight";
/// Arguments of timm's networks that do not change how features are computed, or show in the tensors.
const HARMLESS: [&str; 7] = [
    "block",
    "drop_path_rate",
    "drop_rate",
    "global_pool",
    "in_chans",
    "layers",
    "num_classes",
];

/// The arrays with the names of a `ResNetModel` replaced by the reference's full names; others as they are.
pub(in super::super) fn renamed(raw: Arrays) -> Arrays {
    let prefix = |name: &String| {
        let prefix = name.strip_suffix(MARK)?;
        (prefix.is_empty() || prefix.ends_with('.')).then(|| prefix.to_owned())
    };
    let Some(prefix) = raw.keys().find_map(prefix) else {
        return raw;
    };
    let name_of = |name: String| {
        let place = name.strip_prefix(&prefix).and_then(place);
        place.map_or(name, |place| format!("backbone.{place}"))
    };
    raw.into_iter()
        .map(|(name, array)| (name_of(name), array))
        .collect()
}

/// torchvision's name.
fn place(name: &str) -> Option<String> {
    let parts: Vec<_> = name.split('.').collect();
    let number = |text: &str, more: usize| Some(text.parse::<usize>().ok()? + more);
    Some(match parts[..] {
        ["embedder", "embedder", "convolution", last] => format!("conv1.{last}"),
        ["embedder", "embedder", "normalization", last] => format!("bn1.{last}"),
        ["encoder", "stages", stage, "layers", block, ref rest @ ..] => {
            let stage = number(stage, 1)?;
            let rest = match *rest {
                ["layer", at, "convolution", last] => format!("conv{}.{last}", number(at, 1)?),
                ["layer", at, "normalization", last] => format!("bn{}.{last}", number(at, 1)?),
                ["shortcut", "convolution", last] => format!("downsample.0.{last}"),
                ["shortcut", "normalization", last] => format!("downsample.1.{last}"),
                _ => return None,
            };
            format!("layer{stage}.{block}.{rest}")
        }
        _ => return None,
    })
}

/// A backbone's tensors, by torchvision's names, under those of a `ResNetModel`.
pub(in super::super) fn named(backbone: &Arrays) -> Arrays {
    let layer = |conv_or_norm: &str| match conv_or_norm.starts_with("bn") {
        true => "normalization",
        false => "convolution",
    };
    // Numbers begin with 0 there.
    let before = |text: &str| {
        let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
        digits.parse::<usize>().map_or(0, |number| number - 1)
    };
    let name_of = |name: &str| match name.split('.').collect::<Vec<_>>()[..] {
        [stem, last] => format!("embedder.embedder.{}.{last}", layer(stem)),
        [stage, block, ref rest @ ..] => {
            let rest = match *rest {
                ["downsample", "0", last] => format!("shortcut.convolution.{last}"),
                ["downsample", _, last] => format!("shortcut.normalization.{last}"),
                [inner, last] => format!("layer.{}.{}.{last}", before(inner), layer(inner)),
                ref other => other.join("."),
            };
            format!("encoder.stages.{}.layers.{block}.{rest}", before(stage))
        }
        _ => name.to_owned(),
    };
    let pairs = backbone.iter();
    pairs.map(|(k, v)| (name_of(k), v.clone())).collect()
}

/// `config.json` of a `ResNetModel`.
pub(in super::super) fn config_json(config: &ResNetConfig) -> Value {
    let hidden: Vec<usize> = (0..4)
        .map(|stage| (config.features() / 8) << stage)
        .collect();
    json!({
        "architectures": ["ResNetModel"],
        "depths": config.blocks,
        "downsample_in_bottleneck": false,
        "downsample_in_first_stage": false,
        "dtype": "float32",
        "embedding_size": config.width,
        "hidden_act": "relu",
        "hidden_sizes": hidden,
        "layer_type": if config.bottleneck { "bottleneck" } else { "basic" },
        "model_type": "resnet",
        "num_channels": config.channels,
        "out_features": ["stage4"],
        "out_indices": [4],
        "stage_names": ["stem", "stage1", "stage2", "stage3", "stage4"],
    })
}

/// Refuses networks of Hugging Face and timm that have torchvision's tensors and are computed otherwise.
///
/// # Errors
/// [`crate::Error::BadWeights`], which names the entry.
pub(in super::super) fn check_config(path: &Path, config: &Value) -> Result<()> {
    let refused = |what: String| {
        Err(bad(
            path,
            format!("{what}: a residual network that is computed otherwise"),
        ))
    };
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    if let Some(kind) = text("model_type").filter(|&kind| kind != "resnet") {
        return refused(format!("model_type {kind}"));
    }
    if let Some(act) = text("hidden_act").filter(|&act| act != "relu") {
        return refused(format!("hidden_act {act}"));
    }
    for key in ["downsample_in_bottleneck", "downsample_in_first_stage"] {
        if config.get(key) == Some(&Value::Bool(true)) {
            return refused(format!("{key} true"));
        }
    }
    let plain = |name: &str| {
        let name = name.split('.').next().unwrap_or_default();
        let depth = name.trim_start_matches("tv_").strip_prefix("resnet");
        depth.is_some_and(|depth| depth.parse::<u32>().is_ok())
    };
    if let Some(name) = text("architecture").filter(|name| !plain(name)) {
        return refused(format!("architecture {name}"));
    }
    let arguments = config.get("model_args").and_then(Value::as_object);
    let mut names = arguments.into_iter().flat_map(serde_json::Map::keys);
    match names.find(|name| !HARMLESS.contains(&name.as_str())) {
        Some(name) => refused(format!("model_args {name}")),
        None => Ok(()),
    }
}
