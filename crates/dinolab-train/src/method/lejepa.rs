//! LeJEPA (Balestriero & LeCun, arXiv 2511.08544): views of an image are drawn together, and SIGReg
//! keeps the embeddings of a batch normally distributed, so they cannot collapse. There is no
//! teacher; a moving average of the backbone is kept for evaluation only.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use dinolab_nn::optim::{Optimiser, OptimiserKind};
use dinolab_nn::weights::{LoadOptions, LoadReport, Weights, load};
use dinolab_nn::{
    Backbone, Feature, Network, Parameters, Precision, Projection, ProjectionConfig,
    ProjectionHead, Vit, VitConfig, ops,
};

use super::directions::directions;
use super::{BatchShape, Method, Outputs, StepReport, StepTimings};
use crate::dropout::Dropout;
use crate::state::json;
use crate::update::{Averaged, GradientSum, UpdateRule, update};
use crate::{Error, Result, State, StepHyperparams, Views};

/// The settings of LeJEPA.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LeJepaConfig {
    /// The backbone.
    pub vit: VitConfig,
    /// What of its tokens the head is on.
    #[serde(default)]
    pub feature: Feature,
    /// The projection.
    pub head: ProjectionConfig,
    /// The optimiser.
    pub optimizer: OptimiserKind,
    /// Each parameter's gradient is clipped to this norm; 0 disables.
    pub clip_grad: f64,
    /// The weight of SIGReg in the loss, `λ`, in 0–1.
    pub sigreg_weight: f64,
    /// Random directions of a step, `S`.
    pub sigreg_directions: usize,
    /// Momentum of the averaged backbone at the start.
    pub average_momentum: f64,
    /// Momentum of the averaged backbone at the end.
    pub average_momentum_end: f64,
    /// Largest rate of stochastic depth.
    pub drop_path: f64,
    /// Share of the patches of its global views that the network does not see.
    #[serde(default)]
    pub patch_drop: f64,
    /// Seed of initial weights, of stochastic depth and of directions.
    pub seed: u64,
    /// What activations and matrix products are computed in.
    #[serde(default)]
    pub precision: Precision,
}

/// Network, averaged backbone and optimiser: the state that training changes.
pub struct LeJepa {
    config: LeJepaConfig,
    /// Learns; lives on a gradient-recording device.
    pub network: Network<Projection>,
    /// The moving average of the network's backbone; records no gradients.
    pub average: Vit,
    optimiser: Optimiser,
    dropout: Dropout,
    device: Device,
}

impl LeJepa {
    /// A network with random weights, on `device`.
    ///
    /// # Errors
    /// [`Error::Model`] if the sizes make no network, or one that is not trained here, or the
    /// device does not compute in the precision; [`Error::BadSetting`] for an impossible number.
    pub fn new(config: &LeJepaConfig, device: &Device) -> Result<Self> {
        config.check()?;
        let device = device.clone().without_autodiff();
        config.precision.check(&device)?;
        config.vit.check_trainable()?;
        let mut network: Network<Projection> = Network::of_feature(
            &config.vit,
            config.feature,
            &config.head,
            config.seed,
            &device,
        )?;
        network.set_precision(config.precision);
        let average = network.backbone.clone();
        network.to_device(&device.clone().autodiff());
        let mut parameters = 0;
        network.visit("", &mut |_, _| parameters += 1);
        Ok(Self {
            optimiser: Optimiser::new(config.optimizer, parameters),
            dropout: Dropout::new(
                config.seed,
                config.vit.depth,
                config.drop_path,
                config.patch_drop,
            ),
            config: config.clone(),
            network,
            average,
            device,
        })
    }

    /// The settings.
    pub fn config(&self) -> &LeJepaConfig {
        &self.config
    }

    /// Features of all views, `[V·B, F]`.
    fn features(&self, views: &Views, step: u64) -> Tensor<2> {
        let dropped = self.dropout.draw(step, views.count(), 0..views.batch);
        self.network.features(views.recorded(), &dropped)
    }

    /// [`Method::step`] with given directions `[S, d]` of unit length.
    ///
    /// # Errors
    /// As [`Method::step`].
    pub fn step_along(
        &mut self,
        views: &Views,
        hp: &StepHyperparams,
        directions: Tensor<2>,
    ) -> Result<StepReport> {
        let mut timings = StepTimings::start();
        let all = self.features(views, hp.step);
        let features = all.clone().without_autodiff();
        let features = features.narrow(0, 0, 2 * views.batch);
        let z = self.network.head.forward(all);
        let embeddings = z.clone().without_autodiff();
        timings.lap("network");

        let directions = Tensor::from_inner(directions);
        let regulariser = ops::sigreg(z.clone(), directions, views.batch);
        let invariance = invariance(z, views.batch);
        let terms = [
            ("invariance", scalar(&invariance)),
            ("sigreg", scalar(&regulariser)),
        ];
        let weight = self.config.sigreg_weight;
        let loss = invariance * (1.0 - weight) + regulariser * weight;
        let value = scalar(&loss);
        timings.lap("loss");
        if !value.is_finite() {
            let (step, loss) = (hp.step, value);
            return Err(Error::NonFiniteLoss { step, loss });
        }

        let mut gradients = GradientSum::new(&self.network);
        gradients.add(&self.network, loss.backward());
        timings.lap("backward");

        let momentum = hp.cosine(
            self.config.average_momentum,
            self.config.average_momentum_end,
        );
        let rule = UpdateRule::of_all(hp.rates(), self.config.clip_grad);
        let average = Averaged {
            network: &mut self.average,
            part: "backbone",
            momentum,
        };
        let optimiser = &mut self.optimiser;
        let grad_norms = update(
            &mut self.network,
            gradients,
            optimiser,
            &rule,
            Some(average),
        );
        timings.lap("update");

        Ok(StepReport {
            timings,
            loss: value,
            terms: terms.to_vec(),
            scheduled: vec![("average_momentum", momentum)],
            grad_norms,
            outputs: Outputs::of_embeddings(features, embeddings),
        })
    }
}

impl Method for LeJepa {
    fn name(&self) -> &'static str {
        "lejepa"
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn check(&self, shape: BatchShape) -> Result<()> {
        match shape.accumulate {
            1 => Ok(()),
            several => Err(no_accumulation(several)),
        }
    }

    fn step(&mut self, micro_batches: &[Views], hp: &StepHyperparams) -> Result<StepReport> {
        let [views] = micro_batches else {
            return Err(no_accumulation(micro_batches.len()));
        };
        let (count, width) = (self.config.sigreg_directions, self.config.head.out_dim);
        let directions = directions(self.config.seed, hp.step, [count, width], &self.device);
        self.step_along(views, hp, directions)
    }

    fn learned(&self) -> &dyn Parameters {
        &self.network
    }

    fn backbone(&self) -> &dyn Backbone {
        &self.average
    }

    fn state(&self) -> State {
        let mut state = State::default();
        state.put_network("network", &self.network);
        state.put_network("average.backbone", &self.average);
        state.put_optimiser(&self.network, &self.optimiser);
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        state.load_network("network", &mut self.network)?;
        state.load_network("average.backbone", &mut self.average)?;
        state.load_optimiser(&self.network, &mut self.optimiser, &self.device)
    }

    /// Takes the backbone; the projection starts from random weights.
    fn start_from(&mut self, weights: &Weights, options: LoadOptions) -> Result<LoadReport> {
        let report = load(&mut self.network.backbone, "backbone", weights, options)?;
        load(&mut self.average, "backbone", weights, options)?;
        Ok(report)
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("method".to_owned(), self.name().to_owned()),
            self.config.feature.metadata_entry(),
            ("evaluated".to_owned(), "average".to_owned()),
            ("vit".to_owned(), json(&self.config.vit)),
            ("projection".to_owned(), json(&self.config.head)),
        ])
    }
}

impl LeJepaConfig {
    fn check(&self) -> Result<()> {
        let bad = |field, reason: &str| {
            Err(Error::BadSetting {
                field,
                reason: reason.to_owned(),
            })
        };
        let share = |value: f64| (0.0..=1.0).contains(&value);
        if !share(self.sigreg_weight) {
            return bad("sigreg-weight", "must be between 0 and 1");
        }
        if self.sigreg_directions == 0 {
            return bad("sigreg-directions", "must be at least 1");
        }
        if !share(self.average_momentum) {
            return bad("average-momentum", "must be between 0 and 1");
        }
        if !share(self.average_momentum_end) {
            return bad("average-momentum-end", "must be between 0 and 1");
        }
        Ok(())
    }
}

fn no_accumulation(micro_batches: usize) -> Error {
    Error::BadSetting {
        field: "accumulate",
        reason: format!(
            "{micro_batches} micro-batches do not equal a large batch, since batch normalisation and \
             SIGReg see each by itself; LeJEPA takes 1"
        ),
    }
}

/// Mean square distance of all views `[V·B, d]` from the mean of their image's global views, `[1]`.
/// Gradients reach that mean, too.
pub fn invariance(z: Tensor<2>, batch: usize) -> Tensor<1> {
    let [rows, width] = z.dims();
    let views = rows / batch;
    let z = z.reshape([views, batch, width]);
    let mean = z.clone().narrow(0, 0, 2).mean_dim(0);
    let distance = z - mean;
    // Row sums first: a fixed order of additions, whatever the number of threads.
    let squares = (distance.clone() * distance).reshape([rows, width]);
    squares.sum_dim(1).reshape([rows]).sum() / (rows * width) as f64
}

fn scalar(x: &Tensor<1>) -> f64 {
    f64::from(x.clone().into_scalar::<f32>())
}
