//! A backbone whose kind is known at run time only.

use burn::tensor::{Device, Tensor};

use super::{AttentionMaps, Backbone, BlockTokens, Tokens};
use crate::init::Init;
use crate::param::{Param, Parameters};
use crate::position::Rope;
use crate::resnet::{ResNet, ResNetConfig};
use crate::vit::{DropPath, Vit, VitConfig};
use crate::{Error, Feature, Result};

/// The sizes of a backbone, of any kind.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackboneConfig {
    /// A vision transformer.
    Vit(VitConfig),
    /// A residual network.
    ResNet(ResNetConfig),
}

impl From<VitConfig> for BackboneConfig {
    fn from(config: VitConfig) -> Self {
        Self::Vit(config)
    }
}

impl From<&VitConfig> for BackboneConfig {
    fn from(config: &VitConfig) -> Self {
        Self::Vit(config.clone())
    }
}

impl From<&Self> for BackboneConfig {
    fn from(config: &Self) -> Self {
        config.clone()
    }
}

impl From<ResNetConfig> for BackboneConfig {
    fn from(config: ResNetConfig) -> Self {
        Self::ResNet(config)
    }
}

impl BackboneConfig {
    /// Width of a token, `D`.
    pub fn width(&self) -> usize {
        match self {
            Self::Vit(config) => config.width,
            Self::ResNet(config) => config.features(),
        }
    }

    /// Channels of the images, `C`.
    pub fn channels(&self) -> usize {
        match self {
            Self::Vit(config) => config.channels,
            Self::ResNet(config) => config.channels,
        }
    }

    /// Pixels along one side of what a patch token stands for.
    pub fn stride(&self) -> usize {
        match self {
            Self::Vit(config) => config.patch_size,
            Self::ResNet(_) => ResNetConfig::STRIDE,
        }
    }

    /// Rows and columns of the patches of images of `height × width` pixels, `(h, w)`, while it learns.
    pub fn grid(&self, height: usize, width: usize) -> (usize, usize) {
        let of = |side: usize| match self {
            Self::Vit(config) => side / config.patch_size,
            Self::ResNet(_) => side.div_ceil(ResNetConfig::STRIDE),
        };
        (of(height), of(width))
    }

    /// Residual branches that stochastic depth may drop: two for each of so many blocks.
    pub fn droppable_blocks(&self) -> usize {
        match self {
            Self::Vit(config) => config.depth,
            Self::ResNet(_) => 0,
        }
    }

    /// Whether it has batch normalisation, which sees a batch as a whole.
    pub fn has_batch_norm(&self) -> bool {
        matches!(self, Self::ResNet(_))
    }

    /// The rotary positions of a vision transformer that has them.
    pub fn rope(&self) -> Option<Rope> {
        match self {
            Self::Vit(config) => config.rope,
            Self::ResNet(_) => None,
        }
    }

    /// Its entry in the metadata of weights: `vit` or `resnet`, and the sizes as JSON.
    pub fn metadata_entry(&self) -> (String, String) {
        let json = |json: serde_json::Result<String>| json.expect("plain data");
        match self {
            Self::Vit(config) => ("vit".to_owned(), json(serde_json::to_string(config))),
            Self::ResNet(config) => (
                super::RESNET.to_owned(),
                json(serde_json::to_string(config)),
            ),
        }
    }
}

/// A backbone of any kind.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a program has a few of them, and what is large in each is elsewhere"
)]
pub enum AnyBackbone {
    /// A vision transformer.
    Vit(Vit),
    /// A residual network.
    ResNet(ResNet),
}

impl From<Vit> for AnyBackbone {
    fn from(vit: Vit) -> Self {
        Self::Vit(vit)
    }
}

impl From<ResNet> for AnyBackbone {
    fn from(resnet: ResNet) -> Self {
        Self::ResNet(resnet)
    }
}

impl AnyBackbone {
    /// A network with its initial weights.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where the sizes make no network.
    pub fn new(config: &BackboneConfig, init: &mut Init, device: &Device) -> Result<Self> {
        Ok(match config {
            BackboneConfig::Vit(config) => Self::Vit(Vit::new(config, init, device)?),
            BackboneConfig::ResNet(config) => Self::ResNet(ResNet::new(config, init, device)?),
        })
    }

    /// The sizes.
    pub fn config(&self) -> BackboneConfig {
        match self {
            Self::Vit(vit) => BackboneConfig::Vit(vit.config().clone()),
            Self::ResNet(resnet) => BackboneConfig::ResNet(resnet.config().clone()),
        }
    }

    /// The vision transformer, for what is defined for no other backbone.
    ///
    /// # Errors
    /// [`Error::Lacks`] for another one.
    pub fn vit(&self) -> Result<&Vit> {
        match self {
            Self::Vit(vit) => Ok(vit),
            other => Err(lacks_a_transformer(other.get())),
        }
    }

    /// The vision transformer itself.
    ///
    /// # Errors
    /// [`Error::Lacks`] for another backbone.
    pub fn into_vit(self) -> Result<Vit> {
        match self {
            Self::Vit(vit) => Ok(vit),
            other => Err(lacks_a_transformer(other.get())),
        }
    }

    fn get(&self) -> &dyn Backbone {
        match self {
            Self::Vit(vit) => vit,
            Self::ResNet(resnet) => resnet,
        }
    }
}

fn lacks_a_transformer(backbone: &dyn Backbone) -> Error {
    super::lacks(backbone, "transformer blocks, which this needs")
}

impl Parameters for AnyBackbone {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        match self {
            Self::Vit(vit) => vit.visit(prefix, f),
            Self::ResNet(resnet) => resnet.visit(prefix, f),
        }
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        match self {
            Self::Vit(vit) => vit.visit_mut(prefix, f),
            Self::ResNet(resnet) => resnet.visit_mut(prefix, f),
        }
    }
}

impl Backbone for AnyBackbone {
    fn describe(&self) -> String {
        self.get().describe()
    }

    fn width(&self) -> usize {
        self.get().width()
    }

    fn stride(&self) -> usize {
        self.get().stride()
    }

    fn channels(&self) -> usize {
        self.get().channels()
    }

    fn class_tokens(&self, views: Vec<Tensor<4>>, drop: &dyn DropPath) -> Tensor<2> {
        self.get().class_tokens(views, drop)
    }

    fn tokens(&self, images: Tensor<4>) -> Tokens {
        self.get().tokens(images)
    }

    fn features(&self, views: Vec<Tensor<4>>, feature: Feature, drop: &dyn DropPath) -> Tensor<2> {
        self.get().features(views, feature, drop)
    }

    fn training_features(
        &self,
        views: Vec<Tensor<4>>,
        feature: Feature,
        drop: &dyn DropPath,
    ) -> Tensor<2> {
        self.get().training_features(views, feature, drop)
    }

    fn training_tokens(&self, images: Tensor<4>, drop: &dyn DropPath) -> Tokens {
        self.get().training_tokens(images, drop)
    }

    fn as_attention_maps(&self) -> Option<&dyn AttentionMaps> {
        self.get().as_attention_maps()
    }

    fn as_block_tokens(&self) -> Option<&dyn BlockTokens> {
        self.get().as_block_tokens()
    }
}
