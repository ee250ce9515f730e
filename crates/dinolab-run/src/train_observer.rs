//! Observes a training run: metrics, health, evaluations, pictures, events.

mod health;

use std::path::Path;
use std::time::{Duration, Instant};

use dinolab_data::loader::UnusableImage;
use dinolab_features::MapKind;
use dinolab_nn::Precision;
use dinolab_train::checkpoint::Change;
use dinolab_train::log::{self, Log};
use dinolab_train::{
    Error, Event as TrainEvent, Method, Observer, Result, Schedule, StepHyperparams, StepReport,
    StepTime,
};
use serde_json::{Map, Value};

use crate::environment::Environment;
use crate::evaluation::Evaluation;
use crate::evaluator::Evaluator;
use crate::event::{Event, Progress};
use crate::health::{Context, FailureMode, Health, HealthMeter, TeacherContext, Warning, diagnose};
use crate::run_folder::RunFolder;
use crate::settings::{Config, Work, suited_out_dim};
use crate::tensorboard::EventFile;
use crate::values::MethodKind;

/// The kind of a line about a setting that was changed.
pub const SETTING: &str = "setting";

/// What diagnoses have to know of a run over `images` images.
pub fn context(config: &Config, images: usize) -> Context {
    Context {
        images,
        epochs: config.epochs,
        warmup_epochs: config.warmup_epochs,
        freeze_backbone_epochs: config.freeze_backbone_epochs,
        lr: config.lr,
        teacher: config.method.has_prototypes().then_some(TeacherContext {
            teacher_temp: config.teacher_temp,
            momentum_teacher: config.momentum_teacher,
            center_momentum: config.center_momentum,
            suited_out_dim: suited_out_dim(images),
        }),
        sigreg_weight: (config.method == MethodKind::LeJepa).then_some(config.sigreg_weight),
        visreg_weight: (config.method == MethodKind::VisReg).then_some(config.visreg_weight),
        coding_rate_weight: (config.method == MethodKind::SimDino)
            .then_some(config.coding_rate_weight),
        weight_decay_end: config.weight_decay_end,
        clip_grad: (config.clip_grad > 0.0).then_some(config.clip_grad),
        reduced_precision: config.precision != Precision::F32,
    }
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
    images: usize,
    schedule: Option<Schedule>,
    work: Work,
    log: Option<Log>,
    timing: Option<Log>,
    event_file: Option<EventFile>,
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
    /// Observes a run over `images` images. `changes` are those of its settings up to where it is resumed.
    pub fn new(
        env: &'a Environment<'a>,
        config: &'a Config,
        folder: &'a RunFolder,
        evaluator: Option<Evaluator>,
        images: usize,
        changes: Vec<Change>,
    ) -> Self {
        Self {
            env,
            config,
            folder,
            evaluator,
            images,
            schedule: None,
            work: Work::uniform(0),
            log: None,
            timing: None,
            event_file: None,
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

    /// Writes a line of metrics, and its numbers for TensorBoard.
    fn write(&mut self, kind: &str, done: u64, line: &impl serde::Serialize) -> Result<()> {
        self.log().write(kind, done, line)?;
        self.write_event(kind, done, line)
    }

    fn write_event(&mut self, kind: &str, done: u64, line: &impl serde::Serialize) -> Result<()> {
        let Some(file) = &mut self.event_file else {
            return Ok(());
        };
        let Ok(Value::Object(mut values)) = serde_json::to_value(line) else {
            return Ok(());
        };
        // What a step is called elsewhere is no figure of its own.
        values.retain(|name, _| name != "epoch" && name != "epochs");
        let written = file.scalars(kind, done, &values);
        written.and_then(|()| file.flush()).map_err(unwritten)
    }

    /// Shows TensorBoard what an evaluation has left.
    fn show(&mut self, method: &dyn Method, done: u64, picture: &Path) -> Result<()> {
        let (Some(file), Some(evaluator)) = (&mut self.event_file, &self.evaluator) else {
            return Ok(());
        };
        let found = evaluator.projection(method.backbone());
        let written = match found.map_err(|error| observer_error(&error))? {
            Some(projection) => file.projection(&projection),
            None => Ok(()),
        };
        written
            .and_then(|()| file.picture(MapKind::of(method.backbone()).name(), done, picture))
            .and_then(|()| file.flush())
            .map_err(unwritten)
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
        let at_step = |line: &Map<String, Value>, change: &Change| {
            let text = |key: &str| line.get(key).and_then(Value::as_str);
            line.get("step").and_then(Value::as_u64) == Some(done)
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

    /// Evaluates the method's backbone as it is after `epochs` epochs.
    fn evaluate(&mut self, method: &dyn Method, epochs: u64, done: u64) -> Result<()> {
        let Some(evaluator) = &self.evaluator else {
            return Ok(());
        };
        let kind = MapKind::of(method.backbone()).name();
        let picture = self
            .folder
            .join(&format!("pictures/{kind}-epoch-{epochs:04}.png"));
        let found: Evaluation = evaluator
            .evaluate(self.env, method.backbone(), &picture)
            .map_err(|error| observer_error(&error))?;
        #[derive(serde::Serialize)]
        struct Line {
            epochs: u64,
            #[serde(flatten)]
            found: Evaluation,
        }
        self.write("evaluation", done, &Line { epochs, found })?;
        self.show(method, done, &picture)?;
        let figures = found;
        self.env.events.hear(Event::Evaluated { epochs, figures });
        Ok(())
    }
}

fn diverging(warnings: &[Warning]) -> bool {
    let grave = |warning: &Warning| warning.failure == FailureMode::Divergence;
    warnings.iter().any(grave)
}

/// Says that TensorBoard's files could not be written.
fn unwritten(error: std::io::Error) -> Error {
    Error::Observer(format!("cannot write the files of TensorBoard: {error}"))
}

/// An observer's failure as the run's.
pub(crate) fn observer_error(error: &crate::Error) -> Error {
    use dinolab_data::Error::Unreachable;
    let mut causes =
        std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |cause| {
            cause.source()
        });
    let data = causes.find_map(|cause| match cause.downcast_ref() {
        Some(
            crate::Error::Data(data) | crate::Error::Features(dinolab_features::Error::Data(data)),
        ) => Some(data),
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

impl TrainObserver<'_> {
    fn skipped(&mut self, images: &[UnusableImage]) -> Result<()> {
        self.folder
            .write_skipped(images)
            .map_err(|error| observer_error(&error))
    }

    fn started(&mut self, schedule: &Schedule, done: u64) -> Result<()> {
        self.schedule = Some(schedule.clone());
        let steps_per_epoch = schedule.steps_per_epoch();
        let work = Work::new(self.config, schedule.steps(), steps_per_epoch);
        self.work = work.map_err(|error| observer_error(&error))?;
        self.log = Some(Log::open(&self.folder.join("metrics.jsonl"), done)?);
        self.timing = Some(Log::open(&self.folder.join("timing.jsonl"), done)?);
        if self.config.tensorboard {
            let file = EventFile::create(self.folder.root(), done);
            self.event_file = Some(file.map_err(unwritten)?);
        }
        let total = Some(schedule.steps());
        self.log_changes(done)?;
        self.progress = Some(Progress::resumed(self.env.events, "step", total, done));
        self.epoch_began = Instant::now();
        Ok(())
    }

    fn stepped(
        &mut self,
        hp: &StepHyperparams,
        report: &StepReport,
        time: StepTime,
        log: bool,
    ) -> Result<()> {
        let done = hp.step + 1;
        let sampled = self
            .schedule
            .as_ref()
            .is_some_and(|schedule| schedule.samples(hp.step));
        let measured = health::measure(&mut self.meter, report, sampled);
        measured.map_err(|error| Error::Observer(error.to_string()))?;

        self.epoch_steps.0 += time.total;
        self.epoch_steps.1 += time.waited;
        self.since_log.0 += time.total;
        self.since_log.1 += time.waited;
        self.since_log.2 += time.images;
        let seconds = self.since_log.0.as_secs_f64().max(1e-9);
        let rate = self.since_log.2 as f64 / seconds;
        if log {
            self.write("train", done, &step_line(hp, report))?;
            let waited = self.since_log.1.as_secs_f64() / seconds;
            let line = TimingLine {
                images_per_second: rate,
                waited_for_data: waited,
            };
            self.timing
                .as_mut()
                .expect("the run has started")
                .write("timing", done, &line)?;
            self.write_event("timing", done, &line)?;
            self.since_log = Default::default();
        }
        self.env.events.hear(Event::Stepped {
            done,
            share: self.work.share(done),
            loss: report.loss,
            lr: hp.lr,
            images_per_second: rate,
        });
        Ok(())
    }

    fn epoch_ended(&mut self, epoch: u64, done: u64) -> Result<()> {
        let meter = self.meter.as_mut().expect("an epoch has a step");
        let health = meter.close(epoch as usize);
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
        let line = Line {
            health: &health,
            warnings: texts,
        };
        self.write("epoch", done, &line)?;
        let (steps, waited) = std::mem::take(&mut self.epoch_steps);
        let waited = waited.as_secs_f64() / steps.as_secs_f64().max(1e-9);
        self.env.events.hear(Event::EpochEnded {
            health: &health,
            warnings: &warnings,
            seconds,
            data_wait: waited,
        });
        self.history.push(health);
        self.epoch_began = Instant::now();
        self.log().sync()
    }
}

/// A line of metrics: values of the schedules, the loss and its terms, norms of the gradient.
fn step_line(hp: &StepHyperparams, report: &StepReport) -> Map<String, Value> {
    let norms = report.grad_norms.iter().map(|&norm| f64::from(norm));
    let squares: f64 = norms.clone().map(|norm| norm.powi(2)).sum();
    let mut line = Map::new();
    line.insert("epoch".into(), hp.epoch.into());
    let mut put = |name: &str, value: f64| line.insert(name.into(), value.into());
    put("loss", report.loss);
    for (name, value) in &report.terms {
        put(name, *value);
    }
    put("lr", hp.lr);
    put("weight_decay", hp.weight_decay);
    for (name, value) in &report.scheduled {
        put(name, *value);
    }
    put("grad_norm", squares.sqrt());
    put("grad_norm_max", norms.fold(0.0, f64::max));
    line
}

impl Observer for TrainObserver<'_> {
    fn name(&self) -> &'static str {
        "monitor"
    }

    fn on(&mut self, event: &TrainEvent, method: &dyn Method) -> Result<()> {
        match event {
            TrainEvent::Started { step, schedule } => self.started(schedule, *step),
            TrainEvent::Stepped {
                hp,
                report,
                time,
                log,
            } => self.stepped(hp, report, *time, *log),
            TrainEvent::EpochEnded { epoch, step } => self.epoch_ended(*epoch, *step),
            TrainEvent::Evaluate { epochs, step } => {
                self.evaluate(method, *epochs, *step)?;
                self.epoch_began = Instant::now();
                self.log().sync()
            }
            TrainEvent::Unusable(images) => self.skipped(images),
            _ => Ok(()),
        }
    }

    fn restore(&mut self, state: Option<&str>) -> Result<()> {
        let Some(state) = state else { return Ok(()) };
        let unreadable = |error: serde_json::Error| Error::Observer(error.to_string());
        let state: State = serde_json::from_str(state).map_err(unreadable)?;
        self.meter = state.meter;
        self.history = state.history;
        if let Some((last, before)) = self.history.split_last() {
            self.diverging = diverging(&self.diagnose(last, before));
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Option<String>> {
        self.log().sync()?;
        let state = State {
            meter: self.meter.clone(),
            history: self.history.clone(),
        };
        let json = serde_json::to_string(&state);
        json.map(Some)
            .map_err(|error| Error::Observer(error.to_string()))
    }

    fn diverging(&self) -> bool {
        self.diverging
    }
}

/// Stops a run after the step in which its function returns true.
pub struct StopOnRequest<'a>(pub &'a (dyn Fn() -> bool + 'a));

impl Observer for StopOnRequest<'_> {
    fn name(&self) -> &'static str {
        "stop"
    }

    fn on(&mut self, _: &TrainEvent, _: &dyn Method) -> Result<()> {
        Ok(())
    }

    fn stop_requested(&self) -> bool {
        (self.0)()
    }
}
