//! A training session: from settings to a run that is begun or resumed, and trained to its end.
//!
//! What `dinolab train` does between reading its command line and printing, for any caller:
//!
//! ```no_run
//! use dinolab_run::{Environment, Session, Settings, Start, TrainRequest};
//!
//! let env = Environment::default();
//! let request = TrainRequest {
//!     settings: Settings { images: Some("photos".into()), ..Settings::default() },
//!     ..TrainRequest::new("runs/photos", Start::Open)
//! };
//! let outcome = Session::open(&env, request)?.train(&|| false)?;
//! println!("{:?}: {}", outcome.ending, outcome.report.display());
//! # Ok::<(), dinolab_run::Error>(())
//! ```

mod following;
mod preparation;

use std::path::{Path, PathBuf};
use std::time::Instant;

use dinolab_nn::{Device, device};
use dinolab_train::checkpoint::{self, Checkpoint, TrainState};
use dinolab_train::{Observer, Ranks, RunOutcome, TrainConfig, Trainer};

use self::preparation::{Before, measured, over_recipe, train_config, with_network_of_weights};
use crate::budget::{Estimate, Question};
use crate::environment::Environment;
use crate::error::RunError;
use crate::error::{Context, Result};
use crate::evaluator::Evaluator;
use crate::health::{Remedy, after_divergence};
use crate::hub;
use crate::processes::Processes;
use crate::report::{self, Summary};
use crate::run_folder::{Contents, Lock, RunFolder, absolute, parse_toml, read_settings};
use crate::settings::adapt::Adapting;
use crate::settings::{AutoSetting, Config, Settings};
use crate::sources::Sources;
use crate::train_observer::{StopOnRequest, TrainObserver, context};

/// What becomes of a run that is in the folder already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is resumed if it has the same settings; a new one begins if there is none.
    Open,
    /// It is resumed with its own settings. With `change`, settings that are given and differ are taken
    /// from its last sound checkpoint on.
    Resume {
        /// Whether settings may change.
        change: bool,
    },
    /// It is removed, and a new one begins.
    Fresh,
}

impl Start {
    /// As asked by `resume`, by `change` beside it, or by `fresh`.
    pub fn asked(resume: bool, change: bool, fresh: bool) -> Self {
        match (resume, fresh) {
            (true, _) => Self::Resume { change },
            (false, true) => Self::Fresh,
            (false, false) => Self::Open,
        }
    }
}

/// What is to be trained, and where.
#[derive(Clone, Debug)]
pub struct TrainRequest {
    /// The run's folder.
    pub run: PathBuf,
    /// What becomes of a run that is there.
    pub start: Start,
    /// A file of settings, such as another run's `config.toml`, for what `settings` leave open.
    pub config: Option<PathBuf>,
    /// Settings as given. Without images, the built-in shapes with their recipe.
    pub settings: Settings,
}

impl TrainRequest {
    /// A run in the folder `run` with default settings.
    pub fn new(run: impl Into<PathBuf>, start: Start) -> Self {
        Self {
            run: run.into(),
            start,
            config: None,
            settings: Settings::default(),
        }
    }
}

/// A run whose folder is locked and whose settings are decided, ready to train.
pub struct Session<'a> {
    env: Environment<'a>,
    ranks: Ranks,
    folder: RunFolder,
    lock: Option<Lock>,
    config: Config,
    choices: Vec<AutoSetting>,
    estimate: Option<Estimate>,
    sources: Sources,
    plan: TrainConfig,
    device: Device,
    checkpoint: Option<Checkpoint>,
}

/// How a session ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Why it ended.
    pub ending: RunOutcome,
    /// The evaluations of the whole run.
    pub summary: Summary,
    /// Images that could not be used, and the file that lists them.
    pub skipped: Option<(usize, PathBuf)>,
    /// The report.
    pub report: PathBuf,
}

/// Parameters of a network, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterCounts {
    /// Of the backbone.
    pub backbone: usize,
    /// Of the head.
    pub head: usize,
    /// Of a change of low rank that is learned in place of the backbone's; 0 without one.
    pub change: usize,
}

impl<'a> Session<'a> {
    /// Locks the folder, finds what is there, decides the settings and opens the images. Nothing is
    /// written before all of that has succeeded.
    ///
    /// # Errors
    /// [`crate::Error::Run`] if the folder cannot be used as asked, [`crate::Error::BadSetting`], and
    /// whatever is wrong with images, weights and device.
    pub fn open(env: &Environment<'a>, request: TrainRequest) -> Result<Self> {
        Self::begin(env, &Processes::default(), request)
    }

    /// [`Session::open`] in one of several processes, all of which are given the same request. The first
    /// one opens the folder and reads the checkpoint; the others, which need no access to it, follow its
    /// settings and [`Session::follow`].
    ///
    /// # Errors
    /// As [`Session::open`]; different requests, or different images.
    pub fn among(
        processes: &Processes,
        env: &Environment<'a>,
        request: TrainRequest,
    ) -> Result<Self> {
        if processes.count() == 1 {
            return Self::begin(env, processes, request);
        }
        following::same_settings(processes, &request)?;
        let session = match processes.leads() {
            true => following::lead(Self::begin(env, processes, request)?)?,
            false => following::join(env, processes, &request)?,
        };
        #[cfg(feature = "nccl")]
        let session = {
            let (env, device) = (&session.env, &session.config.device);
            let ranks = processes.over_gpus(env, session.ranks.clone(), device)?;
            Self { ranks, ..session }
        };
        Ok(session)
    }

    fn begin(env: &Environment<'a>, processes: &Processes, request: TrainRequest) -> Result<Self> {
        let began = Instant::now();
        let folder = RunFolder::new(&request.run);
        let resume = matches!(request.start, Start::Resume { .. });
        let change = request.start == Start::Resume { change: true };
        let fresh = request.start == Start::Fresh;
        let mut lock = folder.lock(env, false)?;
        let found = match fresh {
            true => None,
            false => folder.newest(env, change)?,
        };
        if resume && found.is_none() {
            return Err(RunError::NothingToResume {
                run: request.run,
                diverged: !checkpoint::aside(&folder.checkpoints()).is_empty(),
            }
            .into());
        }
        let recorded = match &found {
            Some(checkpoint) => {
                let settings: Settings = parse_toml(&checkpoint.position.config)?;
                Some(settings.with_settings_of_before())
            }
            None if fresh => None,
            // Unreadable, it is no one's but that of an attempt that made no checkpoint.
            None => folder.settings().ok().flatten(),
        };
        let given_images = request.settings.images.is_some();
        let given = request.settings.clone();
        let base = match &request.config {
            Some(path) => read_settings(path)?.with_method_of_before(),
            None if resume => recorded.clone().unwrap_or_default(),
            None => Settings::default(),
        };
        let mut settings = request.settings.over(base.clone());
        // The same command resumes a run from before there was a choice of methods. One that was
        // given is part of the command, as every other setting is.
        let of_before = recorded.clone().filter(|before| before.method.is_none());
        settings.method = settings
            .method
            .or_else(|| of_before?.with_method_of_before().method);
        let none = |path: &PathBuf| path.as_os_str().is_empty();
        let shapes = settings.images.as_ref().is_none_or(none);
        let sources = match Sources::of(env, &settings) {
            Err(error) if resume && !given_images => {
                return Err(RunError::ImagesMissing {
                    run: request.run,
                    source: Box::new(error),
                }
                .into());
            }
            sources => sources?,
        };
        let contents = (!shapes).then(|| Contents::of(&sources));
        let device_name = settings.device.as_deref().unwrap_or("cpu");
        let device = processes.device(device_name)?;
        if let Some(w) = settings.weights.take() {
            let before = recorded.as_ref().and_then(|run| run.weights.as_deref());
            settings.weights = Some(hub::pinned(env, &w, before, found.is_some())?);
        }
        if let Some(w) = settings.teacher_weights.take() {
            // A run that has begun still needs them.
            let before = recorded
                .as_ref()
                .and_then(|run| run.teacher_weights.as_deref());
            settings.teacher_weights = Some(hub::pinned(env, &w, before, false)?);
        }
        let (settings, weights) = with_network_of_weights(settings, recorded.as_ref())?;
        let adapting = Adapting::of(&settings, weights);
        let settings = measured(env, settings, &sources, recorded.as_ref())?;
        let (mut settings, estimate) = over_recipe(
            Before {
                given: &given,
                base: &base,
                recorded: recorded.as_ref(),
                resume,
                alone: processes.count() == 1,
            },
            Question {
                env,
                settings,
                sources: &sources,
                device: &device,
                began,
            },
        )?;
        let adapted = adapting.decide(&mut settings);
        if settings.scaled_decoding.is_none() {
            // A run is resumed as it began, also one from before there was this setting.
            settings.scaled_decoding =
                recorded.map(|before| before.scaled_decoding.unwrap_or(false));
        }
        for path in [
            &mut settings.images,
            &mut settings.val,
            &mut settings.weights,
            &mut settings.teacher_weights,
        ] {
            *path = path.take().map(|path| absolute(&path));
        }
        settings.num_workers = settings.num_workers.or(processes.threads());
        let (config, mut choices) = settings.resolve(sources.train.len())?;
        choices.extend(adapted);
        given.check_method(config.method)?;
        given.check_network(&config.arch)?;
        let ranks = processes.ranks(&config)?;
        let plan = train_config(env, &config, &ranks, found.is_none())?;
        let name = &config.device;
        config.precision.check(&device).of_setting("device", name)?;
        let begun = lock.is_some();
        if !begun {
            lock = folder.lock(env, true)?;
            if !checkpoint::list(&folder.checkpoints()).is_empty() && !fresh {
                let run = request.run;
                return Err(RunError::Taken { run }.into());
            }
        }
        if fresh {
            folder.clear()?;
        }
        let opened = folder.open(
            env,
            &config,
            found,
            change,
            contents.as_ref(),
            &plan.metadata,
        );
        let checkpoint = match opened {
            Err(error) if !begun => {
                folder.abandon(lock);
                return Err(error);
            }
            opened => opened?,
        };
        Ok(Self {
            env: env.clone(),
            ranks,
            folder,
            lock,
            config,
            choices,
            estimate,
            sources,
            plan,
            device,
            checkpoint,
        })
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        self.folder.root()
    }

    /// The settings that the run follows.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Settings that were decided by the number of images, or for the weights to start from.
    pub fn choices(&self) -> &[AutoSetting] {
        &self.choices
    }

    /// How long the run takes, where that was measured: for a new run whose length was not given.
    pub fn estimate(&self) -> Option<&Estimate> {
        self.estimate.as_ref()
    }

    /// The images.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Images to train on.
    pub fn images(&self) -> usize {
        self.sources.train.len()
    }

    /// Where the run is resumed; `None` for a new one.
    pub fn resumed(&self) -> Option<&TrainState> {
        Some(&self.checkpoint.as_ref()?.position)
    }

    /// The network's size.
    ///
    /// # Errors
    /// Settings of the network out of their range.
    pub fn parameter_counts(&self) -> Result<ParameterCounts> {
        let method = self.config.method(&device::by_name("cpu")?)?;
        let learned = |part: &str| {
            let mut count = 0;
            method.learned().visit("", &mut |name, param| {
                if name.starts_with(part) && param.trainable() {
                    count += param.len();
                }
            });
            count
        };
        Ok(ParameterCounts {
            backbone: method.backbone().parameter_count(),
            head: learned("head."),
            change: learned("lora."),
        })
    }

    /// What is trained, in one line: method, network, views, batch, rate and length.
    ///
    /// # Errors
    /// As of [`Session::parameter_counts`].
    pub fn headline(&self) -> Result<String> {
        let (config, parameters) = (&self.config, self.parameter_counts()?);
        Ok(format!(
            "{}, {}: width {}, patch {}{}, {:.1} M parameters and {:.1} M in the head{}; views 2 × {} px and {} × {} \
             px; batch {}{}; {} with learning rate {:.2e}; {} {}",
            config.method,
            config.arch,
            config.width,
            config.patch_size,
            config.stem.in_words(),
            parameters.backbone as f64 / 1e6,
            parameters.head as f64 / 1e6,
            match parameters.change {
                0 => String::new(),
                change => format!(", of which {:.2} M and the head learn", change as f64 / 1e6),
            },
            config.global_crops_size,
            config.local_crops_number,
            config.local_crops_size,
            config.batch_size * config.accumulate,
            match self.ranks.size() {
                1 => String::new(),
                processes => format!(" in {processes} processes"),
            },
            config.optimizer,
            config.scaled_lr(),
            config.epochs,
            if config.epochs == 1.0 {
                "epoch"
            } else {
                "epochs"
            },
        ))
    }

    /// A checkpoint that is not used, since the run diverged after the one that it is resumed from, and
    /// what helps; `None` if it did not, or settings were changed since.
    pub fn diverged_before(&self) -> Option<(PathBuf, Vec<Remedy>)> {
        let position = self.resumed()?;
        let changed = |change: &checkpoint::Change| change.step == position.step;
        let aside = checkpoint::aside(&self.folder.checkpoints());
        let last = aside
            .last()
            .filter(|_| !position.changes.iter().any(changed));
        Some((last?.clone(), self.remedies()))
    }

    /// Trains until the schedule ends, or `stop` returns true after a step. Writes checkpoints, metrics,
    /// pictures and the report into the run's folder.
    ///
    /// # Errors
    /// [`RunError::Diverged`]; an error for which [`is_unreachable`](crate::Error::is_unreachable)
    /// returns true if images of another machine could not be fetched; whatever else ends a run. Its
    /// last checkpoint is intact then.
    pub fn train(self, stop: &dyn Fn() -> bool) -> Result<Outcome> {
        self.train_observed(stop, &mut [])
    }

    /// [`Session::train`] with further observers.
    ///
    /// # Errors
    /// As [`Session::train`].
    pub fn train_observed(
        mut self,
        stop: &dyn Fn() -> bool,
        further: &mut [&mut dyn Observer],
    ) -> Result<Outcome> {
        let (env, config, folder, plan) = (&self.env, &self.config, &self.folder, &self.plan);
        let source = &self.sources.train;
        let checkpoint = self.checkpoint.take();
        if checkpoint.is_some() {
            folder.recheck_skipped(env, source, &plan.crops, &plan.loader)?;
        }
        let changes = checkpoint
            .as_ref()
            .map_or_else(Vec::new, |checkpoint| checkpoint.position.changes.clone());
        let evaluator = (config.eval_every > 0)
            .then(|| Evaluator::among(self.ranks.clone(), config, &self.sources));
        let images = source.len();
        let mut observer = TrainObserver::new(env, config, folder, evaluator, images, changes);
        let mut stopper = StopOnRequest(stop);
        let mut observers: Vec<&mut dyn Observer> = vec![&mut observer, &mut stopper];
        observers.extend(
            further
                .iter_mut()
                .map(|observer| &mut **observer as &mut dyn Observer),
        );
        let checkpoints = folder.checkpoints();
        let ended = config.method(&self.device).and_then(|mut method| {
            method.keep_in(&folder.kept())?;
            let (ranks, source) = (self.ranks.clone(), source.clone());
            let trainer = Trainer::among(ranks, plan, method, source, &checkpoints, checkpoint)?;
            Ok(trainer.run(&mut observers)?)
        });
        drop(observers);
        drop(observer);
        // Also of a run that failed: its curves tell why.
        let summary = report::write(folder, config, &self.sources.description);
        let (_, ending) = match ended {
            Err(crate::Error::Train(source @ dinolab_train::Error::Diverged { .. })) => {
                return Err(RunError::Diverged {
                    run: folder.root().into(),
                    source,
                    remedies: self.remedies(),
                }
                .into());
            }
            ended => ended?,
        };
        let skipped = folder.skipped_file();
        let outcome = Outcome {
            ending,
            summary: summary?,
            skipped: skipped.exists().then(|| (folder.skipped(), skipped)),
            report: folder.join("report.html"),
        };
        drop(self.lock);
        Ok(outcome)
    }

    /// What helps if the run diverges.
    fn remedies(&self) -> Vec<Remedy> {
        after_divergence(&context(&self.config, self.images()))
    }
}
