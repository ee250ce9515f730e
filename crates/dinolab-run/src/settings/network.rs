//! The settings of a network.

use dinolab_nn::{BackboneConfig, VitConfig};

use super::Settings;
use crate::error::{Error, Result};
use crate::values::{FfnKind, PositionKind, StemKind};

impl Settings {
    /// Whether anything is said of the network's sizes.
    pub(crate) fn names_sizes(&self) -> bool {
        let sizes = [self.width, self.depth, self.heads, self.patch_size];
        self.arch.is_some() || sizes.iter().any(Option::is_some)
    }

    /// The settings of a network apart from its sizes.
    pub(crate) fn of_variant(vit: &VitConfig) -> Self {
        let usual = vit.width * VitConfig::default().mlp_ratio;
        let usual_width = vit.mlp_hidden() == usual && !vit.gated_mlp;
        Self {
            stem: Some(match vit.conv_stem {
                true => StemKind::Conv,
                false => StemKind::Patchify,
            }),
            registers: Some(vit.registers),
            layer_scale: Some(vit.layer_scale),
            ffn: Some(match vit.gated_mlp {
                true => FfnKind::SwiGlu,
                false => FfnKind::Mlp,
            }),
            ffn_width: Some(if usual_width { 0 } else { vit.mlp_hidden() }),
            positions: Some(match vit.rope {
                Some(_) => PositionKind::Rope,
                None => PositionKind::Learned,
            }),
            position_rule: Some(vit.position_rule),
            rope_theta: vit.rope.map(|rope| rope.theta),
            rope_shift: vit.rope.map(|rope| rope.shift),
            rope_jitter: vit.rope.map(|rope| rope.jitter),
            rope_rescale: vit.rope.map(|rope| rope.rescale),
            layer_norm_eps: Some(vit.layer_norm_eps),
            ..Self::default()
        }
    }

    /// The settings of a network.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for a convolutional network of other blocks than the published ones.
    pub(crate) fn of_network(backbone: &BackboneConfig) -> Result<Self> {
        let BackboneConfig::Vit(vit) = backbone else {
            return Self::of_convolutional(backbone);
        };
        Ok(Self {
            arch: Some("custom".into()),
            width: Some(vit.width),
            depth: Some(vit.depth),
            heads: Some(vit.heads),
            patch_size: Some(vit.patch_size),
            image_size: Some(vit.image_size),
            ..Self::of_variant(vit)
        })
    }

    fn of_convolutional(network: &BackboneConfig) -> Result<Self> {
        let arch = network.convolutional_family().ok_or_else(|| {
            let names: Vec<_> = BackboneConfig::convolutional_names().collect();
            let other = format!(
                "{} of other blocks than {}",
                network.kind(),
                names.join(", ")
            );
            Error::setting("weights", "", other)
        })?;
        Ok(Self {
            arch: Some(arch.to_owned()),
            width: Some(network.width()),
            ..Self::default()
        })
    }

    /// The settings of the network alone.
    pub(crate) fn network(&self) -> Self {
        Self {
            arch: self.arch.clone(),
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            patch_size: self.patch_size,
            image_size: self.image_size,
            ..self.variant()
        }
    }

    /// Those apart from its sizes.
    pub(crate) fn variant(&self) -> Self {
        Self {
            stem: self.stem,
            registers: self.registers,
            layer_scale: self.layer_scale,
            ffn: self.ffn,
            ffn_width: self.ffn_width,
            positions: self.positions,
            position_rule: self.position_rule,
            rope_theta: self.rope_theta,
            rope_shift: self.rope_shift,
            rope_jitter: self.rope_jitter,
            rope_rescale: self.rope_rescale,
            layer_norm_eps: self.layer_norm_eps,
            ..Self::default()
        }
    }

    /// Whether a convolutional network is asked for.
    pub(crate) fn is_convolutional(&self) -> bool {
        let arch = self.arch.as_deref();
        arch.is_some_and(|arch| BackboneConfig::convolutional(arch, 3).is_some())
    }

    /// Refuses parts of a transformer if the network is a convolutional one, in which they would have no effect.
    ///
    /// # Errors
    /// [`Error::BadSetting`] names the first one.
    pub(crate) fn check_network(&self, arch: &str) -> Result<()> {
        if BackboneConfig::convolutional(arch, 3).is_none() {
            return Ok(());
        }
        let parts = [
            ("stem", self.stem.is_some_and(|stem| stem == StemKind::Conv)),
            ("registers", self.registers.is_some_and(|count| count > 0)),
            ("layer-scale", self.layer_scale == Some(true)),
            ("ffn", self.ffn.is_some_and(|ffn| ffn == FfnKind::SwiGlu)),
            ("ffn-width", self.ffn_width.is_some_and(|width| width > 0)),
            (
                "positions",
                self.positions
                    .is_some_and(|kind| kind == PositionKind::Rope),
            ),
        ];
        match parts.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((part, _)) => {
                let reason =
                    format!("`{part}` belongs to transformers; leave it out or give `arch` custom");
                Err(Error::setting("arch", arch, reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_transformer_are_refused_in_convolutional_networks() {
        let registers = Settings {
            registers: Some(4),
            ..Settings::default()
        };
        registers.check_network("custom").unwrap();
        for arch in ["resnet18", "convnext_tiny"] {
            let error = registers.check_network(arch).unwrap_err().to_string();
            assert!(
                error.contains("`registers` belongs to transformers"),
                "{error}"
            );
            // As the file of a run has it.
            let none = Settings::of_variant(&VitConfig::default());
            none.check_network(arch).unwrap();
        }
    }
}
