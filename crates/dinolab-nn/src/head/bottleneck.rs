//! A head that ends in a bottleneck of unit length, without prototypes.

use burn::tensor::{Device, Tensor};

use super::mlp::HeadMlp;
use super::{ProjectionHead, check_sizes, unit_rows};
use crate::Result;
use crate::init::Init;
use crate::param::{Param, Parameters};

/// The sizes of a [`Bottleneck`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BottleneckConfig {
    /// Width of the hidden layers.
    pub hidden_dim: usize,
    /// Width of the L2-normalised output, `d`.
    pub out_dim: usize,
    /// Linear layers.
    pub layers: usize,
}

impl Default for BottleneckConfig {
    fn default() -> Self {
        Self {
            hidden_dim: 2048,
            out_dim: 256,
            layers: 3,
        }
    }
}

/// DINO's head without its prototypes: an MLP and an L2-normalised output.
#[derive(Clone, Debug)]
pub struct Bottleneck {
    config: BottleneckConfig,
    mlp: HeadMlp,
}

impl Bottleneck {
    /// The sizes.
    pub fn config(&self) -> &BottleneckConfig {
        &self.config
    }
}

impl ProjectionHead for Bottleneck {
    type Config = BottleneckConfig;

    fn new(
        config: &BottleneckConfig,
        width: usize,
        init: &mut Init,
        device: &Device,
    ) -> Result<Self> {
        check_sizes(&[
            ("head-bottleneck-dim", config.out_dim),
            ("head-hidden-dim", config.hidden_dim),
            ("head-layers", config.layers),
        ])?;
        let sizes = [width, config.hidden_dim, config.out_dim];
        Ok(Self {
            config: config.clone(),
            mlp: HeadMlp::new(sizes, config.layers, None, init, device),
        })
    }

    /// Class tokens `[R, D]` → outputs of unit length `[R, d]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        unit_rows(self.mlp.forward(x))
    }
}

impl Parameters for Bottleneck {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        self.mlp.visit(prefix, f);
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        self.mlp.visit_mut(prefix, f);
    }
}
