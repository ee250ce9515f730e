//! Observes a training run: metrics, health, evaluations, pictures, events.

use std::time::{Duration, Instant};

use dinolab_data::loader::BadImage;
use dinolab_eval::health::{Context, Health, HealthMeter, Sample, Trouble, Warning, diagnose};
use dinolab_nn::{Precision, Tensor};
use dinolab_train::checkpoint::Change;
use dinolab_train::log::{self, Log};
use dinolab_train::run::{Observer, StepTime};
use dinolab_train::{Dino, Error, Result, Schedules, StepReport, StepValues};

use crate::environment::Environment;
use crate::evaluation::Evaluation;
use crate::evaluator::Evaluator;
use crate::event::{Event, Progress};
use crate::run_folder::RunFolder;
use crate::settings::Config;

/// Rows of outputs that health looks at in a sampled step.
const HEALTH_ROWS: usize = 64;

/// The kind of a line about a setting that was changed.
pub const SETTING: &str = "setting";

/// What diagnoses have to know of a run over `images` images.
pub fn context(config: &Config, images: usize) -> Context {
    Context {
        images,
        epochs: config.epochs,
        warmup_epochs: config.warmup_epochs,
        lr: config.lr,
        teacher_temp: config.teacher_temp,
        momentum_teacher: config.momentum_teacher,
        center_momentum: config.center_momentum,
        weight_decay_end: config.weight_decay_end,
        clip_grad: (config.clip_grad > 0.0).then_some(config.clip_grad),
        reduced_precision: config.precision != Precision::F32,
    }
}

/// One logged step.
#[derive(serde::Serialize)]
struct StepLine {
    epoch: u64,
    loss: f64,
    lr: f64,
    weight_decay: f64,
    momentum: f64,
    teacher_temp: f64,
    grad_norm: f64,
    grad_norm_max: f64,
}

/// Speed between two logged steps; in a file of its own, since it is not reproducible.
#[derive(serde::Serialize)]
struct TimingLine {
    images_per_second: f64,
    waited_for_data: f64,
}

/// What must survive a checkpoint.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct State {
    meter: Option<HealthMeter>,
    history: Vec<Health>,
}

/// The observer of a run: writes its metrics and pictures, diagnoses it, and tells of it.
pub struct TrainObserver<'a> {
    env: &'a Environment<'a>,
    config: &'a Config,
    folder: &'a RunFolder,
    evaluator: Option<Evaluator>,
    stop: &'a (dyn Fn() -> bool + 'a),
    images: usize,
    steps_per_epoch: u64,
    last_epoch: u64,
    log: Option<Log>,
    timing: Option<Log>,
    meter: Option<HealthMeter>,
    history: Vec<Health>,
    /// Settings changed in the course of the run.
    changes: Vec<Change>,
    /// Whether the last epoch's figures show divergence.
    diverging: bool,
    progress: Option<Progress<'a>>,
    epoch_began: Instant,
    since_log: (Duration, Duration, usize),
    /// Time of the epoch's steps, and how much of it was waiting for data.
    epoch_steps: (Duration, Duration),
}

impl<'a> TrainObserver<'a> {
    /// Observes a run over `images` images, which stops after the step in which `stop` returns true.
    /// `changes` are those of its settings up to where it is resumed.
    pub fn new(
        env: &'a Environment<'a>,
        config: &'a Config,
        folder: &'a RunFolder,
        evaluator: Option<Evaluator>,
        stop: &'a (dyn Fn() -> bool + 'a),
        images: usize,
        changes: Vec<Change>,
    ) -> Self {
        Self {
            env,
            config,
            folder,
            evaluator,
            stop,
            images,
            steps_per_epoch: 1,
            last_epoch: 0,
            log: None,
            timing: None,
            meter: None,
            history: Vec::new(),
            changes,
            diverging: false,
            progress: None,
            epoch_began: Instant::now(),
            since_log: Default::default(),
            epoch_steps: Default::default(),
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("the run has started")
    }

    fn meter(&mut self) -> &mut HealthMeter {
        self.meter.as_mut().expect("the run has started")
    }

    /// What is wrong with an epoch; the epochs before it are in `history`.
    fn diagnose(&self, health: &Health, history: &[Health]) -> Vec<Warning> {
        diagnose(health, history, &context(self.config, self.images))
    }

    /// Logs the settings that change at step `done`, unless the run that changed them has.
    fn log_changes(&mut self, done: u64) -> Result<()> {
        #[derive(serde::Serialize)]
        struct Line<'a> {
            setting: &'a str,
            from: &'a str,
            to: &'a str,
        }
        let logged = log::read(&self.folder.join("metrics.jsonl"))?;
        let at_step = |line: &serde_json::Map<String, serde_json::Value>, change: &Change| {
            let text = |key: &str| line.get(key).and_then(serde_json::Value::as_str);
            line.get("step").and_then(serde_json::Value::as_u64) == Some(done)
                && text("kind") == Some(SETTING)
                && text("setting") == Some(&change.setting)
                && text("to") == Some(&change.to)
        };
        let mut log = self.log.take().expect("the run has started");
        for change in self.changes.iter().filter(|change| change.step == done) {
            if !logged.iter().any(|line| at_step(line, change)) {
                let Change {
                    setting, from, to, ..
                } = change;
                log.write(SETTING, done, &Line { setting, from, to })?;
            }
        }
        self.log = Some(log);
        Ok(())
    }

    /// Evaluates the teacher as it is after `epochs` epochs.
    fn evaluate(&mut self, dino: &Dino, epochs: u64, done: u64) -> Result<()> {
        let Some(evaluator) = &self.evaluator else {
            return Ok(());
        };
        let picture = self
            .folder
            .join(&format!("pictures/attention-epoch-{epochs:04}.png"));
        let found: Evaluation = evaluator
            .evaluate(self.env, &dino.teacher.backbone, &picture)
            .map_err(|error| observer_error(&error))?;
        #[derive(serde::Serialize)]
        struct Line {
            epochs: u64,
            #[serde(flatten)]
            found: Evaluation,
        }
        self.log()
            .write("evaluation", done, &Line { epochs, found })?;
        let figures = found;
        self.env.events.hear(Event::Evaluated { epochs, figures });
        Ok(())
    }
}

fn diverging(warnings: &[Warning]) -> bool {
    let grave = |warning: &Warning| warning.trouble == Trouble::Divergence;
    warnings.iter().any(grave)
}

/// An observer's failure as the run's.
fn observer_error(error: &crate::Error) -> Error {
    use dinolab_data::Error::Unreachable;
    let mut causes =
        std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |cause| {
            cause.source()
        });
    let data = causes.find_map(|cause| match cause.downcast_ref() {
        Some(crate::Error::Data(data) | crate::Error::Eval(dinolab_eval::Error::Data(data))) => {
            Some(data)
        }
        _ => None,
    });
    match data {
        // It stays one: the run can be resumed another time.
        Some(Unreachable {
            location,
            attempts,
            reason,
        }) => Error::Data(Unreachable {
            location: location.clone(),
            attempts: *attempts,
            reason: reason.clone(),
        }),
        _ => Error::Observer(error.to_string()),
    }
}

fn host<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    dinolab_eval::features::host(tensor.clone())
}

impl Observer for TrainObserver<'_> {
    fn started(
        &mut self,
        dino: &Dino,
        schedules: &Schedules,
        done: u64,
        state: &str,
    ) -> Result<()> {
        self.steps_per_epoch = schedules.config().steps_per_epoch;
        self.last_epoch = schedules.at(schedules.steps() - 1).epoch;
        let state: State = match state {
            "" => State::default(),
            text => {
                serde_json::from_str(text).map_err(|error| Error::Observer(error.to_string()))?
            }
        };
        let fresh = HealthMeter::new(dino.config().head.out_dim, HEALTH_ROWS);
        self.meter = Some(match state.meter {
            Some(meter) => meter,
            None => fresh.map_err(|error| Error::Observer(error.to_string()))?,
        });
        self.history = state.history;
        if let Some((last, before)) = self.history.split_last() {
            self.diverging = diverging(&self.diagnose(last, before));
        }
        self.log = Some(Log::open(&self.folder.join("metrics.jsonl"), done)?);
        self.timing = Some(Log::open(&self.folder.join("timing.jsonl"), done)?);
        if done == 0 {
            self.evaluate(dino, 0, 0)?;
        }
        self.log_changes(done)?;
        let total = Some(schedules.steps());
        let progress = Progress::resumed(self.env.events, "step", total, done);
        self.progress = Some(progress);
        self.epoch_began = Instant::now();
        Ok(())
    }

    fn stepped(
        &mut self,
        dino: &Dino,
        now: &StepValues,
        report: &StepReport,
        time: StepTime,
    ) -> Result<()> {
        let done = now.step + 1;
        let squares: f64 = report
            .grad_norms
            .iter()
            .map(|&n| f64::from(n).powi(2))
            .sum();
        let grad_norm = squares.sqrt();
        self.meter().step(report.loss, Some(grad_norm));
        // Enough samples for an epoch's picture at no cost worth naming.
        if now.step.is_multiple_of((self.steps_per_epoch / 16).max(1)) {
            let out = &report.outputs;
            let rows = out.teacher.dims()[0] / 2;
            // Each teacher row next to the student's other global view of the same image.
            let crossed = Tensor::cat(
                vec![
                    out.student.clone().narrow(0, rows, rows),
                    out.student.clone().narrow(0, 0, rows),
                ],
                0,
            );
            let (teacher, student) = (host(&out.teacher), host(&crossed));
            let (centre, features) = (host(&out.centre), host(&out.features));
            let sample = Sample {
                teacher: &teacher,
                student: &student,
                centre: &centre,
                features: &features,
                feature_dim: dino.config().vit.width,
                teacher_temp: now.teacher_temp,
                student_temp: dino.config().student_temp,
            };
            self.meter()
                .sample(&sample)
                .map_err(|error| Error::Observer(error.to_string()))?;
        }

        self.epoch_steps.0 += time.total;
        self.epoch_steps.1 += time.waited;
        self.since_log.0 += time.total;
        self.since_log.1 += time.waited;
        self.since_log.2 += time.images;
        let seconds = self.since_log.0.as_secs_f64().max(1e-9);
        let rate = self.since_log.2 as f64 / seconds;
        if done.is_multiple_of(self.config.log_every.max(1)) {
            let line = StepLine {
                epoch: now.epoch,
                loss: report.loss,
                lr: now.lr,
                weight_decay: now.weight_decay,
                momentum: now.momentum,
                teacher_temp: now.teacher_temp,
                grad_norm,
                grad_norm_max: report
                    .grad_norms
                    .iter()
                    .fold(0.0, |a: f64, &b| a.max(f64::from(b))),
            };
            self.log().write("train", done, &line)?;
            let waited = self.since_log.1.as_secs_f64() / seconds;
            let line = TimingLine {
                images_per_second: rate,
                waited_for_data: waited,
            };
            self.timing
                .as_mut()
                .expect("the run has started")
                .write("timing", done, &line)?;
            self.since_log = Default::default();
        }
        self.env.events.hear(Event::Stepped {
            done,
            loss: report.loss,
            lr: now.lr,
            images_per_second: rate,
        });
        Ok(())
    }

    fn epoch_ended(&mut self, dino: &Dino, epoch: u64, done: u64) -> Result<()> {
        let health = self.meter().close(epoch as usize);
        let seconds = self.epoch_began.elapsed().as_secs_f64();
        let warnings = self.diagnose(&health, &self.history);
        self.diverging = diverging(&warnings);
        #[derive(serde::Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            health: &'a Health,
            warnings: Vec<String>,
        }
        // Without commands, which name the folder: the file does not depend on that.
        let texts: Vec<String> = warnings.iter().map(Warning::to_string).collect();
        self.log().write(
            "epoch",
            done,
            &Line {
                health: &health,
                warnings: texts,
            },
        )?;
        let (steps, waited) = std::mem::take(&mut self.epoch_steps);
        let waited = waited.as_secs_f64() / steps.as_secs_f64().max(1e-9);
        self.env.events.hear(Event::EpochEnded {
            health: &health,
            warnings: &warnings,
            seconds,
            data_wait: waited,
        });
        self.history.push(health);

        let every = self.config.eval_every;
        if every > 0 && ((epoch + 1).is_multiple_of(every) || epoch == self.last_epoch) {
            self.evaluate(dino, epoch + 1, done)?;
        }
        self.epoch_began = Instant::now();
        self.log().sync()
    }

    fn skipped(&mut self, images: &[BadImage]) -> Result<()> {
        self.folder
            .write_skipped(images)
            .map_err(|error| observer_error(&error))
    }

    fn state(&mut self) -> Result<String> {
        self.log().sync()?;
        let state = State {
            meter: self.meter.clone(),
            history: self.history.clone(),
        };
        serde_json::to_string(&state).map_err(|error| Error::Observer(error.to_string()))
    }

    fn diverging(&self) -> bool {
        self.diverging
    }

    fn stop_requested(&self) -> bool {
        (self.stop)()
    }
}
