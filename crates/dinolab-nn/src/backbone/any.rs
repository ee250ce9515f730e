//! A backbone whose kind is known at run time only.

use burn::tensor::{Device, Tensor};

use super::{AttentionMaps, Backbone, BackboneConfig, BlockTokens, Tokens};
use crate::convnext::ConvNext;
use crate::init::Init;
use crate::param::{Param, Parameters};
use crate::resnet::ResNet;
use crate::vit::{DropPath, Vit};
use crate::{Error, Feature, Result};

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
    /// A ConvNeXt.
    ConvNext(ConvNext),
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

impl From<ConvNext> for AnyBackbone {
    fn from(convnext: ConvNext) -> Self {
        Self::ConvNext(convnext)
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
            BackboneConfig::ConvNext(config) => {
                Self::ConvNext(ConvNext::new(config, init, device)?)
            }
        })
    }

    /// The sizes.
    pub fn config(&self) -> BackboneConfig {
        match self {
            Self::Vit(vit) => BackboneConfig::Vit(vit.config().clone()),
            Self::ResNet(resnet) => BackboneConfig::ResNet(resnet.config().clone()),
            Self::ConvNext(convnext) => BackboneConfig::ConvNext(convnext.config().clone()),
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
            Self::ConvNext(convnext) => convnext,
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
            Self::ConvNext(convnext) => convnext.visit(prefix, f),
        }
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        match self {
            Self::Vit(vit) => vit.visit_mut(prefix, f),
            Self::ResNet(resnet) => resnet.visit_mut(prefix, f),
            Self::ConvNext(convnext) => convnext.visit_mut(prefix, f),
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
