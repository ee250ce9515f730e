//! The MLP that a head begins with.

use burn::tensor::{Device, Tensor};

use crate::init::Init;
use crate::param::{Param, Parameters, join};
use crate::precision::single;
use crate::vit::Linear;

/// PyTorch's default epsilon.
const BATCH_NORM_EPS: f64 = 1e-5;

/// Batch normalisation over the rows of `[R, H]`.
#[derive(Clone, Debug)]
struct BatchNorm {
    weight: Param,
    bias: Param,
    /// In checkpoints of the reference; never used here.
    running_mean: Option<Param>,
    running_var: Option<Param>,
    of: HeadNorm,
}
crate::param::parameters!(BatchNorm {
    weight,
    bias,
    running_mean,
    running_var
});

impl BatchNorm {
    fn new(width: usize, of: HeadNorm, device: &Device) -> Self {
        let running = of == HeadNorm::OfParts;
        let vector =
            |value: f32, trainable| Param::new(vec![value; width], &[width], trainable, device);
        Self {
            weight: vector(1.0, true),
            bias: vector(0.0, true),
            running_mean: running.then(|| vector(0.0, false)),
            running_var: running.then(|| vector(1.0, false)),
            of,
        }
    }

    /// With the batch's own statistics, biased variance; student and teacher both use them in
    /// training, as the reference's modules stay in training mode.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [_, n, h] = x.dims();
        let vector = |p: &Param| p.get::<1>().reshape([1, 1, h]);
        let of_batch = |mean: Tensor<3>| match self.of {
            HeadNorm::OfParts => crate::ops::batch_mean(mean),
            HeadNorm::OfWhole => mean,
        };
        let x = single(x);
        let centred = x.clone() - of_batch(x.mean_dim(1));
        let variance = of_batch((centred.clone() * centred.clone()).mean_dim(1));
        let y = centred / (variance + BATCH_NORM_EPS).sqrt();
        debug_assert!(n > 0);
        y * vector(&self.weight) + vector(&self.bias)
    }
}

/// Which batch normalisation a head has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadNorm {
    /// DINO's: of several processes, each has a part of the batch. Has running statistics, as in the reference's
    /// checkpoints.
    OfParts,
    /// A projection's: every process has the whole batch. Has no running statistics.
    OfWhole,
}

/// Linear layers, each but the last followed by batch normalisation if wanted, and GELU.
#[derive(Clone, Debug)]
pub(super) struct HeadMlp {
    layers: Vec<Linear>,
    norms: Vec<BatchNorm>,
}

impl HeadMlp {
    /// An MLP from `width` through `layers − 1` hidden layers of `hidden` to `out`, with the
    /// reference's initial weights. Layers followed by batch normalisation have a bias too.
    pub(super) fn new(
        [width, hidden, out]: [usize; 3],
        layers: usize,
        batch_norm: Option<HeadNorm>,
        init: &mut Init,
        device: &Device,
    ) -> Self {
        let mut sizes = vec![width];
        sizes.extend(std::iter::repeat_n(hidden, layers - 1));
        sizes.push(out);
        let norm = |of| (1..layers).map(move |_| BatchNorm::new(hidden, of, device));
        Self {
            layers: sizes
                .windows(2)
                .map(|io| Linear::new(io[0], io[1], true, init, device))
                .collect(),
            norms: batch_norm.into_iter().flat_map(norm).collect(),
        }
    }

    /// `[R, D]` → `[R, out]`.
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [rows, width] = x.dims();
        let mut x = x.reshape([1, rows, width]);
        let last = self.layers.len() - 1;
        for (i, linear) in self.layers.iter().enumerate() {
            x = match self.norms.get(i) {
                _ if i == last => linear.forward(x),
                Some(norm) => crate::ops::gelu(norm.forward(linear.forward(x))),
                None => linear.forward_gelu(x),
            };
        }
        let [_, rows, out] = x.dims();
        single(x).reshape([rows, out])
    }

    /// The linear layers with their names, in order.
    pub(super) fn linears(&self) -> Vec<(String, &Linear)> {
        let places = (0..self.layers.len()).map(|i| self.place(i).0);
        places.zip(&self.layers).collect()
    }

    /// Places of the linear layer `i` and of its batch norm in the reference's sequence
    /// (linear, batch norm where used, GELU; a lone layer has no place).
    fn place(&self, i: usize) -> (String, String) {
        if self.layers.len() == 1 {
            return ("mlp".into(), String::new());
        }
        let stride = if self.norms.is_empty() { 2 } else { 3 };
        (
            format!("mlp.{}", i * stride),
            format!("mlp.{}", i * stride + 1),
        )
    }
}

impl Parameters for HeadMlp {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        for (i, linear) in self.layers.iter().enumerate() {
            let (linear_at, norm_at) = self.place(i);
            linear.visit(&join(prefix, &linear_at), f);
            if let Some(norm) = self.norms.get(i) {
                norm.visit(&join(prefix, &norm_at), f);
            }
        }
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        let places: Vec<_> = (0..self.layers.len()).map(|i| self.place(i)).collect();
        for (i, linear) in self.layers.iter_mut().enumerate() {
            linear.visit_mut(&join(prefix, &places[i].0), f);
            if let Some(norm) = self.norms.get_mut(i) {
                norm.visit_mut(&join(prefix, &places[i].1), f);
            }
        }
    }
}
