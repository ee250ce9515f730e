//! The sizes of the networks that weights belong to.

use super::{Weights, bad};
use crate::{Feature, HeadConfig, Result, VitConfig, feature};

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

    /// The backbone's sizes and conventions: sizes from shapes, the rest from the metadata.
    ///
    /// Shapes do not show the number of heads: it is `heads` if given, else from the metadata,
    /// else one per 64 of width, as in almost all published networks. The rule for position
    /// embeddings and the epsilon of normalisation are from the metadata, else those of the naming
    /// scheme.
    ///
    /// # Errors
    /// [`crate::Error::BadWeights`] if the tensors are not those of a vision transformer, or not all
    /// there, and [`crate::Error::BadSetting`] if the sizes do not fit each other. A network of
    /// the returned sizes is not larger than the tensors that were read.
    pub fn vit_config(&self, heads: Option<usize>) -> Result<VitConfig> {
        let mut config = self.shapes()?;
        if let Some(text) = self.metadata.get("vit") {
            let said: VitConfig = serde_json::from_str(text)
                .map_err(|error| bad(&self.path, format!("its metadata vit: {error}")))?;
            let same = VitConfig {
                heads: said.heads,
                position_rule: said.position_rule,
                layer_norm_eps: said.layer_norm_eps,
                image_size: said.image_size,
                ..config.clone()
            };
            // The image's side need not be a whole number of patches.
            if said != same || said.side() != config.side() {
                return Err(bad(
                    &self.path,
                    format!("its metadata vit does not fit its tensors: {text}"),
                ));
            }
            config = said;
        } else {
            let said = |name: &str| self.metadata.get(name).map(String::as_str);
            if let Some(heads) = said("num_heads").and_then(|text| text.parse().ok()) {
                config.heads = heads;
            }
            if let Some(eps) = said("layer_norm_eps").and_then(|text| text.parse().ok()) {
                config.layer_norm_eps = eps;
            }
            if let Some(rule) = said("position_rule").and_then(|text| text.parse().ok()) {
                config.position_rule = rule;
            }
        }
        config.heads = heads.unwrap_or(config.heads);
        config.validate()?;
        Ok(config)
    }

    /// The configuration by the tensors' shapes, with every tensor checked against it.
    fn shapes(&self) -> Result<VitConfig> {
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
        let side = tokens.saturating_sub(1).isqrt();
        if side == 0 || side * side + 1 != tokens {
            return Err(bad(
                &self.path,
                format!(
                    "{tokens} position embeddings are not a square of patches and a class token"
                ),
            ));
        }
        if width == 0 || !hidden.is_multiple_of(width) {
            return Err(bad(
                &self.path,
                format!("the MLP's width of {hidden} is not a multiple of {width}"),
            ));
        }
        let registers = match self.shape("backbone.register_tokens") {
            None => 0,
            Some(_) => self.shape_of_rank::<3>("backbone.register_tokens")?[1],
        };
        let layer_scale = self.shape("backbone.blocks.0.ls1.gamma").is_some();
        self.check_complete(width, hidden, depth, layer_scale)?;
        Ok(VitConfig {
            image_size: side.saturating_mul(patch_size),
            patch_size,
            channels,
            width,
            depth,
            heads: (width / 64).max(1),
            mlp_ratio: hidden / width,
            position_rule: self.naming.position_rule(registers > 0),
            registers,
            layer_scale,
            layer_norm_eps: self.naming.layer_norm_eps(),
        })
    }

    /// Checks that the file has all tensors of a network of these sizes, so that a network made
    /// from them is not larger than the file.
    fn check_complete(
        &self,
        width: usize,
        hidden: usize,
        depth: usize,
        layer_scale: bool,
    ) -> Result<()> {
        let all = |name: &str, shape: &[usize]| {
            let name = format!("backbone.{name}");
            match self.shape(&name) {
                Some(found) if found == shape => Ok(()),
                Some(found) => Err(bad(
                    &self.path,
                    format!("tensor {name} has shape {found:?}, not {shape:?}"),
                )),
                None => Err(bad(&self.path, format!("has no tensor {name}"))),
            }
        };
        all("norm.weight", &[width])?;
        for i in 0..depth {
            let block = |part: &str, shape: &[usize]| all(&format!("blocks.{i}.{part}"), shape);
            block("attn.qkv.weight", &[width.saturating_mul(3), width])?;
            block("attn.proj.weight", &[width, width])?;
            block("mlp.fc1.weight", &[hidden, width])?;
            block("mlp.fc2.weight", &[width, hidden])?;
            if layer_scale {
                block("ls1.gamma", &[width])?;
                block("ls2.gamma", &[width])?;
            }
        }
        Ok(())
    }

    /// Checks that training can start from these weights.
    ///
    /// # Errors
    /// [`crate::Error::BadSetting`] for networks with layer scale or registers.
    pub fn check_trainable(&self) -> Result<()> {
        VitConfig {
            registers: usize::from(self.shape("backbone.register_tokens").is_some()),
            layer_scale: self.shape("backbone.blocks.0.ls1.gamma").is_some(),
            ..VitConfig::default()
        }
        .check_trainable()
    }

    /// The feature that the head was trained on, which is the one to use: as the metadata says, else
    /// the class token.
    ///
    /// # Errors
    /// [`crate::Error::BadWeights`] if the metadata names one that there is not.
    pub fn feature(&self) -> Result<Feature> {
        let Some(name) = self.metadata.get(feature::KEY) else {
            return Ok(Feature::Class);
        };
        let unknown = |known| bad(&self.path, format!("its metadata feature {name}: {known}"));
        name.parse().map_err(unknown)
    }

    /// The head's sizes, if the weights have a complete head.
    pub fn head_config(&self) -> Option<HeadConfig> {
        let &[out_dim, bottleneck_dim] = self.shape("head.last_layer.weight_v")? else {
            return None;
        };
        let linears: Vec<(usize, &[usize])> = (0..32)
            .filter_map(|i| Some((i, self.shape(&format!("head.mlp.{i}.weight"))?)))
            .filter(|(_, shape)| shape.len() == 2)
            .collect();
        let hidden_dim = linears.first().map_or(2048, |(_, shape)| shape[0]);
        let width = match self.resnet_config().ok()? {
            Some(config) => config.features(),
            None => *self.shape("backbone.cls_token")?.last()?,
        };
        let mut sizes = vec![self.feature().ok()?.width(width)];
        sizes.extend(std::iter::repeat_n(
            hidden_dim,
            linears.len().saturating_sub(1),
        ));
        sizes.push(bottleneck_dim);
        let lone = self.shape("head.mlp.weight").map(|shape| (0, shape));
        let maps = linears
            .iter()
            .copied()
            .chain(lone.filter(|_| linears.is_empty()));
        let whole = sizes.windows(2).map(|io| [io[1], io[0]]);
        if !whole.eq(maps.filter_map(|(_, shape)| <[usize; 2]>::try_from(shape).ok())) {
            return None;
        }
        let use_bn = self.arrays.contains_key("head.mlp.1.running_mean");
        let norm_last_layer = self
            .arrays
            .get("head.last_layer.weight_g")
            .is_none_or(|g| g.data.iter().all(|&value| value == 1.0));
        Some(HeadConfig {
            out_dim,
            hidden_dim,
            bottleneck_dim,
            layers: linears.len().max(1),
            use_bn,
            norm_last_layer,
        })
    }
}
