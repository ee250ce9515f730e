//! Residual networks by torchvision's names, which timm and the reference have too.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Array, Weights, bad};
use crate::backbone::RESNET;
use crate::{BackboneConfig, ResNetConfig, Result};

type Arrays = BTreeMap<String, Array>;

/// The end of a name that every residual network has, and no other network.
pub(super) const MARK: &str = "layer1.0.conv1.weight";
/// What precedes the names of a backbone.
const BACKBONE: &str = "backbone.";

/// Whether these are the arrays of a residual network, by themselves or next to a head.
pub(super) fn is(raw: &Arrays) -> bool {
    raw.contains_key(MARK) || raw.contains_key(&format!("{BACKBONE}{MARK}"))
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
    let names = arrays.keys().filter_map(|name| name.strip_prefix(BACKBONE));
    let unknown: Vec<_> = names.filter(|name| !known(name)).collect();
    match unknown.first() {
        None => Ok(()),
        Some(first) => Err(bad(
            path,
            format!(
                "has parts that dinolab does not compute: {} tensors, the first is {first}",
                unknown.len()
            ),
        )),
    }
}

impl Weights {
    /// The sizes of the backbone, of whatever kind; `heads` is that of
    /// [`vit_config`](Self::vit_config).
    ///
    /// # Errors
    /// As [`vit_config`](Self::vit_config), and likewise for a residual network.
    pub fn backbone_config(&self, heads: Option<usize>) -> Result<BackboneConfig> {
        match self.resnet_config()? {
            Some(config) => Ok(config.into()),
            None => Ok(self.vit_config(heads)?.into()),
        }
    }

    /// The sizes of the residual network; `None` for weights of another one.
    ///
    /// # Errors
    /// [`crate::Error::BadWeights`] if tensors are missing or of other shapes. A network of the
    /// returned sizes is not larger than the tensors that were read.
    pub fn resnet_config(&self) -> Result<Option<ResNetConfig>> {
        if !is(&self.arrays) {
            return Ok(None);
        }
        let shape = |name: &str| {
            let array = self.arrays.get(&format!("{BACKBONE}{name}"));
            array.map(|array| array.shape.as_slice())
        };
        let stem = shape("conv1.weight").unwrap_or_default();
        let &[width, channels, _, _] = stem else {
            let reason = format!("tensor conv1.weight has shape {stem:?}");
            return Err(bad(&self.path, reason));
        };
        let blocks = [1, 2, 3, 4].map(|stage| {
            let has =
                |block: &usize| shape(&format!("layer{stage}.{block}.conv1.weight")).is_some();
            (0..).take_while(has).count()
        });
        let config = ResNetConfig {
            channels,
            width,
            blocks,
            bottleneck: shape("layer1.0.conv3.weight").is_some(),
        };
        config.validate()?;
        for (name, expected) in config.tensors() {
            match shape(&name) {
                Some(found) if found == expected => {}
                Some(found) => {
                    let reason = format!("tensor {name} has shape {found:?}, not {expected:?}");
                    return Err(bad(&self.path, reason));
                }
                None => return Err(bad(&self.path, format!("has no tensor {name}"))),
            }
        }
        match self.metadata.get(RESNET) {
            Some(text) if serde_json::from_str(text).ok().as_ref() != Some(&config) => {
                let reason = format!("its metadata {RESNET} does not fit its tensors: {text}");
                Err(bad(&self.path, reason))
            }
            _ => Ok(Some(config)),
        }
    }
}
