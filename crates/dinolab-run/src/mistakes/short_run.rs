//! One short run, right or with a mistake, and its figures.

use std::path::Path;
use std::sync::Arc;

use dinolab_data::augment::MultiCrop;
use dinolab_data::shapes::Shapes;
use dinolab_data::{Loader, LoaderConfig};
use dinolab_nn::{HeadConfig, VitConfig, device};
use dinolab_train::log::Log;
use dinolab_train::{DinoSchedule, Schedule, ScheduleConfig, Views};
use serde_json::json;

use super::Mistake;
use super::step::{PlainDino, PlainStep, STUDENT_TEMP};
use crate::error::Result;
use crate::health::{
    Context, Health, HealthMeter, PrototypeSample, Sample, TeacherContext, Warning, diagnose,
};
use crate::settings::suited_out_dim;

/// Images of a run, from the built-in set.
pub const IMAGES: usize = 1024;
/// Images of a step.
pub const BATCH: usize = 32;
/// Prototypes, where they are not too few.
pub const OUT_DIM: usize = 256;
/// Epochs of a run.
pub const EPOCHS: usize = 8;
/// Rows of outputs that are looked at in a step.
const ROWS: usize = 64;
/// Learning rate of the batch; at twice this, features collapsed with one of six seeds.
const LR: f64 = 5e-4;
/// Teacher momentum at the start.
const MOMENTUM: f64 = 0.99;
/// Teacher temperature.
const TEACHER_TEMP: f64 = 0.03;

/// A run of a minute or less, right or with a mistake.
#[derive(Clone, Debug)]
pub struct ShortRun {
    /// The mistake.
    pub mistake: Option<Mistake>,
    /// Loss of each step.
    pub losses: Vec<f64>,
    /// Figures of each epoch.
    pub epochs: Vec<Health>,
    /// What the health check says of each epoch.
    pub warnings: Vec<Vec<Warning>>,
}

impl ShortRun {
    /// Trains for some epochs on the processor; schedules are those of [`EPOCHS`]. `each` hears of every epoch.
    ///
    /// # Errors
    /// [`dinolab_train::Error::NonFiniteLoss`].
    pub fn train(
        mistake: Option<Mistake>,
        seed: u64,
        epochs: usize,
        each: &mut dyn FnMut(&Health),
    ) -> Result<Self> {
        let vit = VitConfig {
            image_size: 48,
            patch_size: 8,
            width: 64,
            depth: 3,
            heads: 2,
            ..VitConfig::default()
        };
        let head = HeadConfig {
            out_dim: OUT_DIM,
            hidden_dim: 128,
            bottleneck_dim: 64,
            ..HeadConfig::default()
        };
        let of_teacher = DinoSchedule {
            momentum_teacher: MOMENTUM,
            warmup_teacher_temp: TEACHER_TEMP,
            teacher_temp: TEACHER_TEMP,
            ..DinoSchedule::default()
        };
        let device = device::by_name("cpu")?;
        let mut dino = PlainDino::new(&vit, &head, &of_teacher, mistake, seed, &device)?;
        let crops = MultiCrop {
            global_size: 48.into(),
            local_size: 24.into(),
            local_views: 2,
            // Colours are left as they are: a network tells images apart by them within a minute.
            global_scale: (0.5, 1.0),
            local_scale: (0.2, 0.5),
            jitter_probability: 0.0,
            greyscale_probability: 0.0,
            blur_probability: [0.0; 3],
            solarise_probability: [0.0; 3],
            ..MultiCrop::default()
        };
        let loader = LoaderConfig {
            batch_size: BATCH,
            seed,
            ..LoaderConfig::default()
        };
        let loader = Loader::new(Arc::new(Shapes::new(seed, IMAGES)), crops, loader)?;
        let schedule = Schedule::new(ScheduleConfig {
            epochs: EPOCHS as f64,
            steps_per_epoch: (IMAGES / BATCH) as u64,
            lr: LR,
            min_lr: 1e-5,
            warmup_epochs: 1.0,
            weight_decay: 0.04,
            weight_decay_end: 0.04,
            freeze_backbone_epochs: 0.0,
        });
        let context = context();
        let mut run = Self {
            mistake,
            losses: Vec::new(),
            epochs: Vec::new(),
            warnings: Vec::new(),
        };
        for epoch in 0..epochs {
            let mut meter = None;
            for (number, crops) in (0..).zip(loader.epoch(epoch as u64, 0)) {
                let views = Views::new(&crops?, &device);
                let hp = schedule.at(epoch as u64 * schedule.steps_per_epoch() + number);
                let step = dino.step(&views, &hp)?;
                run.losses.push(step.loss);
                count(&mut meter, step)?;
            }
            let mut meter = meter.expect("an epoch has steps");
            let health = meter.close(epoch);
            run.warnings.push(diagnose(&health, &run.epochs, &context));
            each(&health);
            run.epochs.push(health);
        }
        Ok(run)
    }

    /// Its metrics as a run folder has them, in `folder/metrics.jsonl`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let steps = self.losses.len() / self.epochs.len().max(1);
        let mut log = Log::open(&folder.join("metrics.jsonl"), 0)?;
        for (health, losses) in self.epochs.iter().zip(self.losses.chunks(steps.max(1))) {
            let first = health.epoch * steps;
            for (number, loss) in losses.iter().enumerate() {
                let line = json!({"epoch": health.epoch, "loss": loss});
                log.write("train", (first + number + 1) as u64, &line)?;
            }
            log.write("epoch", (first + losses.len()) as u64, health)?;
        }
        Ok(log.sync()?)
    }
}

/// What the health check is told of a [`ShortRun`].
fn context() -> Context {
    Context {
        images: IMAGES,
        epochs: EPOCHS as f64,
        warmup_epochs: 1.0,
        freeze_backbone_epochs: 0.0,
        lr: LR * 256.0 / BATCH as f64,
        teacher: Some(TeacherContext {
            teacher_temp: TEACHER_TEMP,
            momentum_teacher: MOMENTUM,
            center_momentum: 0.9,
            suited_out_dim: suited_out_dim(IMAGES),
        }),
        sigreg_weight: None,
        visreg_weight: None,
        coding_rate_weight: None,
        weight_decay_end: 0.04,
        clip_grad: Some(3.0),
        reduced_precision: false,
    }
}

/// Counts a step and looks at its outputs.
fn count(meter: &mut Option<HealthMeter>, step: PlainStep) -> Result<()> {
    let k = step.centre.len();
    let meter = match meter {
        Some(meter) => meter,
        empty => empty.insert(HealthMeter::new(Some(k), ROWS)?),
    };
    meter.step(step.loss, None);
    let rows = step.teacher.len() / 2;
    // Each row of the teacher beside the student's other global view of the same image.
    let crossed = [&step.student[rows..2 * rows], &step.student[..rows]].concat();
    meter.sample(&Sample {
        features: &step.features,
        feature_dim: step.features.len() / (step.teacher.len() / k),
        prototypes: Some(PrototypeSample {
            teacher: &step.teacher,
            student: &crossed,
            centre: Some(&step.centre),
            teacher_temp: step.teacher_temp,
            student_temp: STUDENT_TEMP,
        }),
        embeddings: None,
    })?;
    meter.invariants(step.invariants);
    Ok(())
}
