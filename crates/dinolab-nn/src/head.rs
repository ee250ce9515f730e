//! Projection heads: what a method puts on the feature of an image while it trains.

mod bottleneck;
mod mlp;
mod projection;
mod regression;

use burn::tensor::{Device, Tensor};

pub use self::bottleneck::{Bottleneck, BottleneckConfig};
use self::mlp::{HeadMlp, HeadNorm};
pub use self::projection::{Projection, ProjectionConfig};
pub use self::regression::{Regression, RegressionConfig, TokenWidths};
use crate::init::Init;
use crate::param::{Param, Parameters, join};
use crate::vit::Linear;
use crate::{Error, Result};

/// Epsilon of the bottleneck's normalisation.
const L2_EPS: f64 = 1e-12;

/// A head on features.
pub trait ProjectionHead: Parameters + Clone {
    /// Its sizes.
    type Config;

    /// A head on features of width `width`, with its initial weights.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where a size is 0.
    fn new(config: &Self::Config, width: usize, init: &mut Init, device: &Device) -> Result<Self>;

    /// Features `[R, F]` → outputs `[R, K]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2>;
}

/// Rows of `[R, d]` scaled to length 1.
fn unit_rows(x: Tensor<2>) -> Tensor<2> {
    let length = (x.clone() * x.clone()).sum_dim(1).sqrt().clamp_min(L2_EPS);
    x / length
}

/// An error for each size that is 0.
fn check_sizes(sizes: &[(&'static str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        None => Ok(()),
        Some((field, _)) => Err(Error::BadSetting {
            field,
            reason: "must be at least 1".into(),
        }),
    }
}

/// The sizes of DINO's projection head (paper, section 3.1 and appendix C).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// Number of prototypes, `K`.
    pub out_dim: usize,
    /// Width of the hidden layers.
    pub hidden_dim: usize,
    /// Width of the L2-normalised bottleneck.
    pub bottleneck_dim: usize,
    /// Linear layers before the prototypes.
    pub layers: usize,
    /// Batch normalisation after all of these layers but the last.
    pub use_bn: bool,
    /// Keep the prototypes at unit length (`weight_g` frozen at 1).
    pub norm_last_layer: bool,
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self {
            out_dim: 65_536,
            hidden_dim: 2048,
            bottleneck_dim: 256,
            layers: 3,
            use_bn: false,
            norm_last_layer: true,
        }
    }
}

/// DINO's head: an MLP, an L2-normalised bottleneck, and weight-normalised prototypes.
#[derive(Clone, Debug)]
pub struct Head {
    config: HeadConfig,
    mlp: HeadMlp,
    /// Length of each prototype, `[K, 1]`.
    pub weight_g: Param,
    /// Direction of each prototype, `[K, bottleneck]`.
    pub weight_v: Param,
}

impl ProjectionHead for Head {
    type Config = HeadConfig;

    fn new(config: &HeadConfig, width: usize, init: &mut Init, device: &Device) -> Result<Self> {
        check_sizes(&[
            ("out-dim", config.out_dim),
            ("head-hidden-dim", config.hidden_dim),
            ("head-bottleneck-dim", config.bottleneck_dim),
            ("head-layers", config.layers),
        ])?;
        let (k, b) = (config.out_dim, config.bottleneck_dim);
        let sizes = [width, config.hidden_dim, b];
        let norm = config.use_bn.then_some(HeadNorm::OfParts);
        let mlp = HeadMlp::new(sizes, config.layers, norm, init, device);
        Ok(Self {
            config: config.clone(),
            mlp,
            weight_g: Param::new(vec![1.0; k], &[k, 1], !config.norm_last_layer, device),
            weight_v: Param::new(init.uniform_fan_in(k * b, b), &[k, b], true, device),
        })
    }

    /// Features `[R, F]` → raw logits `[R, K]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = self.mlp.forward(x);
        let x = unit_rows(x);
        let lengths = self.weight_g.get::<2>().reshape([self.config.out_dim]);
        crate::ops::prototypes(x, self.weight_v.get(), lengths)
    }
}

impl Head {
    /// The sizes.
    pub fn config(&self) -> &HeadConfig {
        &self.config
    }

    /// The width of the features that it is on.
    pub fn width(&self) -> usize {
        let (last, before) = self.linears();
        let first = before.first().map_or(last.1, |(_, linear)| linear);
        first.weight.shape()[1]
    }

    /// The linear layers with their names, the last one apart; GELU follows all others.
    pub(crate) fn linears(&self) -> ((String, &Linear), Vec<(String, &Linear)>) {
        let mut all = self.mlp.linears();
        let last = all.pop().expect("a head has a linear layer");
        (last, all)
    }

    /// The prototypes `g · v / ‖v‖`, `[K, bottleneck]`.
    pub(crate) fn prototypes(&self) -> Vec<f32> {
        let (mut v, g) = (self.weight_v.to_vec(), self.weight_g.to_vec());
        for (v, g) in v.chunks_exact_mut(self.config.bottleneck_dim).zip(g) {
            let squares: f64 = v.iter().map(|&v| f64::from(v).powi(2)).sum();
            let scale = f64::from(g) / squares.sqrt();
            v.iter_mut()
                .for_each(|v| *v = (f64::from(*v) * scale) as f32);
        }
        v
    }
}

impl Parameters for Head {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        self.mlp.visit(prefix, f);
        f(&join(prefix, "last_layer.weight_g"), &self.weight_g);
        f(&join(prefix, "last_layer.weight_v"), &self.weight_v);
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        self.mlp.visit_mut(prefix, f);
        f(&join(prefix, "last_layer.weight_g"), &mut self.weight_g);
        f(&join(prefix, "last_layer.weight_v"), &mut self.weight_v);
    }
}
