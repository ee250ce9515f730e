//! DINO (Caron et al., ICCV 2021): read [`Dino::step`] next to the paper's algorithm 1.
//!
//! In addition to the paper: Sinkhorn–Knopp targets in place of the centre, and two terms on the
//! student's features that hold them apart, KoLeo and SIGReg.

mod schedule;
pub(super) mod seen;
pub(super) mod targets;
mod terms;

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use dinolab_nn::optim::{Optimiser, OptimiserKind};
use dinolab_nn::weights::{LoadOptions, LoadReport, Weights, load};
use dinolab_nn::{
    Backbone, BackboneConfig, Feature, HeadConfig, Network, Parameters, Precision, ProjectionHead,
    VitConfig, ops,
};

pub use self::schedule::DinoSchedule;
use self::seen::Seen;
pub use self::targets::Centering;
use self::targets::Taught;
use self::terms::Terms;
use super::average::AverageSchedule;
use super::companions::Companions;
use super::directions::directions;
use super::{BatchShape, Method, Outputs, PrototypeOutputs, StepReport, StepTimings, check};
use crate::adapt::with_heads_of;
use crate::dropout::Dropout;
use crate::joints::Joints;
use crate::ranks::TreeSum;
use crate::state::json;
use crate::update::{Averaged, GradientSum, Statistics, UpdateRule, update};
use crate::{AdaptConfig, Ranks, Result, State, StepHyperparams, Views};

/// The settings of DINO.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DinoConfig {
    /// The backbone.
    pub backbone: BackboneConfig,
    /// What of its tokens the head is on.
    #[serde(default)]
    pub feature: Feature,
    /// The projection head.
    pub head: HeadConfig,
    /// The optimiser.
    pub optimizer: OptimiserKind,
    /// Each parameter's gradient is clipped to this norm; 0 disables.
    pub clip_grad: f64,
    /// How weights that it starts from are adapted.
    #[serde(default)]
    pub adapt: AdaptConfig,
    /// Epochs during which the prototypes stay as they are.
    pub freeze_last_layer: u64,
    /// Student temperature, `T_s`.
    pub student_temp: f64,
    /// What keeps the teacher from preferring some prototypes.
    #[serde(default)]
    pub centering: Centering,
    /// Momentum of the centre, where there is one.
    pub center_momentum: f64,
    /// Weight of KoLeo on the student's features of the global views; 0 disables. (DINOv2 adds
    /// up the two views: its weight of 0.1 is 0.2 here.)
    #[serde(default)]
    pub koleo_weight: f64,
    /// Weight of SIGReg on the student's features of all views; 0 disables.
    #[serde(default)]
    pub sigreg_weight: f64,
    /// Random directions of a step, if there is SIGReg.
    #[serde(default)]
    pub sigreg_directions: usize,
    /// Teacher momentum and temperature.
    pub schedule: DinoSchedule,
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

/// The reference's settings.
impl Default for DinoConfig {
    fn default() -> Self {
        Self {
            backbone: VitConfig::default().into(),
            head: HeadConfig::default(),
            optimizer: OptimiserKind::AdamW,
            clip_grad: 3.0,
            adapt: AdaptConfig::default(),
            freeze_last_layer: 1,
            student_temp: 0.1,
            centering: Centering::Centre,
            center_momentum: 0.9,
            koleo_weight: 0.0,
            sigreg_weight: 0.0,
            sigreg_directions: 256,
            schedule: DinoSchedule::default(),
            average: None,
            drop_path: 0.1,
            patch_drop: 0.0,
            seed: 0,
            precision: Precision::default(),
            feature: Feature::default(),
        }
    }
}

/// Student, teacher, centre (if there is one) and optimiser: the state that training changes.
pub struct Dino {
    config: DinoConfig,
    /// Learns; lives on a gradient-recording device.
    pub student: Network,
    /// The student's moving average; records no gradients.
    pub teacher: Network,
    /// The centre `c`, `[K]`; `None` with Sinkhorn–Knopp.
    pub centre: Option<Tensor<1>>,
    companions: Companions,
    /// Moments of the student's parameters.
    optimiser: Optimiser,
    dropout: Dropout,
    device: Device,
    ranks: Ranks,
}

impl Dino {
    /// Student and teacher with the same initial weights, on `device`.
    ///
    /// # Errors
    /// [`crate::Error::Model`] where the sizes make no network, or one that DINO does not train, or the
    /// device does not compute in the precision; [`crate::Error::BadSetting`] for an impossible number.
    pub fn new(config: &DinoConfig, device: &Device) -> Result<Self> {
        config.check_terms()?;
        config.adapt.check()?;
        config.average.map_or(Ok(()), |average| average.check())?;
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
            centre: (config.centering == Centering::Centre)
                .then(|| Tensor::zeros([config.head.out_dim], &device)),
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
    pub fn config(&self) -> &DinoConfig {
        &self.config
    }

    /// The student's features of all views, `[V·B, F]`, and the joints of their graph.
    fn student_features(
        &self,
        views: &Views,
        step: u64,
        images: Range<usize>,
        joints: Joints,
    ) -> (Tensor<2>, Joints) {
        let dropped = self.dropout.draw(step, views.count(), images);
        let dropped = dropped.with_joints(joints);
        let features = self.student.features(views.recorded(), &dropped);
        let joints = dropped.into_joints();
        let [features] = joints.join([features]);
        (features, joints)
    }

    /// One update of the student, of the centre and of the teacher. Cutting a batch differently
    /// changes nothing but rounding.
    ///
    /// SIGReg, if its weight is above 0, looks along `directions` `[S, F]` of unit length.
    ///
    /// # Errors
    /// As [`Method::step`].
    pub fn step_along(
        &mut self,
        micro_batches: &[Views],
        hp: &StepHyperparams,
        directions: Option<Tensor<2>>,
    ) -> Result<StepReport> {
        for network in [&mut self.student, &mut self.teacher] {
            network.freeze_backbone(hp.backbone_frozen());
        }
        let ranks = self.ranks.clone();
        let sizes = || micro_batches.iter().map(|views| views.batch);
        let batch = sizes().sum::<usize>() * ranks.size();
        let images = ranks.images(sizes());
        let (momentum, teacher_temp) = self.config.schedule.at(hp);
        let mut gradients = GradientSum::new(&self.student);
        let (mut losses, mut drifts) = (Vec::new(), Vec::new());
        let mut centre_sum = TreeSum::default();
        let mut seen = Seen::default();
        let mut timings = StepTimings::start();
        // Sinkhorn–Knopp balances all images of a step; the centre is one of steps before.
        let mut balanced = match self.config.centering {
            Centering::Sinkhorn => self.balanced(micro_batches, teacher_temp)?,
            Centering::Centre => Vec::new(),
        };
        let joints = || Joints::of(&self.config.backbone, &ranks, micro_batches.len());
        // Further terms look at the features of all images of a step, which has one micro-batch then.
        let mut held = Vec::new();
        let mut terms = None;
        if self.config.has_terms() {
            for (views, images) in micro_batches.iter().zip(&images) {
                let images = images.clone();
                held.push(Some(self.student_features(
                    views,
                    hp.step,
                    images,
                    joints(),
                )));
            }
            let views = micro_batches[0].count();
            let features = held.iter().flatten().map(|(features, _)| features.clone());
            let all = ranks.gather_recorded(features.collect(), views)?;
            terms = Some(self.config.terms(all, views, directions));
        }

        let own = ranks.own_shards();
        for shard in 0..own {
            let (mut loss, mut drift) = (0.0, 0.0);
            let mut logit_sum: Option<Tensor<1>> = None;
            for number in (shard..micro_batches.len()).step_by(own) {
                let views = &micro_batches[number];
                let Taught {
                    features,
                    logits,
                    targets,
                } = match balanced.get_mut(number).and_then(Option::take) {
                    Some(taught) => taught,
                    None => self.centred(views, teacher_temp),
                };
                timings.lap("teacher");

                let (own_features, joints) = match held.get_mut(number).and_then(Option::take) {
                    Some(held) => held,
                    None => {
                        let images = images[number].clone();
                        self.student_features(views, hp.step, images, joints())
                    }
                };
                let student = self.student.head.forward(own_features.clone());
                timings.lap("student");

                let global = student.clone().without_autodiff();
                let global = global.narrow(0, 0, 2 * views.batch);
                let targets = Tensor::from_inner(targets);
                let micro_loss =
                    ops::dino_loss(student, targets, views.batch, self.config.student_temp);
                let share = views.batch as f64 / batch as f64;
                loss += share * check::scalar(&micro_loss);
                timings.lap("loss");

                let mut differentiated = micro_loss * share;
                if let Some(preserved) = &self.companions.preserved {
                    let of_micro = preserved.drift(own_features.clone(), preserved.features(views));
                    drift += share * check::scalar(&of_micro);
                    differentiated = differentiated + of_micro * (preserved.weight * share);
                }
                if let Some(Terms { gradients, .. }) = &terms {
                    let of_terms = Tensor::from_inner(gradients[number].clone());
                    differentiated = differentiated + (own_features * of_terms).sum();
                }
                let of_loss = differentiated.backward();
                gradients.add_pieces(&self.student, of_loss, joints, &ranks)?;
                timings.lap("backward");

                if self.centre.is_some() {
                    let k = self.config.head.out_dim;
                    let sum = logits.clone().sum_dim(0).reshape([k]);
                    logit_sum = Some(match logit_sum {
                        Some(total) => total + sum,
                        None => sum,
                    });
                }
                if number + own >= micro_batches.len() {
                    seen.add(features, logits, global);
                }
            }
            gradients.end_shard();
            losses.push(loss);
            drifts.push(drift);
            if let Some(sum) = logit_sum {
                centre_sum.push(sum, |a, b| a + b);
            }
        }
        let mut loss: f64 = ranks.of_all_shards(&losses)?.into_iter().sum();
        let mut terms = match terms {
            Some(terms) => terms.beside(&mut loss),
            None => Vec::new(),
        };
        if let Some(preserved) = &self.companions.preserved {
            let drift = ranks.of_all_shards(&drifts)?.into_iter().sum();
            if terms.is_empty() {
                terms.push(("dino", loss));
            }
            terms.push(("drift", drift));
            loss += preserved.weight * drift;
        }
        check::finite(loss, hp.step)?;
        gradients.reduce(&ranks)?;

        let centre = self.centre.clone();
        // The centre follows the raw teacher logits, after the loss has used the old one.
        if let (Some(centre), Some(sum)) = (&mut self.centre, centre_sum.finish(|a, b| a + b)) {
            let sum = ranks.sum(vec![sum])?.remove(0);
            let m = self.config.center_momentum;
            let mean = sum / (2 * batch) as f64;
            *centre = centre.clone() * m + mean * (1.0 - m);
        }
        timings.lap("ranks");

        let frozen = hp.epoch < self.config.freeze_last_layer;
        let config = &self.config;
        let rule = UpdateRule {
            frozen: &|name| frozen && name.contains("last_layer"),
            ..config.adapt.rule(&config.backbone, hp, config.clip_grad)
        };
        let teacher = Averaged {
            network: &mut self.teacher,
            part: "",
            momentum,
            statistics: Statistics::Own,
        };
        let optimiser = &mut self.optimiser;
        let grad_norms = update(
            &mut self.student,
            gradients,
            optimiser,
            &rule,
            Some(teacher),
        );
        let average = self.companions.follow(&self.student, hp);
        timings.lap("update");

        let (features, teacher, student) = seen.all();
        let mut scheduled = vec![("momentum", momentum), ("teacher_temp", teacher_temp)];
        scheduled.extend(average);
        Ok(StepReport {
            timings,
            loss,
            terms,
            scheduled,
            grad_norms,
            outputs: Outputs {
                features,
                prototypes: Some(PrototypeOutputs {
                    teacher,
                    student,
                    centre,
                    teacher_temp,
                    student_temp: self.config.student_temp,
                    own: ranks.size() > 1,
                }),
                patches: None,
                embeddings: None,
            },
        })
    }
}

impl Method for Dino {
    fn name(&self) -> &'static str {
        "dino"
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn check(&self, shape: BatchShape) -> Result<()> {
        check::batch_norm_alone(&self.config.backbone, shape.accumulate)?;
        self.config.check_accumulation(shape.accumulate)
    }

    fn step(&mut self, micro_batches: &[Views], hp: &StepHyperparams) -> Result<StepReport> {
        let config = &self.config;
        let along = (config.sigreg_weight > 0.0).then(|| {
            let width = config.feature.width(config.backbone.width());
            let sizes = [config.sigreg_directions, width];
            directions(config.seed, hp.step, sizes, &self.device)
        });
        self.step_along(micro_batches, hp, along)
    }

    fn distribute(&mut self, ranks: &Ranks) -> Result<()> {
        check::head_norm_of_whole(&self.config.head, self.learned(), ranks)?;
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

    fn loss_of_guessing(&self) -> Option<f64> {
        let cross_entropy = (self.config.head.out_dim as f64).ln();
        let alone = !self.config.has_terms() && self.companions.preserved.is_none();
        alone.then_some(cross_entropy)
    }

    fn state(&self) -> State {
        let mut state = State::default();
        state.put_network("student", &self.student);
        state.put_network("teacher", &self.teacher);
        if let Some(centre) = &self.centre {
            state.put_vector("centre", centre);
        }
        self.companions.put(&mut state);
        state.put_optimiser(&self.student, &self.optimiser);
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        state.load_network("student", &mut self.student)?;
        state.load_network("teacher", &mut self.teacher)?;
        if let Some(centre) = &mut self.centre {
            *centre = state.vector("centre", self.config.head.out_dim, &self.device)?;
        }
        self.companions.restore(state)?;
        state.load_optimiser(&self.student, &mut self.optimiser, &self.device)
    }

    /// Takes the head, too, if there is one of these sizes; if not, it starts from random weights.
    fn start_from(&mut self, weights: &Weights, options: LoadOptions) -> Result<LoadReport> {
        let weights = &*with_heads_of(weights, &[("head", &self.student.head)]);
        let report = load(&mut self.teacher, "", weights, options)?;
        load(&mut self.student.backbone, "backbone", weights, options)?;
        load(&mut self.student.head, "head", weights, options)?;
        self.student.rebase();
        self.companions.start_from(weights, options)?;
        let fits = |centre: &&Vec<f32>| centre.len() == self.config.head.out_dim;
        let known = weights.centre.as_ref().filter(fits);
        if let (Some(centre), Some(known)) = (&mut self.centre, known) {
            let data = TensorData::new(known.clone(), [known.len()]);
            *centre = Tensor::from_data(data, &self.device);
        }
        Ok(report)
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("method".to_owned(), self.name().to_owned()),
            self.config.feature.metadata_entry(),
            self.companions.metadata_entry(),
            self.config.backbone.metadata_entry(),
            ("head".to_owned(), json(&self.config.head)),
        ])
    }
}
