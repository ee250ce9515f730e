//! Which maps of an image a network has.

use dinolab_data::Image;
use dinolab_data::augment::ChannelNormaliser;
use dinolab_nn::Backbone;

use crate::error::Result;
use crate::features::{AttentionMaps, activation, attend};

/// What maps of an image show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// Where the class token attends to, one map per head.
    Attention,
    /// The share of each position in the image's feature, one map.
    Activation,
}

impl MapKind {
    /// Attention where the network has it, else activation, which any network has.
    pub fn of(backbone: &dyn Backbone) -> Self {
        match backbone.as_attention_maps() {
            Some(_) => Self::Attention,
            None => Self::Activation,
        }
    }

    /// `attention` or `activation`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Activation => "activation",
        }
    }

    /// The maps of one image, already of whole patches, `[heads, h, w]`.
    ///
    /// # Errors
    /// As [`attend`] and [`activation`].
    pub fn maps(
        self,
        backbone: &dyn Backbone,
        image: &Image,
        normaliser: &ChannelNormaliser,
    ) -> Result<AttentionMaps> {
        match self {
            Self::Attention => attend(backbone, image, normaliser),
            Self::Activation => activation(backbone, image, normaliser),
        }
    }
}
