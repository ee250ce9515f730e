//! ConvNeXts by the names of their authors' code, which DINOv3's own files have, too; read from and written
//! to those of timm and Hugging Face.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::convolutional::{BACKBONE, check_known};
use super::hugging_face::convnext as hugging_face;
use super::{Array, Weights, bad};
use crate::{ConvNextConfig, Result};

type Arrays = BTreeMap<String, Array>;

/// The end of a name that every ConvNeXt has, and no other network.
pub(super) const MARK: &str = "stages.0.0.dwconv.weight";
/// The same in timm's networks.
pub(super) const TIMM_MARK: &str = "stages.0.blocks.0.conv_dw.weight";
/// timm's sizes whose MLPs are convolutions, with weights `[O, I, 1, 1]`.
const WITH_CONVOLUTIONS: [&str; 4] = [
    "convnext_atto",
    "convnext_femto",
    "convnext_pico",
    "convnext_nano",
];

/// The name in a scheme, for the authors' name, and the reverse.
type Rename = fn(&str) -> Option<String>;

/// Whether these are the arrays of a ConvNeXt, by themselves or next to a head.
pub(super) fn is(raw: &Arrays) -> bool {
    raw.contains_key(MARK) || raw.contains_key(&format!("{BACKBONE}{MARK}"))
}

/// The arrays with timm's and Hugging Face's names of a ConvNeXt replaced by the full names here, and
/// convolutions of its MLPs by linear layers; others as they are.
pub(super) fn renamed(raw: Arrays) -> Arrays {
    let schemes: [(&str, Rename); 4] = [
        (MARK, |name| Some(name.to_owned())),
        (TIMM_MARK, from_timm),
        (hugging_face::MARK, hugging_face::place),
        (hugging_face::DINOV3_MARK, hugging_face::dinov3_place),
    ];
    let found = schemes.into_iter().find_map(|(mark, rename)| {
        let prefix = raw.keys().find_map(|name| name.strip_suffix(mark))?;
        // The final norm of DINOv3's class in memory is outside of `model.`.
        let prefix = match mark == hugging_face::DINOV3_MARK {
            true => prefix.strip_suffix("model.").unwrap_or(prefix),
            false => prefix,
        };
        (prefix.is_empty() || prefix.ends_with('.')).then(|| (prefix.to_owned(), rename))
    });
    let Some((prefix, rename)) = found else {
        return raw;
    };
    let of = |(name, mut array): (String, Array)| {
        let Some(local) = name.strip_prefix(&prefix).filter(|name| !is_head(name)) else {
            return Some((name, array));
        };
        // DINOv3's files have the final norm twice.
        if local.starts_with("norms.") {
            return None;
        }
        let local = rename(local).unwrap_or_else(|| local.to_owned());
        if let ([_, _, 1, 1], true) = (&array.shape[..], local.contains(".pwconv")) {
            array.shape.truncate(2);
        }
        Some((format!("{BACKBONE}{local}"), array))
    };
    raw.into_iter().filter_map(of).collect()
}

/// Whether a name is that of a head next to a lone backbone: of this program, or a classifier.
fn is_head(name: &str) -> bool {
    let name = name.strip_prefix(BACKBONE).unwrap_or(name);
    let head = name.starts_with("head.") || name.starts_with("ibot_head.");
    head && !name.starts_with("head.norm.")
}

/// The authors' name of timm's.
fn from_timm(name: &str) -> Option<String> {
    Some(match name.split('.').collect::<Vec<_>>()[..] {
        ["stem", part @ ("0" | "1"), last] => format!("downsample_layers.0.{part}.{last}"),
        ["head", "norm", last] => format!("norm.{last}"),
        ["stages", stage, "downsample", part, last] => {
            format!("downsample_layers.{stage}.{part}.{last}")
        }
        ["stages", stage, "blocks", block, ref rest @ ..] => {
            let rest = match *rest {
                ["conv_dw", last] => format!("dwconv.{last}"),
                ["mlp", "fc1", last] => format!("pwconv1.{last}"),
                ["mlp", "fc2", last] => format!("pwconv2.{last}"),
                ref other => other.join("."),
            };
            format!("stages.{stage}.{block}.{rest}")
        }
        _ => return None,
    })
}

/// timm's name of the authors'.
fn timm(name: &str) -> String {
    match name.split('.').collect::<Vec<_>>()[..] {
        ["downsample_layers", "0", part, last] => format!("stem.{part}.{last}"),
        ["downsample_layers", stage, part, last] => {
            format!("stages.{stage}.downsample.{part}.{last}")
        }
        ["norm", last] => format!("head.norm.{last}"),
        ["stages", stage, block, ref rest @ ..] => {
            let rest = match *rest {
                ["dwconv", last] => format!("conv_dw.{last}"),
                ["pwconv1", last] => format!("mlp.fc1.{last}"),
                ["pwconv2", last] => format!("mlp.fc2.{last}"),
                ref other => other.join("."),
            };
            format!("stages.{stage}.blocks.{block}.{rest}")
        }
        _ => name.to_owned(),
    }
}

/// Whether timm's network of these sizes has convolutions in place of linear layers.
fn with_convolutions(config: &ConvNextConfig) -> bool {
    let (widths, depths) = (config.widths, config.depths);
    let named = WITH_CONVOLUTIONS
        .into_iter()
        .filter_map(ConvNextConfig::named);
    named
        .into_iter()
        .any(|named| (named.widths, named.depths) == (widths, depths))
}

/// `config.json` of a folder that `timm.create_model("local-dir:…")` reads, with the entries of its images'
/// `preparation`.
pub(super) fn timm_config(
    config: &ConvNextConfig,
    preparation: Option<serde_json::Map<String, Value>>,
) -> Value {
    let mut images = json!({
        "classifier": "head.fc",
        "custom_load": false,
        "first_conv": "stem.0",
        "fixed_input_size": false,
        "num_classes": 0,
        "pool_size": null,
    });
    let all = images.as_object_mut().expect("an object");
    all.extend(preparation.into_iter().flatten());
    json!({
        "architecture": "convnext_tiny",
        "global_pool": "avg",
        "model_args": {
            "conv_mlp": with_convolutions(config),
            "depths": config.depths,
            "dims": config.widths,
            "in_chans": config.channels,
        },
        "num_classes": 0,
        "num_features": config.features(),
        "pretrained_cfg": images,
    })
}

/// A backbone's tensors, by the authors' names, under timm's.
pub(super) fn timm_named(backbone: &Arrays, config: &ConvNextConfig) -> Arrays {
    let convolutions = with_convolutions(config);
    let of = |(name, array): (&String, &Array)| {
        let mut array = array.clone();
        if convolutions && name.contains(".pwconv") && array.shape.len() == 2 {
            array.shape.extend([1, 1]);
        }
        (timm(name), array)
    };
    backbone.iter().map(of).collect()
}

/// Refuses networks with tensors that would be computed wrongly, or not at all: response normalisation
/// of ConvNeXt V2, other stems, a norm before the mean.
///
/// # Errors
/// [`crate::Error::BadWeights`].
pub(super) fn check(path: &Path, arrays: &Arrays) -> Result<()> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let pair = |part: &str| matches!(part, "weight" | "bias");
    let known = |name: &str| match name.split('.').collect::<Vec<_>>()[..] {
        ["norm", part] => pair(part),
        ["downsample_layers", "0" | "1" | "2" | "3", "0" | "1", part] => pair(part),
        ["stages", "0" | "1" | "2" | "3", block, ref rest @ ..] if number(block) => match *rest {
            ["gamma"] => true,
            ["dwconv" | "norm" | "pwconv1" | "pwconv2", part] => pair(part),
            _ => false,
        },
        // A classifier, under the names of others.
        [first, ..] => !matches!(
            first,
            "norm"
                | "norm_pre"
                | "downsample_layers"
                | "stages"
                | "stem"
                | "embeddings"
                | "encoder"
                | "model"
        ),
        [] => true,
    };
    check_known(path, arrays.iter(), known)
}

/// The sizes of the ConvNeXt.
///
/// # Errors
/// [`crate::Error::BadWeights`] if tensors are missing or of other shapes.
pub(super) fn config(weights: &Weights) -> Result<ConvNextConfig> {
    let shape = |name: &str| weights.backbone_shape(name);
    let first = "downsample_layers.0.0.weight";
    let stem = shape(first).unwrap_or_default();
    let &[width, channels, _, _] = stem else {
        let reason = format!("tensor {first} has shape {stem:?}");
        return Err(bad(&weights.path, reason));
    };
    let width_of = |stage: usize| {
        let conv = shape(&format!("downsample_layers.{stage}.1.weight"));
        conv.and_then(|shape| shape.first().copied()).unwrap_or(0)
    };
    let depths = [0, 1, 2, 3].map(|stage| {
        let has = |block: &usize| shape(&format!("stages.{stage}.{block}.dwconv.weight")).is_some();
        (0..).take_while(has).count()
    });
    let mut config = ConvNextConfig {
        channels,
        widths: [width, width_of(1), width_of(2), width_of(3)],
        depths,
        ..ConvNextConfig::default()
    };
    config.layer_norm_eps = epsilon(weights).unwrap_or(config.layer_norm_eps);
    config.validate()?;
    weights.check_backbone(config.tensors(), &config.clone().into())?;
    Ok(config)
}

/// The final norm's epsilon, if the metadata has it.
fn epsilon(weights: &Weights) -> Option<f64> {
    let sizes = weights.metadata.get(crate::backbone::CONVNEXT);
    let sizes = sizes.and_then(|text| serde_json::from_str::<ConvNextConfig>(text).ok());
    let said = || weights.metadata.get("layer_norm_eps")?.parse().ok();
    sizes.map(|sizes| sizes.layer_norm_eps).or_else(said)
}
