//! A transformer that predicts the patches it does not see: a head on class tokens, one on patch tokens.

use burn::tensor::{Device, Tensor};

use crate::Result;
use crate::head::{Head, HeadConfig, ProjectionHead};
use crate::init::Init;
use crate::lora::{Lora, LoraConfig};
use crate::param::{Param, Parameters, join};
use crate::vit::{DropPath, Vit, VitConfig};

/// What the patch tokens of a [`MaskedNetwork`] go through.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatchHeadConfig {
    /// The head on class tokens (iBOT).
    Shared,
    /// A head apart (DINOv2).
    Apart(HeadConfig),
}

/// A vision transformer with a mask token and heads on its class and patch tokens (iBOT, DINOv2).
#[derive(Clone, Debug)]
pub struct MaskedNetwork {
    /// The backbone, which has a mask token if patches are masked.
    pub backbone: Vit,
    /// The head on class tokens, and on patch tokens if there is no other.
    pub head: Head,
    /// The head on patch tokens, if it is apart.
    pub patch_head: Option<Head>,
    /// What is learned in place of the backbone's own weights, if it is adapted.
    pub lora: Option<Lora>,
    frozen: bool,
}

impl MaskedNetwork {
    /// A network with the reference's initial weights for `seed`: backbone and head are those of a
    /// [`Network`](crate::Network). The mask token begins as zeros. Without `patches`, there is none, and no
    /// patch is masked.
    ///
    /// # Errors
    /// [`crate::Error::BadSetting`] where the sizes make no network.
    pub fn new(
        vit: &VitConfig,
        head: &HeadConfig,
        patches: Option<&PatchHeadConfig>,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let mut init = Init::new(seed);
        let mut backbone = Vit::new(vit, &mut init, device)?;
        if patches.is_some() {
            backbone.add_mask_token(device);
        }
        let mut new = |head: &HeadConfig| Head::new(head, vit.width, &mut init, device);
        Ok(Self {
            backbone,
            head: new(head)?,
            patch_head: match patches {
                Some(PatchHeadConfig::Apart(head)) => Some(new(head)?),
                Some(PatchHeadConfig::Shared) | None => None,
            },
            lora: None,
            frozen: false,
        })
    }

    /// Freezes the backbone's parameters, its mask token included, or lets them learn again. Patches are
    /// masked and branches dropped all the same.
    pub fn freeze_backbone(&mut self, frozen: bool) {
        if self.frozen != frozen {
            self.frozen = frozen;
            Lora::freeze(&mut self.lora, &mut self.backbone, frozen);
        }
    }

    /// Learns a change of low rank of the backbone from now on, the mask token and the heads; nothing else.
    ///
    /// # Errors
    /// As [`Lora::new`].
    pub fn adapt(&mut self, config: LoraConfig, seed: u64) -> Result<()> {
        let lora = Lora::new(&self.backbone, config, seed)?;
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

    /// The head on patch tokens.
    pub fn patch_head(&self) -> &Head {
        self.patch_head.as_ref().unwrap_or(&self.head)
    }

    /// Views of one or more sizes, each `[V·B, C, H, W]` view-major, to class tokens `[ΣV·B, D]` and the patch
    /// tokens `[M, D]` of the rows `patches` of the first size ([`Vit::class_and_patches`]).
    pub fn features(
        &self,
        views: Vec<Tensor<4>>,
        patches: &[usize],
        drop: &dyn DropPath,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        match self.lora.as_ref().filter(|_| !self.frozen) {
            Some(lora) => lora
                .recorded(&self.backbone)
                .class_and_patches(views, patches, drop),
            None => self.backbone.class_and_patches(views, patches, drop),
        }
    }
}

impl Parameters for MaskedNetwork {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        self.backbone.visit(&join(prefix, "backbone"), f);
        self.head.visit(&join(prefix, "head"), f);
        self.patch_head.visit(&join(prefix, "ibot_head"), f);
        self.lora.visit(&join(prefix, "lora.backbone"), f);
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        self.backbone.visit_mut(&join(prefix, "backbone"), f);
        self.head.visit_mut(&join(prefix, "head"), f);
        self.patch_head.visit_mut(&join(prefix, "ibot_head"), f);
        self.lora.visit_mut(&join(prefix, "lora.backbone"), f);
    }

    fn compose(&mut self) {
        if let Some(lora) = self.lora.as_ref().filter(|_| !self.frozen) {
            lora.compose(&mut self.backbone);
        }
    }
}
