//! One step of DINO.

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use dinolab_data::{Crops, Size};
use dinolab_nn::ops::Following;
use dinolab_nn::vit::KeepAll;
use dinolab_nn::{HeadConfig, Network, Parameters, Precision, VitConfig, ops};

use crate::drop_path::{Masks, rates};
use crate::{Error, Optimiser, OptimiserKind, Result, StepValues};

/// What stays the same through a run.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DinoConfig {
    /// The backbone.
    pub vit: VitConfig,
    /// The projection head.
    pub head: HeadConfig,
    /// The optimiser.
    pub optimizer: OptimiserKind,
    /// Largest norm of each tensor's gradient; 0 for no limit.
    pub clip_grad: f64,
    /// Epochs during which the prototypes stay as they are.
    pub freeze_last_layer: u64,
    /// Student temperature, `T_s`.
    pub student_temp: f64,
    /// Momentum of the centre.
    pub center_momentum: f64,
    /// Largest rate of stochastic depth.
    pub drop_path: f64,
    /// Seed of initial weights and of stochastic depth.
    pub seed: u64,
    /// What activations and matrix products are computed in.
    #[serde(default)]
    pub precision: Precision,
}

/// The views of a batch on the device.
pub struct Views {
    /// Images in the batch, `B`.
    pub batch: usize,
    /// `[2·B, C, Gh, Gw]`, view-major.
    pub global: Tensor<4>,
    /// `[L·B, C, Sh, Sw]`, view-major, where there are local views.
    pub local: Option<Tensor<4>>,
}

impl Views {
    /// Crops as tensors on the plain (not gradient-recording) `device`.
    pub fn new(crops: &Crops, device: &Device) -> Self {
        let (b, c) = (crops.batch(), crops.channels);
        let tensor = |data: Vec<f32>, views: usize, size: Size| {
            let shape = [views * b, c, size.height, size.width];
            Tensor::from_data(TensorData::new(data, shape), device)
        };
        Self {
            batch: b,
            global: tensor(crops.global(), 2, crops.global_size),
            local: (crops.local_views > 0)
                .then(|| tensor(crops.local(), crops.local_views, crops.local_size)),
        }
    }
}

/// Raw outputs of a micro-batch, without gradients, and the centre they were measured against.
#[derive(Debug)]
pub struct Outputs {
    /// Teacher logits of the global views, `[2·B, K]`.
    pub teacher: Tensor<2>,
    /// Student logits of all views, `[V·B, K]`, the global ones first.
    pub student: Tensor<2>,
    /// The teacher's class tokens, `[2·B, D]`.
    pub features: Tensor<2>,
    /// The centre before this step, `[K]`.
    pub centre: Tensor<1>,
}

/// What the parts of a step took. On a device that works in the background, a part is only what
/// it took to ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// The teacher's forward pass and its targets.
    pub teacher: Duration,
    /// The student's forward pass.
    pub student: Duration,
    /// The loss, with its gradient in the logits.
    pub loss: Duration,
    /// The way back.
    pub backward: Duration,
    /// Centre, clipping, optimiser and teacher.
    pub update: Duration,
}

/// What a step tells of itself.
#[derive(Debug)]
pub struct StepReport {
    /// What its parts took.
    pub phases: Phases,
    /// The loss, in nats.
    pub loss: f64,
    /// Norm of each trainable parameter's gradient before clipping, in the network's order.
    pub grad_norms: Vec<f32>,
    /// What the networks said, of the last micro-batch.
    pub outputs: Outputs,
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
    pub optimiser: Optimiser,
    /// Full names of the parameters, in the network's order.
    names: Vec<String>,
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
        let mut teacher = Network::new(&config.vit, &config.head, config.seed, &device)?;
        teacher.set_precision(config.precision);
        let mut student = teacher.clone();
        student.to_device(&device.clone().autodiff());
        let mut names = Vec::new();
        student.visit("", &mut |name, _| names.push(name.to_owned()));
        Ok(Self {
            centre: Tensor::zeros([config.head.out_dim], &device),
            optimiser: Optimiser::new(config.optimizer, names.len()),
            rates: rates(config.drop_path, config.vit.depth),
            config: config.clone(),
            student,
            teacher,
            names,
            device,
        })
    }

    /// The settings.
    pub fn config(&self) -> &DinoConfig {
        &self.config
    }

    /// Full names of the parameters, in the network's order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Full names of the parameters that are trained, in the network's order: those of
    /// [`StepReport::grad_norms`].
    pub fn trained_names(&self) -> impl Iterator<Item = &str> {
        let mut trained = Vec::new();
        self.student
            .visit("", &mut |_, param| trained.push(param.trainable()));
        let named = self.names.iter().zip(trained);
        named.filter_map(|(name, trained)| trained.then_some(name.as_str()))
    }

    /// The device without gradients, where views are expected.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// One optimiser step on the batch that `micro_batches` make together: one update of the
    /// student, of the centre and of the teacher. Cutting a batch differently changes nothing
    /// but rounding.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`], before anything has changed.
    pub fn step(&mut self, micro_batches: &[Views], now: &StepValues) -> Result<StepReport> {
        let batch: usize = micro_batches.iter().map(|views| views.batch).sum();
        let mut grads: Vec<Option<Tensor<1>>> = vec![None; self.names.len()];
        let mut loss = 0.0;
        let mut centre_sum: Option<Tensor<1>> = None;
        let mut seen = None;
        let mut first_image = 0;
        let mut phases = Phases::default();
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();
        for views in micro_batches {
            // The teacher sees the global views only, and nothing records how.
            let features = self.teacher.backbone.forward(views.global.clone());
            let logits = self.teacher.head.forward(features.clone());
            let targets =
                ops::teacher_probabilities(logits.clone(), self.centre.clone(), now.teacher_temp);

            phases.teacher += lap();

            let images = first_image..first_image + views.batch;
            first_image = images.end;
            let student = self.student_logits(views, now.step, images);
            phases.student += lap();
            let student_plain = student.clone().without_autodiff();
            let targets = Tensor::from_inner(targets);
            let micro_loss =
                ops::dino_loss(student, targets, views.batch, self.config.student_temp);
            let share = views.batch as f64 / batch as f64;
            loss += share * micro_loss.clone().into_scalar::<f32>() as f64;

            phases.loss += lap();

            let mut gradients = (micro_loss * share).backward();
            let mut place = 0;
            self.student.visit("", &mut |_, param| {
                if let Some(grad) = param.take_grad(&mut gradients) {
                    let sum = grads[place].take();
                    grads[place] = Some(match sum {
                        Some(sum) => sum + grad,
                        None => grad,
                    });
                }
                place += 1;
            });

            drop(gradients);
            phases.backward += lap();

            let k = self.config.head.out_dim;
            let sum = logits.clone().sum_dim(0).reshape([k]);
            centre_sum = Some(match centre_sum {
                Some(total) => total + sum,
                None => sum,
            });
            seen = Some((logits, student_plain, features));
        }
        if !loss.is_finite() {
            return Err(Error::NonFiniteLoss {
                step: now.step,
                loss,
            });
        }

        let centre = self.centre.clone();
        // The centre follows the raw teacher logits, after the loss has used the old one.
        if let Some(sum) = centre_sum {
            let m = self.config.center_momentum;
            let mean = sum / (2 * batch) as f64;
            self.centre = self.centre.clone() * m + mean * (1.0 - m);
        }

        let norms = self.update(grads, now);
        phases.update += lap();
        let (teacher, student, features) = seen.expect("a step has at least one micro-batch");
        Ok(StepReport {
            phases,
            loss,
            grad_norms: norms,
            outputs: Outputs {
                teacher,
                student,
                features,
                centre,
            },
        })
    }

    /// Raw student logits of all views, `[V·B, K]`.
    fn student_logits(
        &self,
        views: &Views,
        step: u64,
        images: std::ops::Range<usize>,
    ) -> Tensor<2> {
        let mut sizes = vec![Tensor::from_inner(views.global.clone())];
        let mut count = 2;
        if let Some(local) = &views.local {
            count += local.dims()[0] / views.batch;
            sizes.push(Tensor::from_inner(local.clone()));
        }
        if self.config.drop_path > 0.0 {
            let masks = Masks::draw(&self.rates, self.config.seed, step, count, images);
            self.student.forward(sizes, &masks)
        } else {
            self.student.forward(sizes, &KeepAll)
        }
    }

    /// Clips each gradient by its own norm, applies it, and lets the teacher follow:
    /// teacher ← m · teacher + (1 − m) · student, over all that is learned. One pass over each
    /// parameter. Returns the norms.
    fn update(&mut self, mut grads: Vec<Option<Tensor<1>>>, now: &StepValues) -> Vec<f32> {
        let frozen = now.epoch < self.config.freeze_last_layer;
        let mut teachers = Vec::with_capacity(self.names.len());
        self.teacher
            .visit_mut("", &mut |_, param| teachers.push(param.take_flat()));
        let (optimiser, mut place, mut norms) = (&mut self.optimiser, 0, Vec::new());
        let clip = self.config.clip_grad;
        self.student.visit_mut("", &mut |name, param| {
            let teacher = &mut teachers[place];
            let grad = grads[place].take();
            // A frozen parameter is skipped: neither its moments nor its count move.
            let frozen = frozen && name.contains("last_layer");
            match grad {
                Some(grad) if !frozen => {
                    let mut value = param.take_flat();
                    let following = Following {
                        value: &mut value,
                        teacher,
                        momentum: now.momentum,
                        clip,
                    };
                    let rates = [now.lr, now.weight_decay];
                    let shape = param.shape().to_vec();
                    norms.push(optimiser.update(place, name, &shape, following, grad, rates));
                    param.set_flat(value);
                }
                grad => {
                    norms.extend(grad.map(|grad| ops::norm(&grad)));
                    if param.trainable() {
                        ops::ema(teacher, &param.flat(), now.momentum);
                    }
                }
            }
            place += 1;
        });
        let mut teachers = teachers.into_iter();
        self.teacher.visit_mut("", &mut |_, param| {
            param.set_flat(teachers.next().expect("the same network"));
        });
        let norms = Tensor::cat(norms, 0).into_data().convert::<f32>();
        norms.try_to_vec().expect("converted to f32")
    }
}
