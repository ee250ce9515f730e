//! The run folder: `config.toml`, `metrics.jsonl`, `timing.jsonl`, `skipped.tsv`,
//! `checkpoints/`, `pictures/`, `report.html`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinolab_data::loader::BadImage;
use dinolab_train::checkpoint::{Checkpoint, write_atomically};

use crate::settings::{Config, Settings};

/// Settings that may change when a run goes on: they do not touch its results.
const FREE: [&str; 8] = [
    "num_workers",
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
        for name in ["config.toml", "metrics.jsonl", "timing.jsonl", "skipped.tsv", "report.html"] {
            remove(&self.join(name), |path| fs::remove_file(path))?;
        }
        for name in ["checkpoints", "pictures"] {
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
                eprintln!("warning: {error}; using the one before it");
            }
            let before: Config = toml::from_str(&checkpoint.position.config)
                .with_context(|| format!("the configuration of the run in {}", self.root.display()))?;
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
        }
        fs::create_dir_all(self.join("pictures"))
            .with_context(|| format!("cannot make the run folder {}", self.root.display()))?;
        write_atomically(&self.join("config.toml"), toml::to_string(config)?.as_bytes())?;
        Ok(found.map(|(checkpoint, _)| checkpoint))
    }

    /// Records the images that were skipped.
    pub fn write_skipped(&self, images: &[BadImage]) -> Result<()> {
        let lines: String =
            images.iter().map(|bad| format!("{}\t{}\n", bad.name, bad.reason)).collect();
        Ok(write_atomically(&self.join("skipped.tsv"), lines.as_bytes())?)
    }
}

/// Settings from a TOML file; unknown keys are errors.
pub fn read_settings(path: &Path) -> Result<Settings> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{}", path.display()))
}

fn remove(path: &Path, how: impl Fn(&Path) -> std::io::Result<()>) -> Result<()> {
    match how(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
