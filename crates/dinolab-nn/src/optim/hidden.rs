//! Which parameters are matrices of a backbone's hidden layers.

use dinolab_kernels::Matrices;

/// The matrices that Muon updates as such in a parameter, by its name in the network
/// (`backbone.blocks.0.attn.qkv.weight`); `None` for what it leaves to AdamW: vectors, tokens, positions, what is on
/// the pixels (patch embedding, stem, first convolution), depthwise kernels, LoRA's factors and heads.
///
/// A kernel `[O, I, k, k]` is a matrix `[O, I·k²]`; queries, keys and values are three matrices.
pub fn hidden_matrices(name: &str, shape: &[usize]) -> Option<Matrices> {
    let layer = name.strip_prefix("backbone.")?.strip_suffix(".weight")?;
    let on_pixels = ["patch_embed.", "conv1", "downsample_layers.0."];
    if on_pixels.iter().any(|part| layer.starts_with(part)) {
        return None;
    }
    let (outputs, inputs) = match *shape {
        [outputs, inputs] => (outputs, inputs),
        [outputs, inputs, height, width] if inputs > 1 => (outputs, inputs * height * width),
        _ => return None,
    };
    let count = if layer.ends_with(".qkv") { 3 } else { 1 };
    (outputs / count > 1 && inputs > 1).then_some(Matrices {
        count,
        rows: outputs / count,
        columns: inputs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::Init;
    use crate::{AnyBackbone, BackboneConfig, Parameters, VitConfig};

    fn matrices(config: &BackboneConfig) -> Vec<(String, [usize; 3])> {
        let device = crate::device::by_name("cpu").unwrap();
        let network = AnyBackbone::new(config, &mut Init::new(0), &device).unwrap();
        let mut found = Vec::new();
        network.visit("backbone", &mut |name, param| {
            let of_param = hidden_matrices(name, param.shape());
            found.extend(of_param.map(|m| (name.to_owned(), [m.count, m.rows, m.columns])));
        });
        found
    }

    #[test]
    fn layers_of_blocks_are_matrices_and_embeddings_are_not() {
        let vit = VitConfig {
            width: 64,
            depth: 1,
            heads: 2,
            conv_stem: true,
            registers: 2,
            layer_scale: true,
            ..VitConfig::default()
        };
        let found = matrices(&vit.into());
        let at = |layer: &str| format!("backbone.blocks.0.{layer}.weight");
        let expected = [
            (at("attn.qkv"), [3, 64, 64]),
            (at("attn.proj"), [1, 64, 64]),
            (at("mlp.fc1"), [1, 256, 64]),
            (at("mlp.fc2"), [1, 64, 256]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn kernels_are_matrices_but_the_first_and_depthwise_ones() {
        let resnet = BackboneConfig::convolutional("resnet18", 3).unwrap();
        let found = matrices(&resnet);
        // Two of each of eight blocks, and three where the number of channels changes.
        assert_eq!(found.len(), 16 + 3);
        assert_eq!(found[0].1, [1, 64, 64 * 9]);
        let convnext = BackboneConfig::convolutional("convnext_atto", 3).unwrap();
        let found = matrices(&convnext);
        assert!(found.iter().all(|(name, _)| !name.contains("dwconv")));
        assert_eq!(found.len(), 2 * (2 + 2 + 6 + 2) + 3);
    }

    #[test]
    fn heads_and_factors_of_lora_are_none() {
        for name in [
            "head.mlp.0.weight",
            "head.last_layer.weight_v",
            "lora.backbone.blocks.3.attn.qkv.queries.a",
        ] {
            assert_eq!(hidden_matrices(name, &[32, 16]), None);
        }
    }
}
