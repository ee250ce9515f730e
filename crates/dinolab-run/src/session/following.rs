//! A session of several processes: the first one opens the run, the others follow it.

use dinolab_train::checkpoint::Checkpoint;
use dinolab_train::{Event, Method, Observer, Ranks, RunOutcome, Trainer};
use sha2::{Digest, Sha256};

use super::preparation::train_config;
use super::{Session, TrainRequest};
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::evaluator::Evaluator;
use crate::processes::Processes;
use crate::run_folder::{Contents, RunFolder, parse_toml};
use crate::settings::{Config, Settings};
use crate::sources::Sources;
use crate::train_observer::{StopOnRequest, observer_error};

/// Checks that all processes were given the same settings, but for those of a machine.
pub(super) fn same_settings(processes: &Processes, request: &TrainRequest) -> Result<()> {
    let mut settings = request.settings.clone();
    settings.device = None;
    settings.num_workers = None;
    settings.read_ahead = None;
    settings.cache_mb = None;
    let text = toml::to_string(&settings)?;
    let ranks = Ranks::new(processes.shared());
    let Some((rank, [first, other])) = ranks.differing(&text)? else {
        return Ok(());
    };
    let line = |text: &str, of: &str| {
        let lines: Vec<&str> = of.lines().collect();
        let own = text.lines().find(|line| !lines.contains(line));
        own.unwrap_or("nothing else").to_owned()
    };
    bail!(
        "the processes were given different settings: process 0 has {} and process {rank} has {}",
        line(&first, &other),
        line(&other, &first)
    )
}

/// Tells the others what the first process has opened.
pub(super) fn lead(session: Session<'_>) -> Result<Session<'_>> {
    let comm = session.ranks.comm();
    comm.broadcast(&mut toml::to_string(&session.config)?.into_bytes())
        .map_err(dinolab_train::Error::from)?;
    let mut checkpoint = match &session.checkpoint {
        Some(checkpoint) => std::fs::read(checkpoint.path())
            .with_context(|| format!("cannot read {}", checkpoint.path().display()))?,
        None => Vec::new(),
    };
    comm.broadcast(&mut checkpoint)
        .map_err(dinolab_train::Error::from)?;
    same_images(&session.ranks, &session.sources)?;
    Ok(session)
}

/// The session of a process that is not the first.
pub(super) fn join<'a>(
    env: &Environment<'a>,
    processes: &Processes,
    request: &TrainRequest,
) -> Result<Session<'a>> {
    // What happens is told by the first process.
    let env = Environment {
        events: &(),
        ..env.clone()
    };
    let received = || -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let received = processes.comm().broadcast(&mut bytes);
        received.map_err(dinolab_train::Error::from)?;
        Ok(bytes)
    };
    let text = received()?;
    let checkpoint = received()?;
    let mut settings: Settings = parse_toml(&String::from_utf8_lossy(&text))?;
    let own = &request.settings;
    settings.device = own.device.clone().or(settings.device);
    settings.read_ahead = own.read_ahead.or(settings.read_ahead);
    settings.cache_mb = own.cache_mb.or(settings.cache_mb);
    settings.num_workers = own
        .num_workers
        .or(processes.threads())
        .or(settings.num_workers);
    let sources = Sources::of(&env, &settings)?;
    let (config, choices): (Config, _) = settings.resolve(sources.train.len())?;
    let ranks = processes.ranks(&config)?;
    same_images(&ranks, &sources)?;
    let device = processes.device(&config.device)?;
    config
        .precision
        .check(&device)
        .of_setting("device", &config.device)?;
    let folder = RunFolder::new(&request.run);
    let checkpoint = match &checkpoint[..] {
        [] => None,
        bytes => Some(Checkpoint::of_bytes(&folder.checkpoints(), bytes)?),
    };
    let plan = train_config(&env, &config, &ranks, checkpoint.is_none())?;
    Ok(Session {
        env,
        ranks,
        folder,
        lock: None,
        config,
        choices,
        estimate: None,
        sources,
        plan,
        device,
        checkpoint,
    })
}

/// Checks that all processes have the same images.
fn same_images(ranks: &Ranks, sources: &Sources) -> Result<()> {
    let contents = Contents::of(sources);
    let text = contents.text();
    let digest = format!("{:x}", Sha256::digest(&text));
    if ranks.differing(&digest)?.is_none() {
        return Ok(());
    }
    let Some((rank, [first, other])) = ranks.differing(&text)? else {
        return Ok(());
    };
    let difference = Contents::of_text(&first).difference(&Contents::of_text(&other));
    bail!(
        "process {rank} has other images than process 0: {}",
        difference.unwrap_or_default()
    )
}

impl Session<'_> {
    /// Whether this is the process that prints, writes and evaluates, and whose [`Session::train`] is to
    /// be called; that of the others is [`Session::follow`].
    pub fn leads(&self) -> bool {
        self.ranks.leads()
    }

    /// Trains and evaluates with the first process, which all else is left to, until the schedule ends or `stop`
    /// returns true in any process.
    ///
    /// # Errors
    /// As [`Session::train`].
    pub fn follow(mut self, stop: &dyn Fn() -> bool) -> Result<RunOutcome> {
        let checkpoint = self.checkpoint.take();
        let method = self.config.method(&self.device)?;
        let (ranks, source) = (self.ranks.clone(), self.sources.train.clone());
        let folder = self.folder.checkpoints();
        let trainer = Trainer::among(ranks, &self.plan, method, source, &folder, checkpoint)?;
        let config = &self.config;
        let assistant = || Evaluator::among(self.ranks.clone(), config, &self.sources);
        let mut assistant = (config.eval_every > 0).then(|| Assistant(assistant()));
        let mut stopper = StopOnRequest(stop);
        let mut observers: Vec<&mut dyn Observer> = vec![&mut stopper];
        observers.extend(assistant.as_mut().map(|own| own as &mut dyn Observer));
        let (_, outcome) = trainer.run(&mut observers)?;
        Ok(outcome)
    }
}

/// Takes part in the evaluations of a run, in a process that is not the first.
struct Assistant(Evaluator);

impl Observer for Assistant {
    fn name(&self) -> &'static str {
        "assistant"
    }

    fn on(&mut self, event: &Event, method: &dyn Method) -> dinolab_train::Result<()> {
        match event {
            Event::Evaluate { .. } => {
                let done = self.0.assist(method.backbone());
                done.map_err(|error| observer_error(&error))
            }
            _ => Ok(()),
        }
    }
}
