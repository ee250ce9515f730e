//! Residual networks by torchvision's names, which timm and the reference have too.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::convolutional::{BACKBONE, check_known};
use super::{Array, Weights, bad};
use crate::{BackboneConfig, ResNetConfig, Result};

type Arrays = BTreeMap<String, Array>;

/// The end of a name that every residual network has, and no other network.
pub(super) const MARK: &str = "layer1.0.conv1.weight";

/// Whether these are the arrays of a residual network, by themselves or next to a head.
pub(super) fn is(raw: &Arrays) -> bool {
    raw.contains_key(MARK) || raw.contains_key(&format!("{BACKBONE}{MARK}"))
}

/// `config.json` of a folder that `timm.create_model("local-dir:…")` reads, with the entries of its images'
/// `preparation`; `None` where timm has no network of these sizes.
pub(super) fn timm_config(
    config: &ResNetConfig,
    preparation: Option<serde_json::Map<String, Value>>,
) -> Option<Value> {
    let name = BackboneConfig::from(config.clone()).convolutional_name()?;
    let mut images = json!({
        "classifier": "fc",
        "custom_load": false,
        "first_conv": "conv1",
        "fixed_input_size": false,
        "num_classes": 0,
        "pool_size": null,
    });
    let all = images.as_object_mut().expect("an object");
    all.extend(preparation.into_iter().flatten());
    Some(json!({
        "architecture": name,
        "global_pool": "avg",
        "model_args": {"in_chans": config.channels},
        "num_classes": 0,
        "num_features": config.features(),
        "pretrained_cfg": images,
    }))
}

/// Refuses networks with tensors that would be computed wrongly, or not at all: squeeze and
/// excitation, another stem, other normalisation.
///
/// # Errors
/// [`crate::Error::BadWeights`].
pub(super) fn check(path: &Path, arrays: &Arrays) -> Result<()> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let norm = |part: &str| matches!(part, "weight" | "bias" | "running_mean" | "running_var");
    let known = |name: &str| match name.split('.').collect::<Vec<_>>()[..] {
        ["conv1", "weight"] => true,
        ["bn1", part] => norm(part),
        [
            "layer1" | "layer2" | "layer3" | "layer4",
            block,
            ref rest @ ..,
        ] if number(block) => match *rest {
            ["conv1" | "conv2" | "conv3", "weight"] | ["downsample", "0", "weight"] => true,
            ["bn1" | "bn2" | "bn3", part] | ["downsample", "1", part] => norm(part),
            _ => false,
        },
        // A classifier, under the names of torchvision and others.
        [first, ..] => !matches!(first, "conv1" | "bn1") && !first.starts_with("layer"),
        [] => true,
    };
    check_known(path, arrays.iter(), known)
}

/// The sizes of the residual network.
///
/// # Errors
/// [`crate::Error::BadWeights`] if tensors are missing or of other shapes.
pub(super) fn config(weights: &Weights) -> Result<ResNetConfig> {
    let shape = |name: &str| weights.backbone_shape(name);
    let stem = shape("conv1.weight").unwrap_or_default();
    let &[width, channels, _, _] = stem else {
        let reason = format!("tensor conv1.weight has shape {stem:?}");
        return Err(bad(&weights.path, reason));
    };
    let blocks = [1, 2, 3, 4].map(|stage| {
        let has = |block: &usize| shape(&format!("layer{stage}.{block}.conv1.weight")).is_some();
        (0..).take_while(has).count()
    });
    let config = ResNetConfig {
        channels,
        width,
        blocks,
        bottleneck: shape("layer1.0.conv3.weight").is_some(),
    };
    config.validate()?;
    weights.check_backbone(config.tensors(), &config.clone().into())?;
    Ok(config)
}
