//! DINO's step, plainly, with room for one mistake.
//!
//! What makes [`dinolab_train::method::dino`] fast, exact over micro-batches and usable among
//! processes is left out; a test holds this step against that one.

use burn::tensor::activation::{log_softmax, softmax};
use dinolab_data::augment::{IMAGENET_MEAN, IMAGENET_STD};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::optim::{Optimiser, OptimiserKind};
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::{
    Device, HeadConfig, Network, Param, Parameters, ProjectionHead, Tensor, VitConfig,
};
use dinolab_train::update::{Averaged, GradientSum, Statistics, UpdateRule, follow, update};
use dinolab_train::{DinoSchedule, Ranks, StepHyperparams, Views};

use super::Mistake;
use super::cross_entropies::CrossEntropies;
use crate::error::Result;
use crate::health::Invariants;

/// Student temperature, `T_s`.
pub const STUDENT_TEMP: f64 = 0.1;
/// Momentum of the centre.
const CENTRE_MOMENTUM: f64 = 0.9;
/// Each parameter's gradient is clipped to this norm.
const CLIP: f64 = 3.0;

/// Share of the student that a step gives the teacher below which rounding hides it.
const LEAST_PULL: f64 = 1e-4;

/// Student, teacher, centre and optimiser.
pub struct PlainDino {
    mistake: Option<Mistake>,
    schedule: DinoSchedule,
    student: Network,
    teacher: Network,
    /// `[K]`.
    centre: Tensor<1>,
    optimiser: Optimiser,
    /// ‖θ_s − θ_t‖ / ‖θ_s‖, until it is reported.
    initial_distance: Option<f64>,
}

/// What a step did.
#[derive(Debug)]
pub struct PlainStep {
    /// The loss, in nats.
    pub loss: f64,
    /// Features of the teacher of the global views, `[2·B, D]`.
    pub features: Vec<f32>,
    /// Logits of the teacher of the global views, `[2·B, K]`, before centre and temperature.
    pub teacher: Vec<f32>,
    /// Logits of the student of all views, `[V·B, K]`.
    pub student: Vec<f32>,
    /// The centre that the step used, `[K]`.
    pub centre: Vec<f32>,
    /// Teacher temperature.
    pub teacher_temp: f64,
    /// Figures with a known right value.
    pub invariants: Invariants,
}

impl PlainDino {
    /// With AdamW, on a processor's `device`, and with one mistake or none.
    ///
    /// # Errors
    /// Sizes that make no network.
    pub fn new(
        vit: &VitConfig,
        head: &HeadConfig,
        schedule: &DinoSchedule,
        mistake: Option<Mistake>,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let mut head = head.clone();
        let mut schedule = schedule.clone();
        match mistake {
            Some(Mistake::FewPrototypes) => head.out_dim = 4,
            Some(Mistake::NoSharpening) => {
                (schedule.warmup_teacher_temp, schedule.teacher_temp) = (1.0, 1.0);
            }
            _ => {}
        }
        let plain = device.clone().without_autodiff();
        let recording = plain.clone().autodiff();
        let mut student = Network::new(vit, &head, seed, &plain)?;
        let mut teacher = match mistake {
            Some(Mistake::DifferentWeights) => Network::new(vit, &head, seed + 1, &plain)?,
            _ => student.clone(),
        };
        let (of_student, of_teacher) = (weights(&student), weights(&teacher));
        student.to_device(&recording);
        if mistake == Some(Mistake::TeacherNotDetached) {
            teacher.to_device(&recording);
        }
        let initial_distance = Some(distance(&of_student, &of_teacher) / length(&of_student));
        let mut parameters = 0;
        Optimised::new(mistake, &mut student, &mut teacher).visit("", &mut |_, _| parameters += 1);
        Ok(Self {
            mistake,
            schedule,
            student,
            teacher,
            centre: Tensor::zeros([head.out_dim], &plain),
            optimiser: Optimiser::new(OptimiserKind::AdamW, parameters),
            initial_distance,
        })
    }

    /// The teacher, which is evaluated.
    pub fn teacher(&self) -> &Network {
        &self.teacher
    }

    /// One update of the student, of the centre and of the teacher.
    ///
    /// # Errors
    /// [`dinolab_train::Error::NonFiniteLoss`].
    pub fn step(&mut self, views: &Views, hp: &StepHyperparams) -> Result<PlainStep> {
        let views = self.seen(views);
        let (momentum, teacher_temp) = self.schedule.at(hp);
        let k = self.centre.dims()[0];

        // The teacher sees the global views only.
        let global = match self.is(Mistake::TeacherNotDetached) {
            true => Tensor::from_inner(views.global.clone()),
            false => views.global.clone(),
        };
        let features = self.teacher.features(vec![global], &NoDropPath);
        let teacher = self.teacher.head.forward(features.clone());
        let centre = self.centre.clone().reshape([1, k]);
        let targets = match self.is(Mistake::TeacherNotDetached) {
            true => softmax(
                (teacher.clone() - Tensor::from_inner(centre)) / teacher_temp,
                1,
            ),
            false => Tensor::from_inner(softmax((teacher.clone() - centre) / teacher_temp, 1)),
        };

        // The student sees all.
        let student = self.student.forward(views.recorded(), &NoDropPath);
        let loss = self.loss(targets, student.clone() / STUDENT_TEMP, &views);
        let value = f64::from(to_host_f32(loss.clone())[0]);
        if !value.is_finite() {
            let (step, loss) = (hp.step, value);
            return Err(dinolab_train::Error::NonFiniteLoss { step, loss }.into());
        }
        let outputs = [&teacher, &student].map(|logits| to_host_f32(logits.clone()));
        let used_centre = to_host_f32(self.centre.clone());

        // The centre follows the teacher's raw logits.
        if !self.is(Mistake::NoCentring) {
            let mean = teacher.without_autodiff().mean_dim(0).reshape([k]);
            self.centre = self.centre.clone() * CENTRE_MOMENTUM + mean * (1.0 - CENTRE_MOMENTUM);
        }

        // The student learns, and the teacher follows it.
        let momentum = match self.is(Mistake::StudentSchedule) {
            true => hp.lr,
            false => momentum,
        };
        let before = [weights(&self.student), weights(&self.teacher)];
        self.update(loss, hp, momentum)?;
        let after = [weights(&self.student), weights(&self.teacher)];

        let [teacher, student] = outputs;
        let temperatures = [teacher_temp, STUDENT_TEMP];
        let losses =
            CrossEntropies::of(&teacher, &student, &used_centre, temperatures, views.batch);
        let (pixel_min, pixel_max) = range(&views);
        // Where the student has not moved, there is nothing to measure by.
        let ratio = |a: f64, b: f64| (b > 0.0).then_some(a / b);
        let pull = (1.0 - momentum) * distance(&after[0], &before[1]);
        let moved = distance(&after[0], &before[0]);
        Ok(PlainStep {
            loss: value,
            features: to_host_f32(features),
            teacher,
            student,
            centre: used_centre,
            teacher_temp,
            invariants: Invariants {
                initial_distance: self.initial_distance.take(),
                teacher_step: ratio(distance(&after[1], &before[1]), pull)
                    .filter(|_| 1.0 - momentum > LEAST_PULL),
                teacher_lag: ratio(distance(&after[0], &after[1]), moved),
                pixel_min: Some(pixel_min),
                pixel_max: Some(pixel_max),
                measured_loss: Some(value),
                cross_entropy: Some(losses.right),
                cross_entropy_with_same_view: Some(losses.with_same_view),
                cross_entropy_of_other_images: Some(losses.of_other_images),
                cross_entropy_of_softmax_twice: Some(losses.of_softmax_twice),
                student_temp: Some(STUDENT_TEMP),
            },
        })
    }

    fn is(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// The views as the networks see them.
    fn seen(&self, views: &Views) -> Views {
        let of = |images: &Tensor<4>| {
            if !self.is(Mistake::NormalisedTwice) {
                return images.clone();
            }
            let device = images.device();
            let channels =
                |values: [f32; 3]| Tensor::<1>::from_floats(values, &device).reshape([1, 3, 1, 1]);
            (images.clone() - channels(IMAGENET_MEAN)) / channels(IMAGENET_STD)
        };
        Views {
            batch: views.batch,
            global: of(&views.global),
            local: views.local.as_ref().map(of),
        }
    }

    /// The mean cross entropy of each view of the teacher, `targets` `[2·B, K]`, and each other view of
    /// the student, `logits` `[V·B, K]` over its temperature.
    fn loss(&self, targets: Tensor<2>, logits: Tensor<2>, views: &Views) -> Tensor<1> {
        let (batch, count, k) = (views.batch, views.count(), logits.dims()[1]);
        let mut log_p = match self.is(Mistake::SoftmaxTwice) {
            true => log_softmax(softmax(logits, 1), 1),
            false => log_softmax(logits, 1),
        };
        if self.is(Mistake::MixedViews) {
            // Rows are view-major, [V, B]; read as [B, V], most are other views of other images.
            let images = log_p.reshape([batch, count, k]).swap_dims(0, 1);
            log_p = images.reshape([count * batch, k]);
        }
        let mut pairs = Vec::new();
        for v in 0..2 {
            let target = targets.clone().narrow(0, v * batch, batch);
            for u in 0..count {
                if u == v && !self.is(Mistake::SameView) {
                    continue;
                }
                let log_p = log_p.clone().narrow(0, u * batch, batch);
                pairs.push(-(target.clone() * log_p).sum() / batch as f64);
            }
        }
        Tensor::cat(pairs, 0).mean()
    }

    fn update(&mut self, loss: Tensor<1>, hp: &StepHyperparams, momentum: f64) -> Result<()> {
        let mut optimised = Optimised::new(self.mistake, &mut self.student, &mut self.teacher);
        let mut gradients = GradientSum::new(&optimised);
        gradients.add(&optimised, loss.backward());
        gradients.end_shard();
        gradients.reduce(&Ranks::default())?;
        let rule = UpdateRule::of_all(hp.rates(), CLIP);
        update(&mut optimised, gradients, &mut self.optimiser, &rule, None);
        let teacher = Averaged {
            network: &mut self.teacher,
            part: "",
            momentum,
            statistics: Statistics::Own,
        };
        follow(&self.student, teacher);
        Ok(())
    }
}

/// What the optimiser has: the student, and by mistake the teacher.
struct Optimised<'a> {
    student: &'a mut Network,
    teacher: Option<&'a mut Network>,
}

impl<'a> Optimised<'a> {
    fn new(mistake: Option<Mistake>, student: &'a mut Network, teacher: &'a mut Network) -> Self {
        let trained = mistake == Some(Mistake::TeacherNotDetached);
        Self {
            student,
            teacher: trained.then_some(teacher),
        }
    }
}

impl Parameters for Optimised<'_> {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        self.student.visit(&format!("{prefix}student"), f);
        if let Some(teacher) = &self.teacher {
            teacher.visit(&format!("{prefix}teacher"), f);
        }
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        self.student.visit_mut(&format!("{prefix}student"), f);
        if let Some(teacher) = &mut self.teacher {
            teacher.visit_mut(&format!("{prefix}teacher"), f);
        }
    }
}

/// All learned values of a network.
fn weights(network: &Network) -> Vec<f32> {
    let mut all = Vec::new();
    network.visit("", &mut |_, param| {
        if param.trainable() {
            all.extend(param.to_vec());
        }
    });
    all
}

fn length(values: &[f32]) -> f64 {
    let squares = values.iter().map(|&v| f64::from(v).powi(2));
    squares.sum::<f64>().sqrt()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(&a, &b)| f64::from(a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

/// Least and greatest value of all views.
fn range(views: &Views) -> (f64, f64) {
    let values = [Some(&views.global), views.local.as_ref()];
    let values = values.into_iter().flatten();
    let values = values.flat_map(|images| to_host_f32(images.clone()));
    values.map(f64::from).fold(
        (f64::INFINITY, f64::NEG_INFINITY),
        |(least, greatest), value| (least.min(value), greatest.max(value)),
    )
}
