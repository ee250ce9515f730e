//! The naming schemes of files.

use crate::VitConfig;
use crate::position::PositionRule;

/// DINOv3's epsilon of layer normalisation.
const DINOV3_EPS: f64 = 1e-5;

/// The naming scheme of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// The reference's, extended by DINOv2's.
    #[default]
    Reference,
    /// timm's: the reference's, except `reg_token` for registers.
    Timm,
    /// Hugging Face's.
    HuggingFace(Kind),
}

impl Naming {
    /// Returns the rule by which networks with these names resample position embeddings, unless the file
    /// states another.
    pub fn position_rule(self, registers: bool) -> PositionRule {
        match self {
            // DINOv2 went on with the reference's rule; its networks with registers came later.
            Self::Reference if !registers => PositionRule::Dino,
            Self::Reference | Self::Timm => PositionRule::RatioAntialias,
            Self::HuggingFace(Kind::Dinov2WithRegisters) => PositionRule::RatioAntialias,
            Self::HuggingFace(_) => PositionRule::Ratio,
        }
    }

    /// Returns the epsilon of layer normalisation, likewise. `rope`: positions are rotary.
    pub fn layer_norm_eps(self, rope: bool) -> f64 {
        match self {
            _ if rope => DINOV3_EPS,
            Self::HuggingFace(Kind::Vit) => 1e-12,
            _ => VitConfig::default().layer_norm_eps,
        }
    }
}

/// Which of Hugging Face's classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ViTModel`.
    Vit,
    /// `Dinov2Model`: with layer scale.
    Dinov2,
    /// `Dinov2WithRegistersModel`: with layer scale and register tokens.
    Dinov2WithRegisters,
    /// `DINOv3ViTModel`: with rotary positions, layer scale and register tokens.
    Dinov3,
}

impl Kind {
    /// The class that computes a network.
    pub fn of(config: &VitConfig) -> Self {
        if config.rope.is_some() {
            return Self::Dinov3;
        }
        match (config.registers, config.layer_scale || config.gated_mlp) {
            (0, false) => Self::Vit,
            (0, true) => Self::Dinov2,
            _ => Self::Dinov2WithRegisters,
        }
    }

    /// `model_type` in `config.json`, and the class.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Vit => ("vit", "ViTModel"),
            Self::Dinov2 => ("dinov2", "Dinov2Model"),
            Self::Dinov2WithRegisters => ("dinov2_with_registers", "Dinov2WithRegistersModel"),
            Self::Dinov3 => ("dinov3_vit", "DINOv3ViTModel"),
        }
    }

    pub(super) fn of_type(model_type: &str) -> Option<Self> {
        let all = [
            Self::Vit,
            Self::Dinov2,
            Self::Dinov2WithRegisters,
            Self::Dinov3,
        ];
        all.into_iter().find(|kind| kind.names().0 == model_type)
    }
}
