//! The run folder: `config.toml`, `images.tsv`, `metrics.jsonl`, `timing.jsonl`, `skipped.tsv`,
//! `checkpoints/`, `index/` (features of `neighbours`), `pictures/`, `report.html`, `lock`.

pub(crate) mod contents;
mod lock;
mod skipped;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dinolab_train::checkpoint::{self, Change, Checkpoint, write_atomically};

pub use self::contents::Contents;
pub use self::lock::Lock;

use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::error::{RunError, SettingValue, or_none};
use crate::event::Event;
use crate::hub;
use crate::settings::{Config, Meaning, Settings, meaning};

/// The folder of what a method would compute again.
const KEPT: &str = "teacher-outputs";

/// A run's folder.
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// The folder at `root`, which need not exist.
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where checkpoints are.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Where a method keeps what it would compute again: the outputs of a teacher.
    pub fn kept(&self) -> PathBuf {
        self.root.join(KEPT)
    }

    /// A file or folder inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The recorded settings, if there is a run.
    ///
    /// # Errors
    /// A file that cannot be read, or holds other keys.
    pub fn settings(&self) -> Result<Option<Settings>> {
        let path = self.join("config.toml");
        if !path.exists() {
            return Ok(None);
        }
        read_settings(&path).map(Some)
    }

    /// Takes the folder's lock; where there is no run yet, only if it is to be begun now.
    ///
    /// # Errors
    /// [`RunError::InUse`].
    pub fn lock(&self, env: &Environment<'_>, begin: bool) -> Result<Option<Lock>> {
        let run = [lock::NAME, "config.toml", "checkpoints"];
        let there = run.iter().any(|name| self.join(name).exists());
        (there || begin)
            .then(|| Lock::take(env, &self.root))
            .transpose()
    }

    /// Removes what [`RunFolder::open`] has made where a run could not begin, as on a full disk; the
    /// folder too, unless something else is in it.
    pub fn abandon(&self, lock: Option<Lock>) {
        dinolab_files::remove_unfinished(&self.root);
        for name in ["config.toml", "images.tsv", lock::NAME] {
            let _ = fs::remove_file(self.join(name));
        }
        let _ = fs::remove_dir(self.join("pictures"));
        drop(lock);
        let _ = fs::remove_dir(&self.root);
    }

    /// Removes an earlier run's files, and nothing else. The lock stays.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn clear(&self) -> Result<()> {
        for name in [
            "config.toml",
            "images.tsv",
            "metrics.jsonl",
            "timing.jsonl",
            "skipped.tsv",
            "report.html",
        ] {
            remove(&self.join(name), |path| fs::remove_file(path))?;
        }
        for name in ["checkpoints", "index", "pictures", KEPT] {
            remove(&self.join(name), |path| fs::remove_dir_all(path))?;
        }
        crate::tensorboard::clear(&self.root)
            .with_context(|| format!("cannot clear {}", self.root.display()))
    }

    /// The checkpoint to resume from: the newest whole one or, where settings are to `change`, the
    /// newest sound one. Damaged ones are skipped with a warning.
    ///
    /// # Errors
    /// [`RunError::WeightsOnly`], [`RunError::NoneSound`], and checkpoints of which all are damaged.
    pub fn newest(&self, env: &Environment<'_>, change: bool) -> Result<Option<Checkpoint>> {
        let Some((newest, damaged)) = Checkpoint::latest(&self.checkpoints())? else {
            return Ok(None);
        };
        for error in damaged {
            env.warn(&format!("{error}; using the one before it"));
        }
        if !newest.position.is_resumable() {
            let run = self.root.clone();
            return Err(RunError::WeightsOnly { run }.into());
        }
        let Some(doubt) = newest.doubt().filter(|_| change) else {
            return Ok(Some(newest));
        };
        let step = newest.position.step;
        drop(newest);
        match Checkpoint::newest_sound(&self.checkpoints()) {
            Some(sound) => {
                env.events.hear(Event::WentBack {
                    to: sound.position.step,
                    from: step,
                    doubt: &doubt,
                });
                Ok(Some(sound))
            }
            None => {
                let run = self.root.clone();
                Err(RunError::NoneSound { run, step, doubt }.into())
            }
        }
    }

    /// Makes the folder and records configuration and images; returns the checkpoint to resume
    /// from, with its configuration brought up to date.
    ///
    /// # Errors
    /// [`RunError`] for a run on other images or with other settings; files that cannot be written.
    pub fn open(
        &self,
        env: &Environment<'_>,
        config: &Config,
        found: Option<Checkpoint>,
        change: bool,
        contents: Option<&Contents>,
        facts: &BTreeMap<String, String>,
    ) -> Result<Option<Checkpoint>> {
        for folder in [&self.root, &self.checkpoints(), &self.join("pictures")] {
            dinolab_files::remove_unfinished(folder);
        }
        let mut resumed = None;
        if let Some(mut checkpoint) = found {
            let before: Config = parse_toml(&checkpoint.position.config).with_context(|| {
                format!("the configuration of the run in {}", self.root.display())
            })?;
            // Numbers that follow the images' number differ with them; the images are the cause.
            let drawn = |config: &Config| (config.seed, config.holdout, config.pixels());
            if drawn(&before) == drawn(config) {
                self.compare(&before, config, contents)?;
            }
            let changes = self.changes(&before, config, &checkpoint, change)?;
            let folder = self.checkpoints();
            let newest = checkpoint::list(&folder).first().cloned();
            if change && newest.as_deref() != Some(checkpoint.path()) {
                checkpoint::set_aside(&folder, Some(checkpoint.position.step))?;
            }
            if !changes.is_empty() {
                // The checkpoint first: it says what the run's settings are.
                checkpoint.reconfigure(&toml::to_string(config)?, changes, facts)?;
            }
            resumed = Some(checkpoint);
        } else {
            // What an attempt without a checkpoint skipped says nothing of this run.
            remove(&self.join("skipped.tsv"), |path| fs::remove_file(path))?;
        }
        fs::create_dir_all(self.join("pictures"))
            .with_context(|| format!("cannot make the run folder {}", self.root.display()))?;
        write_atomically(
            &self.join("config.toml"),
            toml::to_string(config)?.as_bytes(),
        )?;
        let path = self.join("images.tsv");
        match contents {
            Some(contents) if resumed.is_none() => contents.write(&path)?,
            Some(contents) if !path.exists() => {
                contents.write(&path)?;
                env.events.hear(Event::ImagesRecorded);
            }
            Some(_) => {}
            None => remove(&path, |path| fs::remove_file(path))?,
        }
        Ok(resumed)
    }

    /// The settings that change as a run is resumed. An error where they may not.
    fn changes(
        &self,
        before: &Config,
        now: &Config,
        checkpoint: &Checkpoint,
        asked: bool,
    ) -> Result<Vec<Change>> {
        let differences = before.differences(now);
        let of = |wanted: fn(Meaning) -> bool| -> Vec<&str> {
            let names = differences.iter().copied();
            names.filter(|name| wanted(meaning(name))).collect()
        };
        let fixed = of(|meaning| matches!(meaning, Meaning::Fixed(_)));
        let changeable = of(|meaning| meaning == Meaning::Changeable);
        let values = |names: &[&str]| -> Vec<SettingValue> {
            let one = |name: &&str| (name.replace('_', "-"), now.value(name));
            names.iter().map(one).collect()
        };
        let all: Vec<&str> = fixed.iter().chain(&changeable).copied().collect();
        let (run, changes) = (self.root.clone(), values(&all));
        if let (Some(first), true) = (fixed.first(), asked) {
            let Meaning::Fixed(reason) = meaning(first) else {
                unreachable!("it was chosen by its meaning");
            };
            return Err(RunError::Fixed {
                run,
                setting: first.replace('_', "-"),
                reason,
                changes,
            }
            .into());
        }
        if !(asked || all.is_empty()) {
            return Err(RunError::OtherSettings {
                run,
                changes,
                changeable: fixed.is_empty(),
            }
            .into());
        }
        if let Some(done) = checkpoint
            .epoch
            .filter(|&done| changeable.contains(&"epochs") && now.epochs < done as f64)
        {
            return Err(RunError::TooFewEpochs {
                epochs: now.epochs,
                done,
                before: before.epochs,
            }
            .into());
        }
        let change = |name: &&str| Change {
            step: checkpoint.position.step,
            setting: name.replace('_', "-"),
            from: before.value(name),
            to: now.value(name),
        };
        Ok(changeable.iter().map(change).collect())
    }

    /// An error if a run is to be resumed with other images or weights.
    fn compare(&self, before: &Config, now: &Config, contents: Option<&Contents>) -> Result<()> {
        let run = || self.root.clone();
        if !same_place(&before.weights, &now.weights) {
            return Err(RunError::OtherWeights {
                run: run(),
                before: before.weights.clone(),
            }
            .into());
        }
        let refused = |difference: &str| -> Error {
            let images = Some(&now.images).filter(|path| !path.as_os_str().is_empty());
            RunError::OtherImages {
                run: run(),
                difference: difference.to_owned(),
                images: images.cloned(),
            }
            .into()
        };
        let recorded = Contents::read(&self.join("images.tsv"))?;
        match (recorded, contents) {
            (Some(recorded), Some(contents)) => match recorded.difference(contents) {
                Some(what) => Err(refused(&what)),
                None => Ok(()),
            },
            _ if same_place(&before.images, &now.images) && same_place(&before.val, &now.val) => {
                Ok(())
            }
            _ => Err(refused(&format!(
                "{} and not {}",
                or_none(&before.images),
                or_none(&now.images)
            ))),
        }
    }
}

/// Settings from a TOML file; unknown keys are errors.
///
/// # Errors
/// A file that cannot be read, keys that there are not, values of other types.
pub fn read_settings(path: &Path) -> Result<Settings> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let settings: Settings = parse_toml(&text).with_context(|| format!("{}", path.display()))?;
    Ok(settings.with_settings_of_before())
}

/// Whether two paths lead to the same place, however they are spelled.
fn same_place(a: &Path, b: &Path) -> bool {
    let same = || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    absolute(a) == absolute(b) || same()
}

/// A path that means the same from every working directory; locations of other machines, addresses of the hub
/// and empty paths as they are.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    let elsewhere = dinolab_data::source::is_remote(path) || hub::is_address(path);
    if path.as_os_str().is_empty() || elsewhere {
        return path.into();
    }
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// Values from TOML; an error in one line, without the picture of the place.
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(0, |before| before.matches('\n').count()) + 1;
        Error::Invalid(format!("line {line}: {}", error.message()))
    })
}

fn remove(path: &Path, how: impl Fn(&Path) -> std::io::Result<()>) -> Result<()> {
    match how(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
