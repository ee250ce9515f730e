//! The one-image self-test: on a single image the student has to catch up with the teacher.

use std::path::Path;
use std::sync::Arc;

use dinolab_data::augment::MultiCrop;
use dinolab_data::shapes::Shapes;
use dinolab_data::source::SourceOptions;
use dinolab_data::{Image, Loader, LoaderConfig, Source};
use dinolab_nn::{Device, HeadConfig, Parameters, VitConfig, device, ops, weights};
use dinolab_train::{
    Dino, DinoConfig, DinoSchedule, Method, OptimiserKind, Schedule, ScheduleConfig, StepReport,
    Views,
};

use crate::error::Result;

/// Images in a step.
pub const BATCH: usize = 8;
/// Prototypes.
pub const OUT_DIM: usize = 256;
/// The student has caught up with the teacher when it is nearer than this, in nats.
pub const CAUGHT_UP: f64 = 0.05;
/// With crops no two views are the same; then it has to be this much nearer than at its worst.
const SHARE_OF_WORST: f64 = 0.2;

/// One image as many: each index gets crops of its own.
struct Repeated {
    name: String,
    image: Image,
    times: usize,
}

impl Source for Repeated {
    fn len(&self) -> usize {
        self.times
    }
    fn name(&self, _: usize) -> String {
        self.name.clone()
    }
    fn label(&self, _: usize) -> Option<usize> {
        None
    }
    fn classes(&self) -> &[String] {
        &[]
    }
    fn image(&self, _: usize) -> dinolab_data::Result<Image> {
        Ok(self.image.clone())
    }
}

/// A condition of the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Whether it holds.
    pub holds: bool,
    /// The condition, in words.
    pub what: String,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverfitStep {
    /// Its number, from 1.
    pub step: u64,
    /// The loss, in nats.
    pub loss: f64,
    /// Mean entropy of the teacher's targets, in nats: what the loss cannot fall below.
    pub entropy: f64,
}

/// The self-test on one image.
pub struct Overfit {
    name: String,
    image: Image,
    seed: u64,
    device: Device,
}

impl Overfit {
    /// On an image, or one of the built-in shapes.
    ///
    /// # Errors
    /// An image that cannot be read, a device that is not there.
    pub fn new(image: Option<&Path>, seed: u64, device: &str) -> Result<Self> {
        let (name, image) = read(image, seed)?;
        Ok(Self {
            name,
            image,
            seed,
            device: device::by_name(device)?,
        })
    }

    /// The image's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Trains without crops, all views being the whole image, and checks what has to hold. `each` hears
    /// of steps 1, 2, 5, 10, … and of every hundredth.
    ///
    /// # Errors
    /// A loss that is NaN or infinite.
    pub fn without_crops(
        &self,
        steps: u64,
        each: &mut dyn FnMut(OverfitStep),
    ) -> Result<Vec<Check>> {
        let mut crops = MultiCrop::identity(64);
        crops.local_views = 2;
        self.stage(crops, steps, each)
    }

    /// [`Overfit::without_crops`] with crops.
    ///
    /// # Errors
    /// Likewise.
    pub fn with_crops(&self, steps: u64, each: &mut dyn FnMut(OverfitStep)) -> Result<Vec<Check>> {
        let crops = MultiCrop {
            global_size: 64.into(),
            local_size: 32.into(),
            local_views: 4,
            ..MultiCrop::default()
        };
        self.stage(crops, steps, each)
    }

    fn stage(
        &self,
        crops: MultiCrop,
        steps: u64,
        each: &mut dyn FnMut(OverfitStep),
    ) -> Result<Vec<Check>> {
        let cropped = !crops.whole_image;
        let config = DinoConfig {
            backbone: VitConfig {
                image_size: 64,
                patch_size: 8,
                width: 64,
                depth: 3,
                heads: 2,
                ..Default::default()
            }
            .into(),
            head: HeadConfig {
                out_dim: OUT_DIM,
                hidden_dim: 128,
                bottleneck_dim: 64,
                ..HeadConfig::default()
            },
            optimizer: OptimiserKind::AdamW,
            clip_grad: 3.0,
            freeze_last_layer: 0,
            student_temp: 0.1,
            center_momentum: 0.9,
            schedule: DinoSchedule {
                momentum_teacher: 0.98,
                warmup_teacher_temp: 0.04,
                teacher_temp: 0.04,
                warmup_teacher_temp_epochs: 0,
                ..Default::default()
            },
            drop_path: 0.0,
            seed: self.seed,
            precision: Default::default(),
            ..Default::default()
        };
        let schedule = Schedule::new(ScheduleConfig {
            epochs: 1.0,
            steps_per_epoch: steps.max(1),
            lr: 1e-3,
            min_lr: 1e-5,
            warmup_epochs: 10.0 / steps.max(10) as f64,
            weight_decay: 0.04,
            weight_decay_end: 0.04,
            freeze_backbone_epochs: 0.0,
        });
        let repeated = Repeated {
            name: self.name.clone(),
            image: self.image.clone(),
            times: BATCH * steps.max(1) as usize,
        };
        let loader_config = LoaderConfig {
            batch_size: BATCH,
            seed: self.seed,
            ..LoaderConfig::default()
        };
        let loader = Loader::new(Arc::new(repeated), crops, loader_config)?;
        let mut dino = Dino::new(&config, &self.device)?;
        let same_start = weights::arrays(&dino.student, "") == weights::arrays(&dino.teacher, "");
        let before = flat(&dino.teacher);

        let stage = if cropped {
            "with crops"
        } else {
            "without crops"
        };
        let mut divergence = Vec::new();
        for (step, crops) in (0..schedule.steps()).zip(loader.epoch(0, 0)) {
            let views = Views::new(&crops?, dino.device());
            let hp = schedule.at(step);
            let report = dino.step(&[views], &hp)?;
            let entropy = teacher_entropy(&report);
            divergence.push(report.loss - entropy);
            // 1, 2, 5, 10, 20, 50, …
            let shown = [1, 2, 5].iter().any(|lead| {
                let mut at = *lead;
                while at < step + 1 {
                    at *= 10;
                }
                at == step + 1
            });
            if shown || step + 1 == schedule.steps() || (step + 1) % 100 == 0 {
                each(OverfitStep {
                    step: step + 1,
                    loss: report.loss,
                    entropy,
                });
            }
        }

        let mut checks = Vec::new();
        let mut check = |holds: bool, what: String| {
            checks.push(Check {
                holds,
                what: format!("{stage}: {what}"),
            })
        };
        check(
            same_start,
            "student and teacher started with the same weights".into(),
        );
        let (teacher, student) = (flat(&dino.teacher), flat(&dino.student));
        check(
            teacher != before && teacher != student,
            "the teacher followed the student without being identical to it".into(),
        );
        let lowest = divergence.iter().copied().fold(f64::INFINITY, f64::min);
        check(
            // Rounding may take a vanishing divergence a little below 0.
            lowest > -1e-3,
            format!(
                "the loss was never below the teacher's entropy (minimum difference {lowest:.4} nats)"
            ),
        );
        let tail = &divergence[divergence.len() - divergence.len().min(10)..];
        let last = tail.iter().sum::<f64>() / tail.len() as f64;
        let worst = divergence.iter().copied().fold(0.0, f64::max);
        let limit = if cropped {
            CAUGHT_UP.max(SHARE_OF_WORST * worst)
        } else {
            CAUGHT_UP
        };
        check(
            last < limit,
            format!(
                "KL(teacher‖student) ended at {last:.4} nats (worst {worst:.4}, limit {limit:.4})"
            ),
        );
        if !cropped {
            // Once and for all, not only in passing.
            let reached = divergence
                .iter()
                .rposition(|&kl| kl >= CAUGHT_UP)
                .map_or(0, |step| step + 1);
            check(
                reached <= 50,
                format!(
                    "the loss stayed at its minimum from step {reached} on (must be at most 50)"
                ),
            );
        }
        Ok(checks)
    }
}

fn read(path: Option<&Path>, seed: u64) -> Result<(String, Image)> {
    let Some(path) = path else {
        return Ok(("a built-in shape".into(), Shapes::new(seed, 1).image(0)?));
    };
    let bytes = dinolab_data::file::read(path)?;
    let name = path.display().to_string();
    let image = dinolab_data::decode::decode(&name, &bytes, SourceOptions::default().max_pixels)?;
    Ok((name, image))
}

/// All values of a network.
fn flat(network: &dinolab_nn::Network) -> Vec<f32> {
    let mut all = Vec::new();
    network.visit("", &mut |_, param| all.extend(param.to_vec()));
    all
}

/// Mean entropy of the teacher's targets, in nats: what the loss cannot fall below.
fn teacher_entropy(report: &StepReport) -> f64 {
    let out = report
        .outputs
        .prototypes
        .as_ref()
        .expect("DINO has prototypes");
    let centre = out.centre.clone().expect("a centre is the default");
    let targets = ops::teacher_probabilities(out.teacher.clone(), centre, out.teacher_temp);
    let rows = targets.dims()[0];
    let values = dinolab_nn::device::to_host_f32(targets);
    let sum: f64 = values
        .iter()
        .map(|&q| f64::from(q))
        .filter(|&q| q > 0.0)
        .map(|q| -q * q.ln())
        .sum();
    sum / rows as f64
}
