//! A plain projection, without prototypes.

use burn::tensor::{Device, Tensor};

use super::mlp::{HeadMlp, HeadNorm};
use super::{ProjectionHead, check_sizes};
use crate::Result;
use crate::init::Init;
use crate::param::{Param, Parameters};

/// The sizes of a [`Projection`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectionConfig {
    /// Width of the hidden layers.
    pub hidden_dim: usize,
    /// Width of an embedding, `d`.
    pub out_dim: usize,
    /// Linear layers.
    pub layers: usize,
}

impl Default for ProjectionConfig {
    fn default() -> Self {
        Self {
            hidden_dim: 512,
            out_dim: 64,
            layers: 3,
        }
    }
}

/// An MLP with batch normalisation after all layers but the last; its output is not normalised.
///
/// Batch statistics are taken over all rows of a forward pass, so the result for an image depends
/// on the batch it is in.
#[derive(Clone, Debug)]
pub struct Projection {
    config: ProjectionConfig,
    mlp: HeadMlp,
}

impl Projection {
    /// The sizes.
    pub fn config(&self) -> &ProjectionConfig {
        &self.config
    }
}

impl ProjectionHead for Projection {
    type Config = ProjectionConfig;

    fn new(
        config: &ProjectionConfig,
        width: usize,
        init: &mut Init,
        device: &Device,
    ) -> Result<Self> {
        check_sizes(&[
            ("proj-dim", config.out_dim),
            ("head-hidden-dim", config.hidden_dim),
            ("head-layers", config.layers),
        ])?;
        let sizes = [width, config.hidden_dim, config.out_dim];
        let norm = Some(HeadNorm::OfWhole);
        Ok(Self {
            config: config.clone(),
            mlp: HeadMlp::new(sizes, config.layers, norm, init, device),
        })
    }

    /// Features `[R, F]` → embeddings `[R, d]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.mlp.forward(x)
    }
}

impl Parameters for Projection {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        self.mlp.visit(prefix, f);
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        self.mlp.visit_mut(prefix, f);
    }
}
