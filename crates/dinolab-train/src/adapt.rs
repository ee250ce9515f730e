//! How a run adapts weights that it starts from: what all methods have in common.

mod heads;
mod preserve;

use dinolab_nn::optim::LayerRates;
use dinolab_nn::{BackboneConfig, LoraConfig, Network, ProjectionHead};

pub(crate) use self::heads::with_heads_of;
pub(crate) use self::preserve::Preserved;
pub use self::preserve::drift;

use crate::method::check;
use crate::update::UpdateRule;
use crate::{Result, StepHyperparams};

/// Settings of adapting weights, of any method. By default nothing differs from training from random
/// weights.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct AdaptConfig {
    /// Layer-wise decay of the learning rate, above 0 and at most 1 ([`LayerRates`]); 1 disables.
    pub layer_decay: f64,
    /// Factor of the patch embedding's learning rate, in 0–1; 1 disables.
    pub patch_embed_lr_scale: f64,
    /// Weight in the loss of the [`drift`] of the features of global views from those of the network that
    /// the run started from; 0 disables.
    pub preserve: f64,
    /// The change of the backbone's weights that is learned in place of them; `None` learns them.
    pub lora: Option<LoraConfig>,
}

impl Default for AdaptConfig {
    fn default() -> Self {
        Self {
            layer_decay: 1.0,
            patch_embed_lr_scale: 1.0,
            preserve: 0.0,
            lora: None,
        }
    }
}

impl AdaptConfig {
    /// Refuses impossible numbers.
    pub(crate) fn check(&self) -> Result<()> {
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            return Err(check::bad("layer-decay", "must be above 0 and at most 1"));
        }
        check::weight("preserve", self.preserve)?;
        check::share("patch-embed-lr-scale", self.patch_embed_lr_scale)
    }

    /// Prepares a network that learns.
    pub(crate) fn apply<H: ProjectionHead>(
        &self,
        network: &mut Network<H>,
        seed: u64,
    ) -> Result<()> {
        match self.lora {
            Some(lora) => Ok(network.adapt(lora, seed)?),
            None => Ok(()),
        }
    }

    /// How a step updates a network with such a backbone, of which no parameter is frozen.
    pub(crate) fn rule(
        &self,
        backbone: &BackboneConfig,
        hp: &StepHyperparams,
        clip: f64,
    ) -> UpdateRule<'static> {
        let (decay, patch_embed) = (self.layer_decay, self.patch_embed_lr_scale);
        let differ = decay != 1.0 || patch_embed != 1.0;
        UpdateRule {
            layers: differ.then(|| LayerRates::new(backbone, decay, patch_embed)),
            backbone: hp.backbone_rate,
            ..UpdateRule::of_all(hp.rates(), clip)
        }
    }
}
