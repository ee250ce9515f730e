//! The run folder: `config.toml`, `metrics.jsonl`, `timing.jsonl`, `skipped.tsv`,
//! `checkpoints/`, `index/` (features of `neighbours`), `pictures/`, `report.html`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinolab_data::loader::BadImage;
use dinolab_train::checkpoint::{Checkpoint, write_atomically};

use crate::settings::{Config, Settings};

/// Settings that may change when a run goes on: they do not touch its results.
const FREE: [&str; 9] = [
    "num_workers",
    "read_ahead",
    "cache_mb",
    "device",
    "stop_after_epochs",
    "checkpoint_every",
    "checkpoint_every_steps",
    "saveckp_freq",
    "max_bad_images",
];

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

    /// Removes an earlier run's files, and nothing else.
    pub fn clear(&self) -> Result<()> {
        for name in [
            "config.toml",
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

    /// Makes the folder and records the configuration; returns the checkpoint to go on from.
    /// Damaged checkpoints are passed over with a word.
    pub fn open(&self, config: &Config, resume: bool) -> Result<Option<Checkpoint>> {
        let found = Checkpoint::latest(&self.checkpoints())?;
        if let Some((checkpoint, damaged)) = &found {
            for error in damaged {
                errln!("warning: {error}; using the one before it");
            }
            if !checkpoint.position.is_of_a_run() {
                bail!(
                    "{0} holds weights from elsewhere, no run to go on with; start from them \
                     with --weights {0} and another --out",
                    self.root.display()
                );
            }
            let before: Config = parse_toml(&checkpoint.position.config).with_context(|| {
                format!("the configuration of the run in {}", self.root.display())
            })?;
            let differences: Vec<_> = before
                .differences(config)
                .into_iter()
                .filter(|name| !FREE.contains(name))
                .map(|name| format!("--{}", name.replace('_', "-")))
                .collect();
            if !differences.is_empty() {
                bail!(
                    "{} holds a run with another {}; give the same settings to resume it, \
                     another --out for a new run, or --fresh to start over",
                    self.root.display(),
                    differences.join(", ")
                );
            }
        } else if resume {
            bail!("--resume: {} holds no checkpoint", self.root.display());
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
        Ok(found.map(|(checkpoint, _)| checkpoint))
    }

    /// Records the images that were skipped, beside those recorded before a run was resumed.
    pub fn write_skipped(&self, images: &[BadImage]) -> Result<()> {
        let path = self.join("skipped.tsv");
        let before = fs::read_to_string(&path).unwrap_or_default();
        let mut reasons: BTreeMap<&str, &str> = before
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect();
        reasons.extend(
            images
                .iter()
                .map(|bad| (bad.name.as_str(), bad.reason.as_str())),
        );
        let lines: String = reasons
            .iter()
            .map(|(name, reason)| format!("{name}\t{reason}\n"))
            .collect();
        Ok(write_atomically(&path, lines.as_bytes())?)
    }
}

/// Settings from a TOML file; unknown keys are errors.
pub fn read_settings(path: &Path) -> Result<Settings> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_toml(&text).with_context(|| format!("{}", path.display()))
}

/// Values from TOML; an error in one line, without the picture of the place.
fn parse_toml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
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
