//! What holds a network near the one that it started from.

use burn::tensor::Tensor;
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::weights::{LoadOptions, Weights, load};
use dinolab_nn::{AnyBackbone, Backbone, Feature};

use crate::{Result, State, Views};

/// Name of the frozen backbone in a method's state.
const NAME: &str = "original.backbone";
/// Added to squared lengths, so that a feature of 0 has a direction.
const TINY: f64 = 1e-12;

/// A frozen copy of the backbone that a run starts from. It is part of the method's state, so that a
/// resumed run compares with the same one.
pub(crate) struct Preserved {
    original: AnyBackbone,
    feature: Feature,
    /// Weight of the drift in the loss.
    pub weight: f64,
}

impl Preserved {
    /// A copy of `backbone`, which records no gradients; `None` if the weight is 0.
    pub fn new(weight: f64, backbone: &AnyBackbone, feature: Feature) -> Option<Self> {
        (weight > 0.0).then(|| Self {
            original: backbone.clone(),
            feature,
            weight,
        })
    }

    /// The original's features of the global views, `[2·B, F]`.
    pub fn features(&self, views: &Views) -> Tensor<2> {
        let global = vec![views.global.clone()];
        self.original.features(global, self.feature, &NoDropPath)
    }

    /// The [`drift`] of features `[V·B, F]`, those of the global views first, from the original's `[2·B, F]`.
    pub fn drift(&self, features: Tensor<2>, original: Tensor<2>) -> Tensor<1> {
        let rows = original.dims()[0];
        drift(features.narrow(0, 0, rows), original)
    }

    pub fn put(&self, state: &mut State) {
        state.put_network(NAME, &self.original);
    }

    pub fn restore(&mut self, state: &State) -> Result<()> {
        state.load_network(NAME, &mut self.original)
    }

    pub fn start_from(&mut self, weights: &Weights, options: LoadOptions) -> Result<()> {
        load(&mut self.original, "backbone", weights, options)?;
        Ok(())
    }
}

/// How far features have turned away from those of the same views in another network: the mean of
/// `1 − cos(x, y)` over rows of `[M, F]`, `[1]`, in 0–2. Gradients reach `x` alone.
pub fn drift(x: Tensor<2>, y: Tensor<2>) -> Tensor<1> {
    let rows = x.dims()[0];
    let y = match x.is_autodiff() {
        true => Tensor::from_inner(y),
        false => y,
    };
    // Row sums first: a fixed order of additions, whatever the number of threads.
    let length = |x: &Tensor<2>| ((x.clone() * x.clone()).sum_dim(1) + TINY).sqrt();
    let cosines = (x.clone() * y.clone()).sum_dim(1) / (length(&x) * length(&y));
    cosines.reshape([rows]).sum() * (-1.0 / rows as f64) + 1.0
}
