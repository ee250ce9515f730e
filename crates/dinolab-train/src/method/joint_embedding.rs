//! Methods without a teacher: one network embeds all views of a batch, and an [`Objective`] draws
//! the views of an image together while it keeps the embeddings apart from each other. A moving
//! average of the backbone is kept for evaluation only.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{Device, Tensor};
use dinolab_nn::optim::{Optimiser, OptimiserKind};
use dinolab_nn::weights::{LoadOptions, LoadReport, Weights, load};
use dinolab_nn::{
    AnyBackbone, Backbone, BackboneConfig, Feature, Network, Parameters, Precision, Projection,
    ProjectionConfig, ProjectionHead,
};

use super::directions::directions;
use super::{BatchShape, Method, Outputs, StepReport, StepTimings, check};
use crate::adapt::Preserved;
use crate::dropout::Dropout;
use crate::joints::Joints;
use crate::state::json;
use crate::update::{Averaged, GradientSum, Statistics, update};
use crate::{AdaptConfig, Error, Ranks, Result, State, StepHyperparams, Views};

/// What distinguishes one method without a teacher from another: its loss.
pub trait Objective: Clone {
    /// The method, as in configurations and checkpoints: `lejepa`.
    const METHOD: &'static str;
    /// The method's name in text: `LeJEPA`.
    const TITLE: &'static str;

    /// Refuses settings out of their range.
    ///
    /// # Errors
    /// [`Error::BadSetting`] names the setting.
    fn check(&self) -> Result<()>;

    /// The terms of the loss for embeddings `[V·B, d]`, view-major with `batch` images and the global
    /// views first. `directions` `[S, d]` are random unit vectors. The loss is their weighted sum.
    fn terms(&self, z: Tensor<2>, directions: Tensor<2>, batch: usize) -> Vec<Term>;
}

/// A term of a loss.
pub struct Term {
    /// Its name in metrics.
    pub name: &'static str,
    /// Its value, `[1]`.
    pub value: Tensor<1>,
    /// Its weight in the loss.
    pub weight: f64,
}

/// The settings of a method without a teacher.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct JointEmbeddingConfig<O> {
    /// The backbone.
    pub backbone: BackboneConfig,
    /// What of its tokens the head is on.
    #[serde(default)]
    pub feature: Feature,
    /// The projection.
    pub head: ProjectionConfig,
    /// The optimiser.
    pub optimizer: OptimiserKind,
    /// Each parameter's gradient is clipped to this norm; 0 disables.
    pub clip_grad: f64,
    /// The loss.
    pub objective: O,
    /// How weights that it starts from are adapted.
    #[serde(default)]
    pub adapt: AdaptConfig,
    /// Random directions of a step, `S`.
    pub directions: usize,
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
    /// What activations and matrix multiplications are computed in.
    #[serde(default)]
    pub precision: Precision,
}

/// Network, averaged backbone and optimiser: the state that training changes.
pub struct JointEmbedding<O> {
    config: JointEmbeddingConfig<O>,
    /// Learns; lives on a gradient-recording device.
    pub network: Network<Projection>,
    /// The moving average of the network's backbone; records no gradients.
    pub average: AnyBackbone,
    preserved: Option<Preserved>,
    optimiser: Optimiser,
    dropout: Dropout,
    device: Device,
    ranks: Ranks,
}

impl<O: Objective> JointEmbedding<O> {
    /// A network with random weights, on `device`.
    ///
    /// # Errors
    /// [`Error::Model`] if the sizes make no network, or one that is not trained here, or the
    /// device does not compute in the precision; [`Error::BadSetting`] for an impossible number.
    pub fn new(config: &JointEmbeddingConfig<O>, device: &Device) -> Result<Self> {
        config.check()?;
        let device = device.clone().without_autodiff();
        config.precision.check(&device)?;
        let mut network: Network<Projection> = Network::of_feature(
            &config.backbone,
            config.feature,
            &config.head,
            config.seed,
            &device,
        )?;
        network.set_precision(config.precision);
        let average = network.backbone.clone();
        let preserved = Preserved::new(config.adapt.preserve, &average, config.feature);
        config.adapt.apply(&mut network, config.seed)?;
        network.to_device(&device.clone().autodiff());
        let mut parameters = 0;
        network.visit("", &mut |_, _| parameters += 1);
        Ok(Self {
            optimiser: Optimiser::new(config.optimizer, parameters),
            dropout: Dropout::new(
                config.seed,
                config.backbone.droppable_blocks(),
                config.drop_path,
                config.patch_drop,
            )
            .with_rope(config.backbone.rope()),
            config: config.clone(),
            network,
            average,
            preserved,
            device,
            ranks: Ranks::default(),
        })
    }

    /// The settings.
    pub fn config(&self) -> &JointEmbeddingConfig<O> {
        &self.config
    }

    /// Features of all views of each shard, `[V·b, F]`, and the joints of their graph.
    fn features(&self, shards: &[Views], step: u64) -> Vec<(Tensor<2>, Joints)> {
        let images = self.ranks.images(shards.iter().map(|views| views.batch));
        let features = |(views, images): (&Views, Range<usize>)| {
            let dropped = self.dropout.draw(step, views.count(), images);
            let joints = Joints::of(&self.config.backbone, &self.ranks, shards.len());
            let dropped = dropped.with_joints(joints);
            let features = self.network.features(views.recorded(), &dropped);
            (features, dropped.into_joints())
        };
        shards.iter().zip(images).map(features).collect()
    }

    /// [`Method::step`] with given directions `[S, d]` of unit length.
    ///
    /// # Errors
    /// As [`Method::step`].
    pub fn step_along(
        &mut self,
        shards: &[Views],
        hp: &StepHyperparams,
        directions: Tensor<2>,
    ) -> Result<StepReport> {
        self.network.freeze_backbone(hp.backbone_frozen());
        let mut timings = StepTimings::start();
        let (own, joints): (Vec<_>, Vec<_>) = self.features(shards, hp.step).into_iter().unzip();
        let views = shards[0].count();
        // Batch normalisation and the loss look at all images of the step.
        let all = self.ranks.gather_recorded(own, views)?;
        let batch = all.rows.dims()[0] / views;
        let features = all.rows.clone().without_autodiff();
        let features = features.narrow(0, 0, 2 * batch);
        let z = self.network.head.forward(all.rows.clone());
        let embeddings = z.clone().without_autodiff();
        timings.lap("network");

        let directions = Tensor::from_inner(directions);
        let mut terms = self.config.objective.terms(z, directions, batch);
        if let Some(preserved) = &self.preserved {
            let original = shards.iter().map(|views| preserved.features(views));
            let original = self.ranks.gather(original.collect(), 2)?;
            terms.push(Term {
                name: "drift",
                value: preserved.drift(all.rows.clone(), original),
                weight: preserved.weight,
            });
        }
        let values = terms
            .iter()
            .map(|term| (term.name, check::scalar(&term.value)));
        let values = values.collect();
        let weighted = terms.into_iter().map(|term| term.value * term.weight);
        let loss = weighted.reduce(|sum, term| sum + term);
        let loss = loss.expect("a loss has a term");
        let value = check::scalar(&loss);
        timings.lap("loss");
        check::finite(value, hp.step)?;

        let mut of_loss = loss.backward();
        let mut gradients = GradientSum::new(&self.network);
        let mut joints = joints.into_iter();
        all.backward(&mut of_loss, |of_shard| {
            let joints = joints.next().expect("of each shard");
            gradients.add_pieces(&self.network, of_shard, joints, &self.ranks)?;
            gradients.end_shard();
            Ok(())
        })?;
        let mut of_head = GradientSum::new(&self.network);
        of_head.add(&self.network, of_loss);
        timings.lap("backward");

        gradients.reduce(&self.ranks)?;
        gradients.add_whole(of_head);
        timings.lap("ranks");

        let momentum = hp.cosine(
            self.config.average_momentum,
            self.config.average_momentum_end,
        );
        let config = &self.config;
        let rule = config.adapt.rule(&config.backbone, hp, config.clip_grad);
        let average = Averaged {
            network: &mut self.average,
            part: "backbone",
            momentum,
            statistics: Statistics::Copied,
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
            terms: values,
            scheduled: vec![("average_momentum", momentum)],
            grad_norms,
            outputs: Outputs::of_embeddings(features, embeddings),
        })
    }
}

impl<O: Objective> Method for JointEmbedding<O> {
    fn name(&self) -> &'static str {
        O::METHOD
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn check(&self, shape: BatchShape) -> Result<()> {
        match shape.accumulate {
            1 => Ok(()),
            several => Err(no_accumulation::<O>(several)),
        }
    }

    fn step(&mut self, micro_batches: &[Views], hp: &StepHyperparams) -> Result<StepReport> {
        let own = self.ranks.own_shards();
        if micro_batches.len() != own {
            return Err(no_accumulation::<O>(micro_batches.len() / own));
        }
        let (count, width) = (self.config.directions, self.config.head.out_dim);
        let directions = directions(self.config.seed, hp.step, [count, width], &self.device);
        self.step_along(micro_batches, hp, directions)
    }

    fn distribute(&mut self, ranks: &Ranks) -> Result<()> {
        check::batch_norm_of_whole(&self.config.backbone, self.learned(), ranks)?;
        self.ranks = ranks.clone();
        Ok(())
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
        if let Some(preserved) = &self.preserved {
            preserved.put(&mut state);
        }
        state.put_optimiser(&self.network, &self.optimiser);
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        state.load_network("network", &mut self.network)?;
        state.load_network("average.backbone", &mut self.average)?;
        if let Some(preserved) = &mut self.preserved {
            preserved.restore(state)?;
        }
        state.load_optimiser(&self.network, &mut self.optimiser, &self.device)
    }

    /// Takes the backbone; the projection starts from random weights.
    fn start_from(&mut self, weights: &Weights, options: LoadOptions) -> Result<LoadReport> {
        let report = load(&mut self.network.backbone, "backbone", weights, options)?;
        load(&mut self.average, "backbone", weights, options)?;
        if let Some(preserved) = &mut self.preserved {
            preserved.start_from(weights, options)?;
        }
        self.network.rebase();
        Ok(report)
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("method".to_owned(), self.name().to_owned()),
            self.config.feature.metadata_entry(),
            ("evaluated".to_owned(), "average".to_owned()),
            self.config.backbone.metadata_entry(),
            ("projection".to_owned(), json(&self.config.head)),
        ])
    }
}

impl<O: Objective> JointEmbeddingConfig<O> {
    fn check(&self) -> Result<()> {
        self.objective.check()?;
        self.adapt.check()?;
        check::count("directions", self.directions)?;
        check::share("average-momentum", self.average_momentum)?;
        check::share("average-momentum-end", self.average_momentum_end)
    }
}

fn no_accumulation<O: Objective>(micro_batches: usize) -> Error {
    let reason = format!(
        "{micro_batches} micro-batches do not equal a large batch, since batch normalisation and the \
         loss see each by itself; {} takes 1",
        O::TITLE
    );
    check::bad("accumulate", reason)
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
