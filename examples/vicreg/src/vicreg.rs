//! VICReg (Bardes, Ponce & LeCun, ICLR 2022): views of an image are drawn together, while each
//! dimension keeps a variance of its own.

use std::collections::BTreeMap;

use dinolab_nn::optim::{Optimiser, OptimiserKind};
use dinolab_nn::weights::{LoadOptions, LoadReport, Weights, load};
use dinolab_nn::{Backbone, Device, Network, Parameters, Projection, ProjectionConfig};
use dinolab_nn::{ProjectionHead, Tensor, VitConfig, ops, vit::NoDropPath};
use dinolab_train::update::{GradientSum, UpdateRule, update};
use dinolab_train::{BatchShape, Error, Method, Outputs, Result};
use dinolab_train::{State, StepHyperparams, StepReport, StepTimings, Views};

/// The network and its optimiser: what training changes.
pub struct VicReg {
    vit: VitConfig,
    network: Network<Projection>,
    optimiser: Optimiser,
    device: Device,
}

impl VicReg {
    /// Random weights on `device`.
    ///
    /// # Errors
    /// Sizes that make no network.
    pub fn new(vit: VitConfig, head: &ProjectionConfig, device: Device) -> Result<Self> {
        // The network lives on a device that records gradients, views on the plain one.
        let network = Network::new(&vit, head, 0, &device.clone().autodiff())?;
        let optimiser = Optimiser::new(OptimiserKind::AdamW, 0);
        Ok(Self {
            vit,
            network,
            optimiser,
            device,
        })
    }
}

/// Invariance, variance and covariance of two views' embeddings, each `[B, d]`.
fn terms(a: Tensor<2>, b: Tensor<2>) -> [Tensor<1>; 3] {
    let [rows, width] = a.dims();
    let invariance = (a.clone() - b.clone()).powf_scalar(2.0).mean();
    let of_view = |z: Tensor<2>| {
        let z = z.clone() - z.mean_dim(0);
        let covariance = ops::matmul(z.clone().transpose(), z) / (rows - 1) as f64;
        let diagonal = covariance.clone() * Tensor::eye(width, &covariance.device());
        let variances = diagonal.clone().sum_dim(0);
        let hinge = ((variances + 1e-4).sqrt() * -1.0 + 1.0)
            .clamp_min(0.0)
            .mean();
        let others = (covariance - diagonal).powf_scalar(2.0).sum() / width as f64;
        (hinge, others)
    };
    let ((hinge_a, others_a), (hinge_b, others_b)) = (of_view(a), of_view(b));
    [invariance, hinge_a + hinge_b, others_a + others_b]
}

impl Method for VicReg {
    fn name(&self) -> &'static str {
        "vicreg"
    }
    fn device(&self) -> &Device {
        &self.device
    }
    fn check(&self, shape: BatchShape) -> Result<()> {
        let (field, reason) = match shape {
            BatchShape { micro_batch: 1, .. } => ("batch-size", "a variance needs two images"),
            BatchShape { accumulate: 1, .. } => return Ok(()),
            _ => ("accumulate", "statistics are of the whole batch"),
        };
        Err(Error::BadSetting {
            field,
            reason: reason.into(),
        })
    }
    fn step(&mut self, micro_batches: &[Views], hp: &StepHyperparams) -> Result<StepReport> {
        let (views, mut timings) = (&micro_batches[0], StepTimings::start());
        let images = vec![Tensor::from_inner(views.global.clone())];
        let class = self.network.backbone.class_tokens(images, &NoDropPath);
        let z = self.network.head.forward(class.clone());
        let view = |number: usize| z.clone().narrow(0, number * views.batch, views.batch);
        let terms = terms(view(0), view(1));
        let number = |x: &Tensor<1>| f64::from(x.clone().into_scalar::<f32>());
        let [invariance, variance, covariance] = terms.each_ref().map(number);
        let [a, b, c] = terms;
        let total = a * 25.0 + b * 12.5 + c;
        let loss = number(&total);
        if !loss.is_finite() {
            return Err(Error::NonFiniteLoss {
                step: hp.step,
                loss,
            });
        }
        timings.lap("forward");
        let mut gradients = GradientSum::new(&self.network);
        gradients.add(&self.network, total.backward());
        timings.lap("backward");
        let (rule, optimiser) = (UpdateRule::of_all(hp.rates(), 3.0), &mut self.optimiser);
        let grad_norms = update(&mut self.network, gradients, optimiser, &rule, None);
        timings.lap("update");
        let named = [
            ("invariance", invariance),
            ("variance", variance),
            ("covariance", covariance),
        ];
        let features = class.without_autodiff();
        let outputs = Outputs::of_embeddings(features, z.without_autodiff());
        let (terms, scheduled) = (named.to_vec(), Vec::new());
        Ok(StepReport {
            timings,
            loss,
            terms,
            scheduled,
            grad_norms,
            outputs,
        })
    }
    fn learned(&self) -> &dyn Parameters {
        &self.network
    }
    fn backbone(&self) -> &dyn Backbone {
        &self.network.backbone
    }
    fn state(&self) -> State {
        let mut state = State::default();
        state.put_network("network", &self.network);
        state.put_optimiser(&self.network, &self.optimiser);
        state
    }
    fn restore(&mut self, state: &State) -> Result<()> {
        state.load_network("network", &mut self.network)?;
        state.load_optimiser(&self.network, &mut self.optimiser, &self.device)
    }
    fn start_from(&mut self, weights: &Weights, options: LoadOptions) -> Result<LoadReport> {
        let backbone = &mut self.network.backbone;
        Ok(load(backbone, "backbone", weights, options)?)
    }
    fn metadata(&self) -> BTreeMap<String, String> {
        let vit = serde_json::to_string(&self.vit).expect("plain data");
        let all = [
            ("method", "vicreg".into()),
            ("evaluated", "network".into()),
            ("vit", vit),
        ];
        all.map(|(key, value)| (key.to_owned(), value)).into()
    }
}
