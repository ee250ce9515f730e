//! Backbone and head together.

use std::borrow::Cow;

use burn::tensor::{Device, Tensor};

use crate::head::{Head, ProjectionHead};
use crate::init::Init;
use crate::lora::{Lora, LoraConfig};
use crate::param::{Param, Parameters, join};
use crate::vit::{DropPath, NoDropPath};
use crate::{AnyBackbone, Backbone, BackboneConfig, Feature, Result, Tokens};

/// A backbone with a projection head: DINO's, or another one.
#[derive(Clone, Debug)]
pub struct Network<H = Head> {
    /// The backbone.
    pub backbone: AnyBackbone,
    /// What of the backbone's tokens the head is on.
    pub feature: Feature,
    /// The projection head.
    pub head: H,
    /// What is learned in place of the backbone's own weights, if it is adapted.
    pub lora: Option<Lora>,
    frozen: bool,
}

impl<H: ProjectionHead> Network<H> {
    /// A network with the reference's initial weights for `seed`, whose head is on the class token.
    ///
    /// # Errors
    /// [`crate::Error::BadSetting`] where the sizes make no network.
    pub fn new(
        backbone: impl Into<BackboneConfig>,
        head: &H::Config,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        Self::of_feature(backbone, Feature::Class, head, seed, device)
    }

    /// [`Network::new`] with the head on another feature. The backbone's weights are the same for
    /// all of them.
    ///
    /// # Errors
    /// [`crate::Error::BadSetting`] where the sizes make no network.
    pub fn of_feature(
        backbone: impl Into<BackboneConfig>,
        feature: Feature,
        head: &H::Config,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let mut init = Init::new(seed);
        let backbone = AnyBackbone::new(&backbone.into(), &mut init, device)?;
        let head = H::new(head, feature.width(backbone.width()), &mut init, device)?;
        Ok(Self {
            backbone,
            feature,
            head,
            lora: None,
            frozen: false,
        })
    }

    /// Views of one or more sizes, each `[V·B, C, H, W]` view-major, to the features that the head is
    /// on, `[ΣV·B, F]` in the same order, as they are while the network learns
    /// ([`Backbone::training_features`]). `drop` knows all views.
    ///
    /// Those of a [frozen backbone](Network::freeze_backbone) are as in every other use of it: nothing
    /// is dropped, batch normalisation takes its running statistics, and no gradient is recorded.
    pub fn features(&self, views: Vec<Tensor<4>>, drop: &dyn DropPath) -> Tensor<2> {
        match self.frozen {
            true => self.backbone.features(views, self.feature, &NoDropPath),
            false => {
                let backbone = self.recorded_backbone();
                backbone.training_features(views, self.feature, drop)
            }
        }
    }

    /// The class and patch tokens of views of one size, `[V·B, C, H, W]` view-major, as they are while the
    /// network learns; those of a frozen backbone as in [`Network::features`].
    pub fn tokens(&self, views: Tensor<4>, drop: &dyn DropPath) -> Tokens {
        match self.frozen {
            true => self.backbone.tokens(views),
            false => self.recorded_backbone().training_tokens(views, drop),
        }
    }

    /// The backbone through which gradients reach what is learned of it: itself, or with the graph of the
    /// weights that are composed.
    pub fn recorded_backbone(&self) -> Cow<'_, AnyBackbone> {
        let Some(lora) = self.lora.as_ref().filter(|_| !self.frozen) else {
            return Cow::Borrowed(&self.backbone);
        };
        Cow::Owned(lora.recorded(&self.backbone))
    }

    /// Learns a change of low rank of the backbone from now on, and the head; nothing else of the backbone.
    /// Its parameters keep the values of the whole: `W₀` and the change.
    ///
    /// # Errors
    /// As [`Lora::new`]; [`crate::Error::Lacks`] for a backbone that is not a vision transformer.
    pub fn adapt(&mut self, config: LoraConfig, seed: u64) -> Result<()> {
        let lora = Lora::new(self.backbone.vit()?, config, seed)?;
        lora.attach(&mut self.backbone);
        self.lora = Some(lora);
        Ok(())
    }

    /// Takes the backbone's weights for those that are adapted, after they have been loaded.
    pub fn rebase(&mut self) {
        if let Some(lora) = &mut self.lora {
            lora.rebase(&self.backbone);
        }
    }

    /// Freezes the backbone's parameters, or lets them learn again.
    pub fn freeze_backbone(&mut self, frozen: bool) {
        if self.frozen != frozen {
            self.frozen = frozen;
            Lora::freeze(&mut self.lora, &mut self.backbone, frozen);
        }
    }

    /// Views of one or more sizes, each `[V·B, C, H, W]` view-major, to the head's outputs
    /// `[ΣV·B, K]` in the same order; the head runs once over all features. `drop` knows all
    /// views.
    pub fn forward(&self, views: Vec<Tensor<4>>, drop: &dyn DropPath) -> Tensor<2> {
        self.head.forward(self.features(views, drop))
    }
}

impl<H: Parameters> Parameters for Network<H> {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        self.backbone.visit(&join(prefix, "backbone"), f);
        self.head.visit(&join(prefix, "head"), f);
        self.lora.visit(&join(prefix, "lora.backbone"), f);
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        self.backbone.visit_mut(&join(prefix, "backbone"), f);
        self.head.visit_mut(&join(prefix, "head"), f);
        self.lora.visit_mut(&join(prefix, "lora.backbone"), f);
    }

    fn compose(&mut self) {
        let Some(lora) = self.lora.as_ref().filter(|_| !self.frozen) else {
            return;
        };
        lora.compose(&mut self.backbone);
    }
}
