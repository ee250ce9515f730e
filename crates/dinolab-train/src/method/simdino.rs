//! SimDINO (Wu et al., arXiv 2502.10385): DINO without prototypes, centre and temperatures. The
//! student's features are drawn to the teacher's of other views of an image, and a coding rate
//! keeps the features of a batch from collapsing. Read [`SimDino::step`] next to the paper.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{Device, Tensor};
use dinolab_nn::optim::{Optimiser, OptimiserKind};
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::weights::{LoadOptions, LoadReport, Weights, load};
use dinolab_nn::{
    Backbone, BackboneConfig, Bottleneck, BottleneckConfig, Feature, Network, Parameters,
    Precision, ProjectionHead, ops,
};

use super::average::AverageSchedule;
use super::companions::Companions;
use super::{BatchShape, Method, Outputs, StepReport, StepTimings, check};
use crate::dropout::Dropout;
use crate::joints::Joints;
use crate::state::json;
use crate::update::{Averaged, GradientSum, Statistics, update};
use crate::{AdaptConfig, Error, Ranks, Result, State, StepHyperparams, Views};

/// The settings of SimDINO.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SimDinoConfig {
    /// The backbone.
    pub backbone: BackboneConfig,
    /// What of its tokens the head is on.
    #[serde(default)]
    pub feature: Feature,
    /// The head.
    pub head: BottleneckConfig,
    /// The optimiser.
    pub optimizer: OptimiserKind,
    /// Each parameter's gradient is clipped to this norm; 0 disables.
    pub clip_grad: f64,
    /// How weights that it starts from are adapted.
    #[serde(default)]
    pub adapt: AdaptConfig,
    /// Weight of the coding rate in the loss, `γ`.
    pub coding_rate_weight: f64,
    /// Distortion of the coding rate, `ε`.
    pub coding_rate_epsilon: f64,
    /// Teacher momentum at the start.
    pub momentum_teacher: f64,
    /// Teacher momentum at the end.
    pub momentum_teacher_end: f64,
    /// The average that is evaluated; `None` evaluates the teacher.
    #[serde(default)]
    pub average: Option<AverageSchedule>,
    /// Largest rate of stochastic depth.
    pub drop_path: f64,
    /// Share of the patches of its global views that the student does not see.
    #[serde(default)]
    pub patch_drop: f64,
    /// Seed of initial weights and of stochastic depth.
    pub seed: u64,
    /// What activations and matrix multiplications are computed in.
    #[serde(default)]
    pub precision: Precision,
}

impl SimDinoConfig {
    /// The paper's weight of the coding rate, `γ = (d + B) / (d·B)`, for features of width `d` and `B`
    /// images.
    pub fn suggested_weight(width: usize, batch: usize) -> f64 {
        (width + batch) as f64 / (width * batch).max(1) as f64
    }

    fn check(&self) -> Result<()> {
        self.adapt.check()?;
        check::weight("coding-rate-weight", self.coding_rate_weight)?;
        check::share("momentum-teacher", self.momentum_teacher)?;
        check::share("momentum-teacher-end", self.momentum_teacher_end)?;
        self.average.map_or(Ok(()), |average| average.check())?;
        match self.coding_rate_epsilon > 0.0 && self.coding_rate_epsilon.is_finite() {
            true => Ok(()),
            false => Err(check::bad("coding-rate-epsilon", "must be above 0")),
        }
    }
}

/// Student, teacher and optimiser: the state that training changes.
pub struct SimDino {
    config: SimDinoConfig,
    /// Learns; lives on a gradient-recording device.
    pub student: Network<Bottleneck>,
    /// The student's moving average; records no gradients.
    pub teacher: Network<Bottleneck>,
    companions: Companions,
    optimiser: Optimiser,
    dropout: Dropout,
    device: Device,
    ranks: Ranks,
}

impl SimDino {
    /// Student and teacher with the same initial weights, on `device`.
    ///
    /// # Errors
    /// [`Error::Model`] if the sizes make no network, or one that is not trained here, or the
    /// device does not compute in the precision; [`Error::BadSetting`] for an impossible number.
    pub fn new(config: &SimDinoConfig, device: &Device) -> Result<Self> {
        config.check()?;
        let device = device.clone().without_autodiff();
        config.precision.check(&device)?;
        let (feature, head) = (config.feature, &config.head);
        let mut teacher =
            Network::of_feature(&config.backbone, feature, head, config.seed, &device)?;
        teacher.set_precision(config.precision);
        let mut student = teacher.clone();
        config.adapt.apply(&mut student, config.seed)?;
        student.to_device(&device.clone().autodiff());
        let mut parameters = 0;
        student.visit("", &mut |_, _| parameters += 1);
        Ok(Self {
            optimiser: Optimiser::new(config.optimizer, parameters),
            dropout: Dropout::new(
                config.seed,
                config.backbone.droppable_blocks(),
                config.drop_path,
                config.patch_drop,
            )
            .with_rope(config.backbone.rope()),
            companions: Companions::new(
                &teacher.backbone,
                feature,
                config.average,
                config.adapt.preserve,
            ),
            config: config.clone(),
            student,
            teacher,
            device,
            ranks: Ranks::default(),
        })
    }

    /// The settings.
    pub fn config(&self) -> &SimDinoConfig {
        &self.config
    }
}

impl Method for SimDino {
    fn name(&self) -> &'static str {
        "simdino"
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

    /// The loss is `−similarity − γ · coding rate`, and the drift from the original features if those are
    /// preserved.
    fn step(&mut self, micro_batches: &[Views], hp: &StepHyperparams) -> Result<StepReport> {
        for network in [&mut self.student, &mut self.teacher] {
            network.freeze_backbone(hp.backbone_frozen());
        }
        let (config, shards, ranks) = (&self.config, micro_batches, &self.ranks);
        if shards.len() != ranks.own_shards() {
            return Err(no_accumulation(shards.len() / ranks.own_shards()));
        }
        let mut timings = StepTimings::start();
        let global = |views: &Views| vec![views.global.clone()];
        let teacher = &self.teacher;
        let features = shards
            .iter()
            .map(|views| teacher.features(global(views), &NoDropPath));
        // The heads and the loss see all images of the step.
        let features = ranks.gather(features.collect(), 2)?;
        let taught = teacher.head.forward(features.clone());
        timings.lap("teacher");

        let images = ranks.images(shards.iter().map(|views| views.batch));
        let own = |(views, images): (&Views, Range<usize>)| {
            let dropped = self.dropout.draw(hp.step, views.count(), images);
            let joints = Joints::of(&config.backbone, ranks, shards.len());
            let dropped = dropped.with_joints(joints);
            let features = self.student.features(views.recorded(), &dropped);
            (features, dropped.into_joints())
        };
        let (own, joints): (Vec<_>, Vec<_>) = shards.iter().zip(images).map(own).unzip();
        let views = shards[0].count();
        let all = ranks.gather_recorded(own, views)?;
        let batch = all.rows.dims()[0] / views;
        let z = self.student.head.forward(all.rows.clone());
        let plain = z.clone().without_autodiff();
        timings.lap("student");

        let taught = Tensor::from_inner(taught);
        let width = config.head.out_dim;
        let scale = width as f64 / (batch as f64 * config.coding_rate_epsilon);
        let mean = (z.clone().narrow(0, 0, 2 * batch) + taught.clone()) / 2.0;
        let rate = ops::coding_rate(mean, batch, scale);
        let similarity = similarity(z, taught, batch);
        let mut terms = vec![
            ("similarity", check::scalar(&similarity)),
            ("coding_rate", check::scalar(&rate)),
        ];
        let mut loss = similarity * -1.0 - rate * config.coding_rate_weight;
        if let Some(preserved) = &self.companions.preserved {
            let original = shards.iter().map(|views| preserved.features(views));
            let original = ranks.gather(original.collect(), 2)?;
            let drift = preserved.drift(all.rows.clone(), original);
            terms.push(("drift", check::scalar(&drift)));
            loss = loss + drift * preserved.weight;
        }
        let value = check::scalar(&loss);
        timings.lap("loss");
        check::finite(value, hp.step)?;

        let mut of_loss = loss.backward();
        let mut gradients = GradientSum::new(&self.student);
        let mut joints = joints.into_iter();
        all.backward(&mut of_loss, |of_shard| {
            let joints = joints.next().expect("of each shard");
            gradients.add_pieces(&self.student, of_shard, joints, ranks)?;
            gradients.end_shard();
            Ok(())
        })?;
        let mut of_head = GradientSum::new(&self.student);
        of_head.add(&self.student, of_loss);
        timings.lap("backward");

        gradients.reduce(ranks)?;
        gradients.add_whole(of_head);
        timings.lap("ranks");

        let momentum = hp.cosine(config.momentum_teacher, config.momentum_teacher_end);
        let rule = config.adapt.rule(&config.backbone, hp, config.clip_grad);
        let teacher = Averaged {
            network: &mut self.teacher,
            part: "",
            momentum,
            statistics: Statistics::Own,
        };
        let (student, optimiser) = (&mut self.student, &mut self.optimiser);
        let grad_norms = update(student, gradients, optimiser, &rule, Some(teacher));
        let average = self.companions.follow(&self.student, hp);
        timings.lap("update");

        let mut scheduled = vec![("momentum", momentum)];
        scheduled.extend(average);
        // To the scale at which features that are even in all directions have a standard deviation
        // of 1.
        let embeddings = plain * (width as f64).sqrt();
        Ok(StepReport {
            timings,
            loss: value,
            terms,
            scheduled,
            grad_norms,
            outputs: Outputs::of_embeddings(features, embeddings),
        })
    }

    fn distribute(&mut self, ranks: &Ranks) -> Result<()> {
        check::batch_norm_of_whole(&self.config.backbone, self.learned(), ranks)?;
        self.ranks = ranks.clone();
        Ok(())
    }

    fn learned(&self) -> &dyn Parameters {
        &self.student
    }

    fn backbone(&self) -> &dyn Backbone {
        self.companions.evaluated(&self.teacher.backbone)
    }

    fn state(&self) -> State {
        let mut state = State::default();
        state.put_network("student", &self.student);
        state.put_network("teacher", &self.teacher);
        self.companions.put(&mut state);
        state.put_optimiser(&self.student, &self.optimiser);
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        state.load_network("student", &mut self.student)?;
        state.load_network("teacher", &mut self.teacher)?;
        self.companions.restore(state)?;
        state.load_optimiser(&self.student, &mut self.optimiser, &self.device)
    }

    /// Takes the backbone; the head starts from random weights.
    fn start_from(&mut self, weights: &Weights, options: LoadOptions) -> Result<LoadReport> {
        let report = load(&mut self.student.backbone, "backbone", weights, options)?;
        load(&mut self.teacher.backbone, "backbone", weights, options)?;
        self.companions.start_from(weights, options)?;
        self.student.rebase();
        Ok(report)
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("method".to_owned(), self.name().to_owned()),
            self.config.feature.metadata_entry(),
            self.companions.metadata_entry(),
            self.config.backbone.metadata_entry(),
            ("bottleneck".to_owned(), json(&self.config.head)),
        ])
    }
}

/// The mean dot product of a teacher's view and another student's view, over all pairs and the batch,
/// `[1]`: `z` `[V·B, d]` are the student's outputs, the global views first, `taught` `[2·B, d]` the
/// teacher's. It is linear in the teacher's outputs, so each view needs only the sum of those that it is
/// paired with.
pub fn similarity(z: Tensor<2>, taught: Tensor<2>, batch: usize) -> Tensor<1> {
    let rows = z.dims()[0];
    let views = rows / batch;
    let (first, second) = (
        taught.clone().narrow(0, 0, batch),
        taught.narrow(0, batch, batch),
    );
    let both = first.clone() + second.clone();
    let mut targets = vec![second, first];
    targets.extend(std::iter::repeat_n(both, views - 2));
    // Row sums first: a fixed order of additions, whatever the number of threads.
    let products = (z * Tensor::cat(targets, 0)).sum_dim(1).reshape([rows]);
    products.sum() / ((2 * views - 2) * batch) as f64
}

fn no_accumulation(micro_batches: usize) -> Error {
    let reason = format!(
        "{micro_batches} micro-batches do not equal a large batch, since the coding rate sees each by \
         itself; SimDINO takes 1"
    );
    check::bad("accumulate", reason)
}
