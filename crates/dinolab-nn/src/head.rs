//! The projection head (paper, section 3.1 and appendix C).

use burn::tensor::{Device, Tensor};

use crate::init::Init;
use crate::param::{Param, Parameters, join};
use crate::precision::single;
use crate::vit::Linear;
use crate::{Error, Result};

/// Epsilon of the bottleneck's normalisation.
const L2_EPS: f64 = 1e-12;
/// PyTorch's defaults for batch normalisation.
const BATCH_NORM_EPS: f64 = 1e-5;

/// The sizes of a projection head.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// Number of prototypes, `K`.
    pub out_dim: usize,
    /// Width of the hidden layers.
    pub hidden_dim: usize,
    /// Width of the L2-normalised bottleneck.
    pub bottleneck_dim: usize,
    /// Linear maps before the prototypes.
    pub layers: usize,
    /// Batch normalisation after all of these maps but the last.
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

/// Batch normalisation over the rows of `[R, H]`.
#[derive(Clone, Debug)]
struct BatchNorm {
    weight: Param,
    bias: Param,
    running_mean: Param,
    running_var: Param,
}
crate::param::parameters!(BatchNorm {
    weight,
    bias,
    running_mean,
    running_var
});

impl BatchNorm {
    fn new(width: usize, device: &Device) -> Self {
        let vector =
            |value: f32, trainable| Param::new(vec![value; width], &[width], trainable, device);
        Self {
            weight: vector(1.0, true),
            bias: vector(0.0, true),
            running_mean: vector(0.0, false),
            running_var: vector(1.0, false),
        }
    }

    /// With the batch's own statistics, biased variance; student and teacher both use them in
    /// training, as the reference's modules stay in training mode.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [_, n, h] = x.dims();
        let vector = |p: &Param| p.get::<1>().reshape([1, 1, h]);
        let x = single(x);
        let centred = x.clone() - x.mean_dim(1);
        let variance = (centred.clone() * centred.clone()).mean_dim(1);
        let y = centred / (variance + BATCH_NORM_EPS).sqrt();
        debug_assert!(n > 0);
        y * vector(&self.weight) + vector(&self.bias)
    }
}

/// Linear maps with GELU, an L2-normalised bottleneck, and weight-normalised prototypes.
#[derive(Clone, Debug)]
pub struct Head {
    config: HeadConfig,
    mlp: Vec<Linear>,
    norms: Vec<BatchNorm>,
    /// Length of each prototype, `[K, 1]`.
    pub weight_g: Param,
    /// Direction of each prototype, `[K, bottleneck]`.
    pub weight_v: Param,
}

impl Head {
    /// A head on tokens of width `width`, with the reference's initial weights.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where a size is 0.
    pub fn new(
        config: &HeadConfig,
        width: usize,
        init: &mut Init,
        device: &Device,
    ) -> Result<Self> {
        let bad = |field| {
            Err(Error::BadSetting {
                field,
                reason: "must be at least 1".into(),
            })
        };
        match config {
            HeadConfig { out_dim: 0, .. } => return bad("out-dim"),
            HeadConfig { hidden_dim: 0, .. } => return bad("head-hidden-dim"),
            HeadConfig {
                bottleneck_dim: 0, ..
            } => return bad("head-bottleneck-dim"),
            HeadConfig { layers: 0, .. } => return bad("head-layers"),
            _ => {}
        }
        let mut sizes = vec![width];
        sizes.extend(std::iter::repeat_n(config.hidden_dim, config.layers - 1));
        sizes.push(config.bottleneck_dim);
        // Maps followed by batch normalisation still have their bias, as in the reference.
        let mlp = sizes
            .windows(2)
            .map(|io| Linear::new(io[0], io[1], true, init, device))
            .collect();
        let norms = if config.use_bn { config.layers - 1 } else { 0 };
        let (k, b) = (config.out_dim, config.bottleneck_dim);
        Ok(Self {
            config: config.clone(),
            mlp,
            norms: (0..norms)
                .map(|_| BatchNorm::new(config.hidden_dim, device))
                .collect(),
            weight_g: Param::new(vec![1.0; k], &[k, 1], !config.norm_last_layer, device),
            weight_v: Param::new(init.uniform_fan_in(k * b, b), &[k, b], true, device),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &HeadConfig {
        &self.config
    }

    /// Class tokens `[R, D]` → raw logits `[R, K]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [rows, width] = x.dims();
        let mut x = x.reshape([1, rows, width]);
        let last = self.mlp.len() - 1;
        for (i, linear) in self.mlp.iter().enumerate() {
            x = match self.norms.get(i) {
                _ if i == last => linear.forward(x),
                Some(norm) => crate::ops::gelu(norm.forward(linear.forward(x))),
                None => linear.forward_gelu(x),
            };
        }
        let x = single(x);
        let length = (x.clone() * x.clone()).sum_dim(2).sqrt().clamp_min(L2_EPS);
        let x = x / length;
        let x = x.reshape([rows, self.config.bottleneck_dim]);
        let lengths = self.weight_g.get::<2>().reshape([self.config.out_dim]);
        crate::ops::prototypes(x, self.weight_v.get(), lengths)
    }

    /// The linear maps with their names, the last one apart; GELU follows all others.
    pub(crate) fn linears(&self) -> ((String, &Linear), Vec<(String, &Linear)>) {
        let mut all: Vec<_> = self
            .mlp
            .iter()
            .enumerate()
            .map(|(i, linear)| (self.place(i).0, linear))
            .collect();
        let last = all.pop().expect("a head has a linear map");
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

    /// Places of the linear map `i` and of its batch norm in the reference's sequence
    /// (linear, batch norm where used, GELU; a lone map has no place).
    fn place(&self, i: usize) -> (String, String) {
        if self.mlp.len() == 1 {
            return ("mlp".into(), String::new());
        }
        let stride = if self.config.use_bn { 3 } else { 2 };
        (
            format!("mlp.{}", i * stride),
            format!("mlp.{}", i * stride + 1),
        )
    }
}

impl Parameters for Head {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        for (i, linear) in self.mlp.iter().enumerate() {
            let (linear_at, norm_at) = self.place(i);
            linear.visit(&join(prefix, &linear_at), f);
            if let Some(norm) = self.norms.get(i) {
                norm.visit(&join(prefix, &norm_at), f);
            }
        }
        f(&join(prefix, "last_layer.weight_g"), &self.weight_g);
        f(&join(prefix, "last_layer.weight_v"), &self.weight_v);
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        let places: Vec<_> = (0..self.mlp.len()).map(|i| self.place(i)).collect();
        for (i, linear) in self.mlp.iter_mut().enumerate() {
            linear.visit_mut(&join(prefix, &places[i].0), f);
            if let Some(norm) = self.norms.get_mut(i) {
                norm.visit_mut(&join(prefix, &places[i].1), f);
            }
        }
        f(&join(prefix, "last_layer.weight_g"), &mut self.weight_g);
        f(&join(prefix, "last_layer.weight_v"), &mut self.weight_v);
    }
}
