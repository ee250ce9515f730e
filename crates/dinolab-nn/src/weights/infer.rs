//! The sizes of the networks that weights belong to.

use super::{Weights, bad};
use crate::position::PositionRule;
use crate::{HeadConfig, Result, VitConfig};

impl Weights {
    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.arrays.get(name).map(|array| array.shape.as_slice())
    }

    fn shape_of_rank<const R: usize>(&self, name: &str) -> Result<[usize; R]> {
        let shape = self
            .shape(name)
            .ok_or_else(|| bad(&self.path, format!("has no tensor {name}")))?;
        shape
            .try_into()
            .map_err(|_| bad(&self.path, format!("tensor {name} has shape {shape:?}")))
    }

    /// The backbone's sizes, from shapes. Heads are not visible in shapes: `heads` where
    /// given, else as the file says, else one per 64 of width, as all published networks have.
    ///
    /// # Errors
    /// [`crate::Error::BadWeights`] where the tensors make no vision transformer, and
    /// [`crate::Error::BadSetting`] where the sizes do not fit each other.
    pub fn vit_config(&self, heads: Option<usize>) -> Result<VitConfig> {
        if let Some(Ok(mut config)) = self
            .facts
            .get("vit")
            .map(|text| serde_json::from_str::<VitConfig>(text))
        {
            config.heads = heads.unwrap_or(config.heads);
            config.validate()?;
            return Ok(config);
        }
        let [width, channels, patch_size, _] =
            self.shape_of_rank("backbone.patch_embed.proj.weight")?;
        let [_, tokens, _] = self.shape_of_rank("backbone.pos_embed")?;
        let [hidden, _] = self.shape_of_rank("backbone.blocks.0.mlp.fc1.weight")?;
        let depth = (0..)
            .take_while(|i| {
                self.shape(&format!("backbone.blocks.{i}.norm1.weight"))
                    .is_some()
            })
            .count();
        let side = (tokens.saturating_sub(1) as f64).sqrt() as usize;
        if side * side + 1 != tokens {
            return Err(bad(
                &self.path,
                format!(
                    "{tokens} position embeddings are not a square of patches and a class token"
                ),
            ));
        }
        let said = self
            .facts
            .get("num_heads")
            .and_then(|text| text.parse().ok());
        let config = VitConfig {
            image_size: side * patch_size,
            patch_size,
            channels,
            width,
            depth,
            heads: heads.or(said).unwrap_or((width / 64).max(1)),
            mlp_ratio: hidden / width.max(1),
            position_rule: PositionRule::Dino,
            registers: match self.shape("backbone.register_tokens") {
                Some(&[1, registers, _]) => registers,
                _ => 0,
            },
            layer_scale: self.shape("backbone.blocks.0.ls1.gamma").is_some(),
            ..VitConfig::default()
        };
        config.validate()?;
        Ok(config)
    }

    /// The head's sizes, where the weights have a head.
    pub fn head_config(&self) -> Option<HeadConfig> {
        let prototypes = self.shape("head.last_layer.weight_v")?;
        let linears: Vec<(usize, &[usize])> = (0..32)
            .filter_map(|i| Some((i, self.shape(&format!("head.mlp.{i}.weight"))?)))
            .filter(|(_, shape)| shape.len() == 2)
            .collect();
        let use_bn = self.arrays.contains_key("head.mlp.1.running_mean");
        let norm_last_layer = self
            .arrays
            .get("head.last_layer.weight_g")
            .is_none_or(|g| g.data.iter().all(|&value| value == 1.0));
        Some(HeadConfig {
            out_dim: *prototypes.first()?,
            hidden_dim: linears.first().map_or(2048, |(_, shape)| shape[0]),
            bottleneck_dim: *prototypes.get(1)?,
            layers: linears.len().max(1),
            use_bn,
            norm_last_layer,
        })
    }
}
