//! Backbone and head together: what student and teacher each are.

use burn::tensor::{Device, Tensor};

use crate::Result;
use crate::head::{Head, HeadConfig};
use crate::init::Init;
use crate::param::parameters;
use crate::vit::{DropPath, Vit, VitConfig};

/// A backbone with its projection head.
#[derive(Clone, Debug)]
pub struct Network {
    /// The vision transformer.
    pub backbone: Vit,
    /// The projection head.
    pub head: Head,
}
parameters!(Network { backbone, head });

impl Network {
    /// A network with the reference's initial weights for `seed`.
    ///
    /// # Errors
    /// [`crate::Error::BadSetting`] where the sizes make no network.
    pub fn new(vit: &VitConfig, head: &HeadConfig, seed: u64, device: &Device) -> Result<Self> {
        let mut init = Init::new(seed);
        let backbone = Vit::new(vit, &mut init, device)?;
        let head = Head::new(head, vit.width, &mut init, device)?;
        Ok(Self { backbone, head })
    }

    /// Views of one or more sizes, each `[V·B, C, H, W]` view-major, to raw logits `[ΣV·B, K]`
    /// in the same order; the head runs once over all class tokens. `drop` knows all views.
    pub fn forward(&self, views: Vec<Tensor<4>>, drop: &dyn DropPath) -> Tensor<2> {
        self.head.forward(self.backbone.forward_views(views, drop))
    }
}
