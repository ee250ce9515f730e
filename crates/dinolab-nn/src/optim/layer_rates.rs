//! Learning rates that fall from layer to layer.

use crate::BackboneConfig;

/// What the learning rate of each parameter of a network is multiplied by (layer-wise decay: Clark et
/// al., arXiv 2003.10555; Bao et al., arXiv 2106.08254): `decay` once for each layer that lies between
/// the parameter and the head.
///
/// Of a network of `n` blocks, block `l` (from 1) has `decay^(n + 1 − l)`, the embeddings (class token,
/// registers, positions, patches; a convolutional network's stem) have `decay^(n + 1)`, and the final norm
/// and the head have 1. The blocks of a convolutional network are those of all its stages; what precedes a
/// stage belongs to its first block.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerRates {
    decay: f64,
    patch_embed: f64,
    /// Blocks before each stage of a convolutional network; a transformer is one stage.
    stages: Vec<usize>,
    blocks: usize,
}

impl LayerRates {
    /// The factors of a network with such a backbone. That of the patch embedding (a convolutional network's
    /// stem) is also multiplied by `patch_embed` (0.2 in DINOv2).
    pub fn new(backbone: &BackboneConfig, decay: f64, patch_embed: f64) -> Self {
        let sizes = backbone.stages();
        let before = |stage: usize| sizes[..stage].iter().sum();
        Self {
            decay,
            patch_embed,
            stages: (0..sizes.len()).map(before).collect(),
            blocks: sizes.iter().sum(),
        }
    }

    /// The factor of a parameter, by its name in the network: `backbone.blocks.0.attn.qkv.weight`.
    pub fn factor(&self, name: &str) -> f64 {
        let name = name.strip_prefix("lora.").unwrap_or(name);
        let Some(name) = name.strip_prefix("backbone.") else {
            return 1.0;
        };
        let parts: Vec<&str> = name.split('.').collect();
        let number = |text: &str| text.parse::<usize>().ok();
        // The stage and the block in it.
        let place = match parts[..] {
            ["norm", ..] => return 1.0,
            ["blocks", block, ..] => Some(0).zip(number(block)),
            ["stages", stage, block, ..] => number(stage).zip(number(block)),
            ["downsample_layers", stage, ..] if stage != "0" => number(stage).zip(Some(0)),
            [stage, block, ..] => {
                let stage = stage.strip_prefix("layer").and_then(number);
                stage
                    .and_then(|stage| stage.checked_sub(1))
                    .zip(number(block))
            }
            _ => None,
        };
        let before = place.and_then(|(stage, block)| Some(self.stages.get(stage)? + block));
        let layers = match before {
            Some(before) => self.blocks.saturating_sub(before),
            None => self.blocks + 1,
        };
        let patches = ["patch_embed.", "conv1.", "bn1.", "downsample_layers.0."];
        let scale = match patches.iter().any(|part| name.starts_with(part)) {
            true => self.patch_embed,
            false => 1.0,
        };
        self.decay.powi(layers as i32) * scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConvNextConfig, ResNetConfig, VitConfig};

    #[test]
    fn layers_far_from_the_head_learn_slower() {
        let vit = VitConfig {
            depth: 4,
            ..VitConfig::default()
        };
        let rates = LayerRates::new(&vit.into(), 0.5, 0.25);
        assert_eq!(rates.factor("head.last_layer.weight_v"), 1.0);
        assert_eq!(rates.factor("backbone.norm.weight"), 1.0);
        assert_eq!(rates.factor("backbone.blocks.3.norm1.weight"), 0.5);
        assert_eq!(rates.factor("backbone.blocks.0.mlp.fc1.bias"), 0.0625);
        for name in ["pos_embed", "cls_token", "register_tokens", "mask_token"] {
            assert_eq!(rates.factor(&format!("backbone.{name}")), 0.03125);
        }
        let patches = "backbone.patch_embed.proj.weight";
        assert_eq!(rates.factor(patches), 0.03125 * 0.25);
        let factors = "lora.backbone.blocks.3.attn.qkv.queries.a";
        assert_eq!(rates.factor(factors), 0.5);
        let equal = LayerRates::new(&VitConfig::default().into(), 1.0, 1.0);
        assert_eq!(equal.factor("backbone.cls_token"), 1.0);
        assert_eq!(equal.factor(patches), 1.0);
    }

    #[test]
    fn blocks_of_a_residual_network_are_counted_over_its_stages() {
        let resnet = ResNetConfig {
            blocks: [1, 2, 1, 1],
            ..ResNetConfig::default()
        };
        let rates = LayerRates::new(&resnet.into(), 0.5, 0.2);
        assert_eq!(rates.factor("backbone.layer4.0.conv1.weight"), 0.5);
        assert_eq!(rates.factor("backbone.layer3.0.bn1.weight"), 0.25);
        assert_eq!(rates.factor("backbone.layer2.1.conv2.weight"), 0.125);
        assert_eq!(
            rates.factor("backbone.layer2.0.downsample.0.weight"),
            0.0625
        );
        assert_eq!(rates.factor("backbone.layer1.0.conv1.weight"), 0.03125);
        assert_eq!(rates.factor("backbone.conv1.weight"), 0.015625 * 0.2);
        assert_eq!(rates.factor("backbone.bn1.bias"), 0.015625 * 0.2);
    }

    #[test]
    fn downsampling_of_a_convnext_belongs_to_the_stage_that_follows() {
        let convnext = ConvNextConfig {
            depths: [1, 2, 1, 1],
            ..ConvNextConfig::default()
        };
        let rates = LayerRates::new(&convnext.into(), 0.5, 0.2);
        assert_eq!(rates.factor("backbone.norm.weight"), 1.0);
        assert_eq!(rates.factor("backbone.stages.3.0.gamma"), 0.5);
        assert_eq!(rates.factor("backbone.stages.1.1.dwconv.bias"), 0.125);
        assert_eq!(rates.factor("backbone.stages.1.0.norm.weight"), 0.0625);
        assert_eq!(
            rates.factor("backbone.downsample_layers.1.1.weight"),
            0.0625
        );
        assert_eq!(rates.factor("backbone.stages.0.0.norm.bias"), 0.03125);
        let stem = "backbone.downsample_layers.0.1.weight";
        assert_eq!(rates.factor(stem), 0.015625 * 0.2);
    }
}
