//! The run folder: `config.toml`, `images.tsv`, `metrics.jsonl`, `timing.jsonl`, `skipped.tsv`,
//! `checkpoints/`, `index/` (features of `neighbours`), `pictures/`, `report.html`, `lock`.

mod contents;
mod lock;
mod skipped;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinolab_train::checkpoint::{self, Change, Checkpoint, write_atomically};

pub use self::contents::Contents;
pub use self::lock::Lock;

use crate::run_commands::{Commands, Flag};
use crate::settings::{Config, Meaning, Settings, flag, meaning};

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

    /// A file or folder inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The recorded settings, where there is a run.
    pub fn settings(&self) -> Result<Option<Settings>> {
        let path = self.join("config.toml");
        if !path.exists() {
            return Ok(None);
        }
        read_settings(&path).map(Some)
    }

    /// The commands that messages about this run suggest.
    pub fn commands(&self) -> Commands<'_> {
        Commands::new(&self.root)
    }

    /// Takes the folder's lock; where there is no run yet, only if it is to be begun now.
    pub fn lock(&self, begin: bool) -> Result<Option<Lock>> {
        let run = [lock::NAME, "config.toml", "checkpoints"];
        let there = run.iter().any(|name| self.join(name).exists());
        (there || begin).then(|| Lock::take(&self.root)).transpose()
    }

    /// Removes what [`RunFolder::open`] has made where a run could not begin, as on a full disk; the
    /// folder too, unless something else is in it.
    pub fn abandon(&self, lock: Option<Lock>) {
        checkpoint::remove_unfinished(&self.root);
        for name in ["config.toml", "images.tsv", lock::NAME] {
            let _ = fs::remove_file(self.join(name));
        }
        let _ = fs::remove_dir(self.join("pictures"));
        drop(lock);
        let _ = fs::remove_dir(&self.root);
    }

    /// Removes an earlier run's files, and nothing else. The lock stays.
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
        for name in ["checkpoints", "index", "pictures"] {
            remove(&self.join(name), |path| fs::remove_dir_all(path))?;
        }
        Ok(())
    }

    /// The checkpoint to resume from: the newest whole one or, where settings are to `change`, the
    /// newest sound one. Damaged ones are skipped with a warning.
    pub fn newest(&self, change: bool) -> Result<Option<Checkpoint>> {
        let Some((newest, damaged)) = Checkpoint::latest(&self.checkpoints())? else {
            return Ok(None);
        };
        for error in damaged {
            errln!("warning: {error}; using the one before it");
        }
        if !newest.position.is_of_a_run() {
            bail!(
                "{0} holds weights from elsewhere, no run to go on with; start from them \
                 with --weights {0} and another --out",
                self.root.display()
            );
        }
        let Some(doubt) = newest.doubt().filter(|_| change) else {
            return Ok(Some(newest));
        };
        let step = newest.position.step;
        drop(newest);
        match Checkpoint::newest_sound(&self.checkpoints()) {
            Some(sound) => {
                outln!(
                    "going back to step {}: the checkpoint of step {step} is not sound ({doubt})",
                    sound.position.step
                );
                Ok(Some(sound))
            }
            None => bail!(
                "--change-settings: no checkpoint of {} is sound (that of step {step}: {doubt}); \
                 start over with the changed settings: {}",
                self.root.display(),
                self.commands().start_over(&[])
            ),
        }
    }

    /// Makes the folder and records configuration and images; returns the checkpoint to go on
    /// from, with its configuration brought up to date.
    pub fn open(
        &self,
        config: &Config,
        found: Option<Checkpoint>,
        change: bool,
        contents: Option<&Contents>,
        facts: &BTreeMap<String, String>,
    ) -> Result<Option<Checkpoint>> {
        for folder in [&self.root, &self.checkpoints()] {
            checkpoint::remove_unfinished(folder);
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
                outln!("the run had no record of its images; they are listed in images.tsv now");
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
        let flags = |names: &[&str]| -> Vec<Flag> {
            let one = |name: &&str| (name.replace('_', "-"), now.value(name));
            names.iter().map(one).collect()
        };
        let listed = |names: &[&str]| names.iter().map(|name| flag(name)).collect::<Vec<_>>();
        let all: Vec<&str> = fixed.iter().chain(&changeable).copied().collect();
        if let (Some(first), true) = (fixed.first(), asked) {
            let Meaning::Fixed(reason) = meaning(first) else {
                unreachable!("it was chosen by its meaning");
            };
            bail!(
                "--change-settings: {} cannot change in the course of a run, since {reason}; start \
                 a new one: {}",
                flag(first),
                self.commands().new_run(&flags(&all))
            );
        }
        if !(asked || all.is_empty()) {
            let change = match fixed.is_empty() {
                true => format!(
                    "; or resume it with the changed ones: {}",
                    self.commands().change(&flags(&changeable))
                ),
                false => String::new(),
            };
            bail!(
                "{} holds a run with another {}; resume it with its own settings: {}{change}; or give \
                 another --out for a new run, or --fresh to start over",
                self.root.display(),
                listed(&all).join(", "),
                self.commands().resume(),
            );
        }
        if let Some(done) = checkpoint
            .epoch
            .filter(|&done| changeable.contains(&"epochs") && now.epochs < done as f64)
        {
            bail!(
                "--epochs {}: the run has done {done} epochs already; give more, or none for the \
                 {} that it has",
                now.epochs,
                before.epochs
            );
        }
        let change = |name: &&str| Change {
            step: checkpoint.position.step,
            setting: name.replace('_', "-"),
            from: before.value(name),
            to: now.value(name),
        };
        Ok(changeable.iter().map(change).collect())
    }

    /// An error where a run is to go on with other images or from other weights.
    fn compare(&self, before: &Config, now: &Config, contents: Option<&Contents>) -> Result<()> {
        if !same_place(&before.weights, &now.weights) {
            bail!(
                "{} holds a run that started from other --weights ({}); resume it without the flag: \
                 {}; or give another --out for a new run",
                self.root.display(),
                or_none(&before.weights),
                self.commands().resume()
            );
        }
        let refused = |what: &str| {
            let images = Some(&*now.images).filter(|path| !path.as_os_str().is_empty());
            anyhow::anyhow!(
                "{} holds a run on other images: {what}; put them back to resume it, or start a new \
                 run from its weights: {}; or start over with --fresh",
                self.root.display(),
                self.commands().new_run_from_weights(images)
            )
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
pub fn read_settings(path: &Path) -> Result<Settings> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_toml(&text).with_context(|| format!("{}", path.display()))
}

/// Whether two paths lead to the same place, however they are spelled.
fn same_place(a: &Path, b: &Path) -> bool {
    let same = || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    absolute(a) == absolute(b) || same()
}

/// A path that means the same from every working directory; locations of other machines and empty
/// paths as they are.
pub fn absolute(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() || dinolab_data::source::is_remote(path) {
        return path.into();
    }
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

fn or_none(path: &Path) -> String {
    match path.as_os_str().is_empty() {
        true => "none".into(),
        false => path.display().to_string(),
    }
}

/// Values from TOML; an error in one line, without the picture of the place.
pub fn parse_toml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(0, |before| before.matches('\n').count()) + 1;
        anyhow::anyhow!("line {line}: {}", error.message())
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
