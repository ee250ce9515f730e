//! Backbone and head together.

use burn::tensor::{Device, Tensor};

use crate::Result;
use crate::head::{Head, ProjectionHead};
use crate::init::Init;
use crate::param::{Param, Parameters, join};
use crate::vit::{DropPath, Vit, VitConfig};

/// A backbone with a projection head: DINO's, or another one.
#[derive(Clone, Debug)]
pub struct Network<H = Head> {
    /// The vision transformer.
    pub backbone: Vit,
    /// The projection head.
    pub head: H,
}

impl<H: ProjectionHead> Network<H> {
    /// A network with the reference's initial weights for `seed`.
    ///
    /// # Errors
    /// [`crate::Error::BadSetting`] where the sizes make no network.
    pub fn new(vit: &VitConfig, head: &H::Config, seed: u64, device: &Device) -> Result<Self> {
        let mut init = Init::new(seed);
        let backbone = Vit::new(vit, &mut init, device)?;
        let head = H::new(head, vit.width, &mut init, device)?;
        Ok(Self { backbone, head })
    }

    /// Views of one or more sizes, each `[V·B, C, H, W]` view-major, to the head's outputs
    /// `[ΣV·B, K]` in the same order; the head runs once over all class tokens. `drop` knows all
    /// views.
    pub fn forward(&self, views: Vec<Tensor<4>>, drop: &dyn DropPath) -> Tensor<2> {
        self.head.forward(self.backbone.forward_views(views, drop))
    }
}

impl<H: Parameters> Parameters for Network<H> {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        self.backbone.visit(&join(prefix, "backbone"), f);
        self.head.visit(&join(prefix, "head"), f);
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        self.backbone.visit_mut(&join(prefix, "backbone"), f);
        self.head.visit_mut(&join(prefix, "head"), f);
    }
}
