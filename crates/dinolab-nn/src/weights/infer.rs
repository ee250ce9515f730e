//! The sizes of the networks that weights belong to.

use super::{Kind, Naming, Weights, bad};
use crate::position::{PositionRule, ROPE_THETA, Rope};
use crate::{Feature, HeadConfig, Result, VitConfig, feature};

/// The register tokens.
const REGISTERS: &str = "backbone.register_tokens";
/// The periods of rotary positions, in DINOv3's own files.
const PERIODS: &str = "backbone.rope_embed.periods";
/// The most layers of a stem that are looked for.
const MAX_STEM: usize = 8;

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
        let learned = config.rope.is_none();
        if let Some(text) = self.metadata.get("vit") {
            let said: VitConfig = serde_json::from_str(text)
                .map_err(|error| bad(&self.path, format!("its metadata vit: {error}")))?;
            let same_mlp = said.mlp_hidden() == config.mlp_hidden();
            let same = VitConfig {
                heads: said.heads,
                rope: said.rope.filter(|_| !learned),
                mlp_ratio: if same_mlp {
                    said.mlp_ratio
                } else {
                    config.mlp_ratio
                },
                mlp_width: if same_mlp {
                    said.mlp_width
                } else {
                    config.mlp_width
                },
                position_rule: said.position_rule,
                layer_norm_eps: said.layer_norm_eps,
                image_size: said.image_size,
                ..config.clone()
            };
            // The image's side need not be a whole number of patches.
            if said != same || learned && said.side() != config.side() {
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
        if let Some(rope) = &config.rope {
            self.check_periods(rope, config.head_width())?;
        }
        Ok(config)
    }

    /// The rotary positions of a network without learned ones: by the metadata, else DINOv3's.
    ///
    /// # Errors
    /// [`crate::Error::BadWeights`] if nothing shows that they are DINOv3's.
    fn rope(&self) -> Result<Rope> {
        let number = |name: &str| self.metadata.get(name).and_then(|text| text.parse().ok());
        let theta = number("rope_theta");
        let known = theta.is_some()
            || self.metadata.contains_key("vit")
            || self.naming == Naming::HuggingFace(Kind::Dinov3)
            || self.arrays.contains_key(PERIODS)
            || self.naming == Naming::Timm && self.arrays.contains_key(REGISTERS);
        if !known {
            return Err(bad(&self.path, "has no tensor backbone.pos_embed".into()));
        }
        let plain = Rope::default();
        Ok(Rope {
            theta: theta.unwrap_or(ROPE_THETA),
            shift: number("rope_shift").unwrap_or(plain.shift),
            jitter: number("rope_jitter").unwrap_or(plain.jitter),
            rescale: number("rope_rescale").unwrap_or(plain.rescale),
        })
    }

    /// Checks the periods that DINOv3's files have, rounded to `bf16`, against those of `rope`.
    fn check_periods(&self, rope: &Rope, head_width: usize) -> Result<()> {
        let Some(periods) = self.arrays.get(PERIODS) else {
            return Ok(());
        };
        let ours = rope.frequencies(head_width);
        let near =
            |(period, frequency): (&f32, &f64)| (f64::from(*period) * frequency - 1.0).abs() < 0.01;
        if periods.data.len() == ours.len() && periods.data.iter().zip(&ours).all(near) {
            return Ok(());
        }
        let theta = rope.theta;
        let reason = format!(
            "its rotary periods are not those of {} heads with the base {theta}",
            self.shape("backbone.cls_token")
                .and_then(|s| s.last())
                .copied()
                .unwrap_or(0)
                / head_width.max(1)
        );
        Err(bad(&self.path, reason))
    }

    /// The configuration by the tensors' shapes, with every tensor checked against it.
    fn shapes(&self) -> Result<VitConfig> {
        let [width, inputs, side, _] = self.shape_of_rank("backbone.patch_embed.proj.weight")?;
        let stem = self.stem_layers();
        let (channels, patch_size) = match stem {
            0 => (inputs, side),
            _ => {
                let [_, channels, _, _] =
                    self.shape_of_rank("backbone.patch_embed.stem.0.conv.weight")?;
                (channels, VitConfig::STEM_PATCH << stem)
            }
        };
        let [outputs, _] = self.shape_of_rank("backbone.blocks.0.mlp.fc1.weight")?;
        let [_, hidden] = self.shape_of_rank("backbone.blocks.0.mlp.fc2.weight")?;
        let gated_mlp = hidden > 0 && Some(outputs) == hidden.checked_mul(2);
        let depth = (0..)
            .take_while(|i| {
                self.shape(&format!("backbone.blocks.{i}.norm1.weight"))
                    .is_some()
            })
            .count();
        let learned = self.shape("backbone.pos_embed").is_some();
        let (image_size, rope) = match learned {
            true => (self.trained_side()?.saturating_mul(patch_size), None),
            false => (self.said_image_size(patch_size), Some(self.rope()?)),
        };
        if width == 0 || hidden == 0 || !gated_mlp && outputs != hidden {
            let reason =
                format!("an MLP from a width of {width} to {outputs}, and back from {hidden}");
            return Err(bad(&self.path, reason));
        }
        let registers = match self.shape(REGISTERS) {
            None => 0,
            Some(_) => self.shape_of_rank::<3>(REGISTERS)?[1],
        };
        let whole = hidden.is_multiple_of(width);
        let layer_scale = self.shape("backbone.blocks.0.ls1.gamma").is_some();
        self.check_complete(width, [outputs, hidden], depth, layer_scale)?;
        let config = VitConfig {
            image_size,
            patch_size,
            channels,
            width,
            depth,
            heads: self.usual_heads(width),
            mlp_ratio: if whole { hidden / width } else { 1 },
            mlp_width: if whole { 0 } else { hidden },
            gated_mlp,
            position_rule: match learned {
                true => self.naming.position_rule(registers > 0),
                false => PositionRule::default(),
            },
            rope,
            registers,
            conv_stem: stem > 0,
            layer_scale,
            layer_norm_eps: self.naming.layer_norm_eps(!learned),
        };
        self.check_stem(&config)?;
        Ok(config)
    }

    /// Convolutions before the patch embedding.
    fn stem_layers(&self) -> usize {
        let known = |layer: &usize| {
            let name = format!("backbone.patch_embed.stem.{layer}.conv.weight");
            self.shape(&name).is_some()
        };
        (0..MAX_STEM).take_while(known).count()
    }

    /// Checks that a convolutional stem's tensors are all there, and those of the stem that is computed.
    fn check_stem(&self, config: &VitConfig) -> Result<()> {
        for (layer, kernel) in config.stem_kernels().into_iter().enumerate() {
            let part = |name: &str| format!("patch_embed.stem.{layer}.{name}");
            self.check_shape(&part("conv.weight"), &kernel)?;
            for name in ["norm.weight", "norm.bias"] {
                self.check_shape(&part(name), &kernel[..1])?;
            }
        }
        if config.conv_stem {
            self.check_shape("patch_embed.proj.weight", &config.patch_kernel())?;
        }
        Ok(())
    }

    /// Checks the shape of one of the backbone's tensors.
    fn check_shape(&self, name: &str, shape: &[usize]) -> Result<()> {
        let name = format!("backbone.{name}");
        match self.shape(&name) {
            Some(found) if found == shape => Ok(()),
            Some(found) => Err(bad(
                &self.path,
                format!("tensor {name} has shape {found:?}, not {shape:?}"),
            )),
            None => Err(bad(&self.path, format!("has no tensor {name}"))),
        }
    }

    /// Patches along one side of the trained image, by the position embeddings.
    fn trained_side(&self) -> Result<usize> {
        let [_, tokens, _] = self.shape_of_rank("backbone.pos_embed")?;
        let side = tokens.saturating_sub(1).isqrt();
        if side > 0 && side * side + 1 == tokens {
            return Ok(side);
        }
        Err(bad(
            &self.path,
            format!("{tokens} position embeddings are not a square of patches and a class token"),
        ))
    }

    /// The side of the trained image where no tensor shows it: as the metadata says, else 224.
    fn said_image_size(&self, patch_size: usize) -> usize {
        let said = self.metadata.get("image_size");
        let said = said.and_then(|text| text.parse().ok());
        said.unwrap_or(224).max(patch_size)
    }

    /// The number of heads that the periods of rotary positions show, else one per 64 of width.
    fn usual_heads(&self, width: usize) -> usize {
        let by_periods = self.shape(PERIODS).and_then(|shape| {
            let head_width = shape.first()?.checked_mul(4)?;
            width.checked_div(head_width)
        });
        by_periods.unwrap_or(width / 64).max(1)
    }

    /// Checks that the file has all tensors of a network of these sizes, so that a network made
    /// from them is not larger than the file.
    fn check_complete(
        &self,
        width: usize,
        [outputs, hidden]: [usize; 2],
        depth: usize,
        layer_scale: bool,
    ) -> Result<()> {
        let all = |name: &str, shape: &[usize]| self.check_shape(name, shape);
        all("norm.weight", &[width])?;
        for i in 0..depth {
            let block = |part: &str, shape: &[usize]| all(&format!("blocks.{i}.{part}"), shape);
            block("attn.qkv.weight", &[width.saturating_mul(3), width])?;
            block("attn.proj.weight", &[width, width])?;
            block("mlp.fc1.weight", &[outputs, width])?;
            block("mlp.fc2.weight", &[width, hidden])?;
            if layer_scale {
                block("ls1.gamma", &[width])?;
                block("ls2.gamma", &[width])?;
            }
        }
        Ok(())
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
        let width = match self.convolutional_config().ok()? {
            Some(config) => config.width(),
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
