//! A run as it stands: its charts, warnings, speed and remaining time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use dinolab_run::report::charts::{self, Line, number, of_kind};
use dinolab_run::run_folder::RunFolder;
use dinolab_run::settings::Work;
use dinolab_run::values::MethodKind;
use serde::Serialize;

use crate::tail::Tail;

/// Points of a line that the page gets at most.
const POINTS: usize = 600;
/// A run that has written nothing for so long does not train any more.
const SILENCE: Duration = Duration::from_secs(600);
/// Logged steps whose speeds are averaged.
const RECENT: usize = 20;

/// A run folder that is looked at again and again.
pub struct WatchedRun {
    /// The folder.
    pub root: PathBuf,
    /// Its name on the page.
    pub name: String,
    look: Mutex<Look>,
}

struct Look {
    metrics: Tail,
    timing: Tail,
    /// As the files were written last, of which it was read.
    recorded: ([Option<SystemTime>; 2], Arc<Recorded>),
    version: u64,
    latest: Arc<Snapshot>,
}

/// What a run does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// It trains.
    Training,
    /// All epochs are done.
    Finished,
    /// It was stopped before its end.
    Stopped,
    /// Its folder is not there any more.
    #[default]
    Gone,
}

/// A run at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Its number on the page.
    pub run: usize,
    /// Its name on the page.
    pub name: String,
    /// What it does.
    pub activity: Activity,
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run, if that is known.
    pub steps: Option<u64>,
    /// Epochs of the whole run, if that is known.
    pub epochs: Option<f64>,
    /// Images per second, recently.
    pub speed: Option<f64>,
    /// The fraction of the time spent waiting for data, recently.
    pub waiting: Option<f64>,
    /// Seconds until the last step, of a run that trains.
    pub seconds_left: Option<f64>,
    /// The newest warnings last.
    pub warnings: Vec<String>,
    /// The charts.
    pub charts: Vec<ChartData>,
}

/// A chart for the page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChartData {
    title: String,
    note: String,
    x: String,
    y: String,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl WatchedRun {
    /// The run in `root`, number `run` of the page.
    pub fn new(run: usize, root: &Path, name: String) -> Self {
        let look = Look {
            metrics: Tail::new(root.join("metrics.jsonl")),
            timing: Tail::new(root.join("timing.jsonl")),
            recorded: Default::default(),
            version: 0,
            latest: Arc::new(Snapshot {
                run,
                name: name.clone(),
                ..Snapshot::default()
            }),
        };
        Self {
            root: root.into(),
            name,
            look: Mutex::new(look),
        }
    }

    /// Looks at the folder. The version counts up with each change.
    pub fn snapshot(&self) -> (u64, Arc<Snapshot>) {
        // The values are whole even if a thread panicked.
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = [look.metrics.refresh(), look.timing.refresh()].contains(&true);
        let recorded = self.recorded(&mut look);
        let step = last_step(look.metrics.lines());
        let activity = self.activity(&recorded, step);
        if changed || look.version == 0 || look.latest.activity != activity {
            let mut made = recorded.snapshot(look.metrics.lines(), look.timing.lines(), activity);
            made.run = look.latest.run;
            made.name.clone_from(&self.name);
            look.latest = Arc::new(made);
            look.version += 1;
        }
        (look.version, look.latest.clone())
    }

    fn activity(&self, recorded: &Recorded, step: u64) -> Activity {
        if !self.root.is_dir() {
            return Activity::Gone;
        }
        if recorded.steps.is_some_and(|steps| step >= steps) {
            return Activity::Finished;
        }
        let locked = fs::metadata(self.root.join("lock")).is_ok_and(|lock| lock.len() > 0);
        let recent = |name: &str| {
            let modified = fs::metadata(self.root.join(name)).and_then(|file| file.modified());
            let age = modified.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
            age.is_ok_and(|age| age < SILENCE)
        };
        match locked
            && ["lock", "metrics.jsonl", "timing.jsonl"]
                .iter()
                .any(|n| recent(n))
        {
            true => Activity::Training,
            false => Activity::Stopped,
        }
    }

    /// Steps of an epoch, if that is known.
    pub fn steps_per_epoch(&self) -> Option<u64> {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        self.recorded(&mut look).steps_per_epoch
    }

    /// Reads what is recorded, unless that is as it was: the list of images may be long.
    fn recorded(&self, look: &mut Look) -> Arc<Recorded> {
        let written = ["config.toml", "images.tsv"].map(|name| {
            let file = fs::metadata(self.root.join(name));
            file.and_then(|file| file.modified()).ok()
        });
        if look.recorded.0 != written {
            look.recorded = (written, Arc::new(Recorded::of(&self.root)));
        }
        look.recorded.1.clone()
    }
}

fn last_step(metrics: &[Line]) -> u64 {
    let step = metrics.iter().rev().find_map(|line| number(line, "step"));
    step.unwrap_or(0.0) as u64
}

/// What `config.toml` says of a run's length.
#[derive(Default)]
struct Recorded {
    epochs: Option<f64>,
    steps: Option<u64>,
    steps_per_epoch: Option<u64>,
    images_per_step: Option<f64>,
    work: Option<Work>,
    prototypes: Option<usize>,
}

impl Recorded {
    /// Of a file that cannot be read, nothing is known.
    fn of(root: &Path) -> Self {
        let folder = RunFolder::new(root);
        let settings = folder.settings().ok().flatten().unwrap_or_default();
        let epochs = settings.epochs;
        let images = match &settings.images {
            Some(images) if !images.as_os_str().is_empty() => training_images(root),
            _ => settings.shapes_images,
        };
        let (batch, accumulate) = (settings.batch_size, settings.accumulate.unwrap_or(1));
        let steps_per_epoch = images.zip(batch).and_then(|(images, batch)| {
            dinolab_train::steps_per_epoch(images, batch, accumulate).ok()
        });
        let steps = epochs
            .zip(steps_per_epoch)
            .map(|(epochs, steps)| (epochs * steps as f64).round() as u64);
        let of_prototypes = settings.method.is_none_or(MethodKind::has_prototypes);
        let prototypes = settings.out_dim.filter(|_| of_prototypes);
        let work = steps.zip(steps_per_epoch).zip(images);
        let work = work.map(|((steps, steps_per_epoch), images)| {
            let config = settings.resolve(images);
            let work = config.and_then(|(config, _)| Work::new(&config, steps, steps_per_epoch));
            work.unwrap_or(Work::uniform(steps))
        });
        Self {
            epochs,
            steps,
            steps_per_epoch,
            images_per_step: batch.map(|batch| (batch * accumulate) as f64),
            work,
            prototypes,
        }
    }

    fn snapshot(&self, metrics: &[Line], timing: &[Line], activity: Activity) -> Snapshot {
        let step = last_step(metrics).max(last_step(timing));
        let recent = |key: &str| {
            let values: Vec<f64> = timing
                .iter()
                .rev()
                .filter_map(|line| number(line, key))
                .take(RECENT)
                .collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let speed = recent("images_per_second");
        // In steps as fast as the last one.
        let left = self
            .work
            .map(|work| work.left(step) / work.cost(step.saturating_sub(1)));
        let seconds_left = match (left, self.images_per_step, speed) {
            (Some(left), Some(images), Some(speed)) if speed > 0.0 => Some(left * images / speed),
            _ => None,
        };
        let charts = charts::of(metrics, timing, self.prototypes);
        Snapshot {
            step,
            activity,
            steps: self.steps,
            epochs: self.epochs,
            speed,
            waiting: recent("waited_for_data"),
            seconds_left: seconds_left.filter(|_| activity == Activity::Training),
            warnings: warnings(metrics),
            charts: charts
                .iter()
                .map(|chart| ChartData {
                    title: chart.title.clone(),
                    note: chart.note.clone(),
                    x: chart.x_label.clone(),
                    y: chart.y_label.clone(),
                    lines: chart.thinned(POINTS),
                })
                .collect(),
            ..Snapshot::default()
        }
    }
}

/// Images to train on, by `images.tsv`.
fn training_images(root: &Path) -> Option<usize> {
    let text = fs::read_to_string(root.join("images.tsv")).ok()?;
    let count = text
        .lines()
        .filter(|line| line.starts_with("train\t"))
        .count();
    (count > 0).then_some(count)
}

/// Each warning once, with the epochs that have it.
fn warnings(metrics: &[Line]) -> Vec<String> {
    let mut epochs: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for line in of_kind(metrics, "epoch") {
        let epoch = number(line, "epoch").unwrap_or(0.0) + 1.0;
        let texts = line.get("warnings").and_then(|texts| texts.as_array());
        for text in texts.into_iter().flatten().filter_map(|text| text.as_str()) {
            epochs.entry(text).or_insert((epoch, epoch)).1 = epoch;
        }
    }
    let mut found: Vec<_> = epochs.into_iter().collect();
    found.sort_by(|a, b| a.1.1.total_cmp(&b.1.1));
    found
        .into_iter()
        .map(|(text, (first, last))| match first == last {
            true => format!("Epoch {first}: {text}"),
            false => format!("Epochs {first}–{last}: {text}"),
        })
        .collect()
}
