//! A transformer that predicts the patches it does not see: a head on class tokens, one on patch tokens.

use burn::tensor::{Device, Tensor};

use crate::Result;
use crate::head::{Head, HeadConfig, ProjectionHead};
use crate::init::Init;
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
        })
    }

    /// Freezes the backbone's parameters, its mask token included, or lets them learn again. Patches are
    /// masked and branches dropped all the same.
    pub fn freeze_backbone(&mut self, frozen: bool) {
        let set = &mut |_: &str, param: &mut Param| param.set_frozen(frozen);
        self.backbone.visit_mut("", set);
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
        self.backbone.class_and_patches(views, patches, drop)
    }
}

impl Parameters for MaskedNetwork {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        self.backbone.visit(&join(prefix, "backbone"), f);
        self.head.visit(&join(prefix, "head"), f);
        self.patch_head.visit(&join(prefix, "ibot_head"), f);
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        self.backbone.visit_mut(&join(prefix, "backbone"), f);
        self.head.visit_mut(&join(prefix, "head"), f);
        self.patch_head.visit_mut(&join(prefix, "ibot_head"), f);
    }
}
