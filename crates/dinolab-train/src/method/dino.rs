//! DINO (Caron et al., ICCV 2021): read [`Dino::step`] beside the paper's algorithm 1.

mod schedule;

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use dinolab_nn::optim::{Optimiser, OptimiserKind};
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::weights::{LoadOptions, LoadReport, Weights, load};
use dinolab_nn::{
    Backbone, Feature, HeadConfig, Network, Parameters, Precision, ProjectionHead, VitConfig, ops,
};

pub use self::schedule::DinoSchedule;
use super::{Method, Outputs, PrototypeOutputs, StepReport, StepTimings};
use crate::drop_path::{DropPathFactors, rates};
use crate::state::json;
use crate::update::{Averaged, GradientSum, UpdateRule, update};
use crate::{Error, Result, State, StepHyperparams, Views};

/// The settings of DINO.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DinoConfig {
    /// The backbone.
    pub vit: VitConfig,
    /// What of its tokens the head is on.
    #[serde(default)]
    pub feature: Feature,
    /// The projection head.
    pub head: HeadConfig,
    /// The optimiser.
    pub optimizer: OptimiserKind,
    /// Each parameter's gradient is clipped to this norm; 0 disables.
    pub clip_grad: f64,
    /// Epochs during which the prototypes stay as they are.
    pub freeze_last_layer: u64,
    /// Student temperature, `T_s`.
    pub student_temp: f64,
    /// Momentum of the centre.
    pub center_momentum: f64,
    /// Teacher momentum and temperature.
    pub schedule: DinoSchedule,
    /// Largest rate of stochastic depth.
    pub drop_path: f64,
    /// Seed of initial weights and of stochastic depth.
    pub seed: u64,
    /// What activations and matrix products are computed in.
    #[serde(default)]
    pub precision: Precision,
}

/// Student, teacher, centre and optimiser: the state that training changes.
pub struct Dino {
    config: DinoConfig,
    /// Learns; lives on a gradient-recording device.
    pub student: Network,
    /// The student's moving average; records no gradients.
    pub teacher: Network,
    /// The centre `c`, `[K]`.
    pub centre: Tensor<1>,
    /// Moments of the student's parameters.
    optimiser: Optimiser,
    rates: Vec<f64>,
    device: Device,
}

impl Dino {
    /// Student and teacher with the same initial weights, on `device`.
    ///
    /// # Errors
    /// [`Error::Model`] where the sizes make no network, or one that DINO does not train, or the
    /// device does not compute in the precision.
    pub fn new(config: &DinoConfig, device: &Device) -> Result<Self> {
        let device = device.clone().without_autodiff();
        config.precision.check(&device)?;
        config.vit.check_trainable()?;
        let (vit, head) = (&config.vit, &config.head);
        let mut teacher = Network::of_feature(vit, config.feature, head, config.seed, &device)?;
        teacher.set_precision(config.precision);
        let mut student = teacher.clone();
        student.to_device(&device.clone().autodiff());
        let mut parameters = 0;
        student.visit("", &mut |_, _| parameters += 1);
        Ok(Self {
            centre: Tensor::zeros([config.head.out_dim], &device),
            optimiser: Optimiser::new(config.optimizer, parameters),
            rates: rates(config.drop_path, config.vit.depth),
            config: config.clone(),
            student,
            teacher,
            device,
        })
    }

    /// The settings.
    pub fn config(&self) -> &DinoConfig {
        &self.config
    }

    /// Raw student logits of all views, `[V·B, K]`.
    fn student_logits(
        &self,
        views: &Views,
        step: u64,
        images: std::ops::Range<usize>,
    ) -> Tensor<2> {
        let sizes = views.recorded();
        if self.config.drop_path > 0.0 {
            let seed = self.config.seed;
            let factors = DropPathFactors::draw(&self.rates, seed, step, views.count(), images);
            self.student.forward(sizes, &factors)
        } else {
            self.student.forward(sizes, &NoDropPath)
        }
    }
}

impl Method for Dino {
    fn name(&self) -> &'static str {
        "dino"
    }

    fn device(&self) -> &Device {
        &self.device
    }

    /// One update of the student, of the centre and of the teacher. Cutting a batch differently
    /// changes nothing but rounding.
    fn step(&mut self, micro_batches: &[Views], hp: &StepHyperparams) -> Result<StepReport> {
        let batch: usize = micro_batches.iter().map(|views| views.batch).sum();
        let (momentum, teacher_temp) = self.config.schedule.at(hp);
        let mut gradients = GradientSum::new(&self.student);
        let mut loss = 0.0;
        let mut centre_sum: Option<Tensor<1>> = None;
        let mut seen = None;
        let mut first_image = 0;
        let mut timings = StepTimings::start();
        for views in micro_batches {
            // The teacher sees the global views only, and nothing records how.
            let global = vec![views.global.clone()];
            let features = self.teacher.features(global, &NoDropPath);
            let logits = self.teacher.head.forward(features.clone());
            let targets =
                ops::teacher_probabilities(logits.clone(), self.centre.clone(), teacher_temp);
            timings.lap("teacher");

            let images = first_image..first_image + views.batch;
            first_image = images.end;
            let student = self.student_logits(views, hp.step, images);
            timings.lap("student");

            let student_plain = student.clone().without_autodiff();
            let targets = Tensor::from_inner(targets);
            let micro_loss =
                ops::dino_loss(student, targets, views.batch, self.config.student_temp);
            let share = views.batch as f64 / batch as f64;
            loss += share * micro_loss.clone().into_scalar::<f32>() as f64;
            timings.lap("loss");

            gradients.add(&self.student, (micro_loss * share).backward());
            timings.lap("backward");

            let k = self.config.head.out_dim;
            let sum = logits.clone().sum_dim(0).reshape([k]);
            centre_sum = Some(match centre_sum {
                Some(total) => total + sum,
                None => sum,
            });
            seen = Some((logits, student_plain, features));
        }
        if !loss.is_finite() {
            let step = hp.step;
            return Err(Error::NonFiniteLoss { step, loss });
        }

        let centre = self.centre.clone();
        // The centre follows the raw teacher logits, after the loss has used the old one.
        if let Some(sum) = centre_sum {
            let m = self.config.center_momentum;
            let mean = sum / (2 * batch) as f64;
            self.centre = self.centre.clone() * m + mean * (1.0 - m);
        }

        let frozen = hp.epoch < self.config.freeze_last_layer;
        let rule = UpdateRule {
            rates: hp.rates(),
            clip: self.config.clip_grad,
            frozen: &|name| frozen && name.contains("last_layer"),
        };
        let teacher = Averaged {
            network: &mut self.teacher,
            part: "",
            momentum,
        };
        let optimiser = &mut self.optimiser;
        let grad_norms = update(
            &mut self.student,
            gradients,
            optimiser,
            &rule,
            Some(teacher),
        );
        timings.lap("update");

        let (teacher, student, features) = seen.expect("a step has at least one micro-batch");
        Ok(StepReport {
            timings,
            loss,
            terms: Vec::new(),
            scheduled: vec![("momentum", momentum), ("teacher_temp", teacher_temp)],
            grad_norms,
            outputs: Outputs {
                features,
                prototypes: Some(PrototypeOutputs {
                    teacher,
                    student,
                    centre,
                    teacher_temp,
                    student_temp: self.config.student_temp,
                }),
                embeddings: None,
            },
        })
    }

    fn learned(&self) -> &dyn Parameters {
        &self.student
    }

    fn backbone(&self) -> &dyn Backbone {
        &self.teacher.backbone
    }

    fn loss_of_guessing(&self) -> Option<f64> {
        Some((self.config.head.out_dim as f64).ln())
    }

    fn state(&self) -> State {
        let mut state = State::default();
        state.put_network("student", &self.student);
        state.put_network("teacher", &self.teacher);
        state.put_vector("centre", &self.centre);
        state.put_optimiser(&self.student, &self.optimiser);
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        state.load_network("student", &mut self.student)?;
        state.load_network("teacher", &mut self.teacher)?;
        self.centre = state.vector("centre", self.config.head.out_dim, &self.device)?;
        state.load_optimiser(&self.student, &mut self.optimiser, &self.device)
    }

    fn start_from(&mut self, weights: &Weights, options: LoadOptions) -> Result<LoadReport> {
        let report = load(&mut self.student, "", weights, options)?;
        load(&mut self.teacher, "", weights, options)?;
        let fits = |centre: &&Vec<f32>| centre.len() == self.config.head.out_dim;
        if let Some(centre) = weights.centre.as_ref().filter(fits) {
            let data = TensorData::new(centre.clone(), [centre.len()]);
            self.centre = Tensor::from_data(data, &self.device);
        }
        Ok(report)
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("method".to_owned(), self.name().to_owned()),
            self.config.feature.metadata_entry(),
            ("vit".to_owned(), json(&self.config.vit)),
            ("head".to_owned(), json(&self.config.head)),
        ])
    }
}
