//! Heads that predict another network's feature and patch tokens.

use burn::tensor::{Device, Tensor};

use super::mlp::HeadMlp;
use super::{ProjectionHead, check_sizes};
use crate::Result;
use crate::init::Init;
use crate::param::{Param, Parameters, join};

/// The sizes of a [`Regression`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegressionConfig {
    /// Width of the hidden layers, if there are any.
    pub hidden_dim: usize,
    /// Linear layers; 1 is a linear map.
    pub layers: usize,
    /// Width of the feature that is predicted.
    pub out_dim: usize,
    /// The prediction of patch tokens; `None` leaves it out.
    pub patches: Option<TokenWidths>,
}

/// Widths of patch tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenWidths {
    /// Of the network that predicts, `D`.
    pub own: usize,
    /// Of those that are predicted.
    pub predicted: usize,
}

/// An MLP on features and another one on patch tokens, neither of which normalises its outputs.
#[derive(Clone, Debug)]
pub struct Regression {
    config: RegressionConfig,
    feature: HeadMlp,
    patches: Option<HeadMlp>,
}

impl Regression {
    /// The sizes.
    pub fn config(&self) -> &RegressionConfig {
        &self.config
    }

    /// Patch tokens `[R, D]` → predicted ones `[R, D']`; `None` without that part.
    pub fn forward_patches(&self, x: Tensor<2>) -> Option<Tensor<2>> {
        Some(self.patches.as_ref()?.forward(x))
    }
}

impl ProjectionHead for Regression {
    type Config = RegressionConfig;

    fn new(
        config: &RegressionConfig,
        width: usize,
        init: &mut Init,
        device: &Device,
    ) -> Result<Self> {
        check_sizes(&[
            ("head-hidden-dim", config.hidden_dim),
            ("head-layers", config.layers),
        ])?;
        let mut mlp = |width: usize, out: usize| {
            let sizes = [width, config.hidden_dim, out];
            HeadMlp::new(sizes, config.layers, None, init, device)
        };
        Ok(Self {
            config: config.clone(),
            feature: mlp(width, config.out_dim),
            patches: config
                .patches
                .map(|TokenWidths { own, predicted }| mlp(own, predicted)),
        })
    }

    /// Features `[R, F]` → predicted ones `[R, F']`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.feature.forward(x)
    }
}

impl Parameters for Regression {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        self.feature.visit(&join(prefix, "feature"), f);
        if let Some(patches) = &self.patches {
            patches.visit(&join(prefix, "patches"), f);
        }
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        self.feature.visit_mut(&join(prefix, "feature"), f);
        if let Some(patches) = &mut self.patches {
            patches.visit_mut(&join(prefix, "patches"), f);
        }
    }
}
