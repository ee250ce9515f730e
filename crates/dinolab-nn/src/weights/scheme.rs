//! The naming schemes of files.

use crate::VitConfig;
use crate::position::PositionRule;

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

    /// Returns the epsilon of layer normalisation, likewise.
    pub fn layer_norm_eps(self) -> f64 {
        match self {
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
}

impl Kind {
    /// The class that computes a network.
    pub fn of(config: &VitConfig) -> Self {
        match (config.registers, config.layer_scale) {
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
        }
    }

    pub(super) fn of_type(model_type: &str) -> Option<Self> {
        [Self::Vit, Self::Dinov2, Self::Dinov2WithRegisters]
            .into_iter()
            .find(|kind| kind.names().0 == model_type)
    }
}
