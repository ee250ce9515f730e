//! Why a run cannot start, resume or continue.

use std::path::{Path, PathBuf};

use super::Error;
use crate::health::Remedy;

/// A setting, by its name, and a value as it is written.
pub type SettingValue = (String, String);

/// A run that cannot start, resume or continue. What to do about it is for the caller to say, who
/// knows how runs are started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Another process is at work in the folder.
    #[error("{} is in use by {holder}", run.display())]
    InUse {
        /// The run's folder.
        run: PathBuf,
        /// The process, in words.
        holder: String,
    },
    /// Another process has begun a run in the folder while this one was about to.
    #[error("{} was taken by a run of another process in the meantime", run.display())]
    Taken {
        /// The run's folder.
        run: PathBuf,
    },
    /// The folder holds converted weights.
    #[error("{} holds weights from elsewhere, not a run to resume", run.display())]
    WeightsOnly {
        /// The run's folder.
        run: PathBuf,
    },
    /// There is no checkpoint to resume from.
    #[error(
        "{} holds no {}checkpoint", run.display(), if *diverged { "sound " } else { "" }
    )]
    NothingToResume {
        /// The run's folder.
        run: PathBuf,
        /// Whether there were some, and the run diverged from its beginning.
        diverged: bool,
    },
    /// Settings are to change, and no checkpoint is sound.
    #[error("no checkpoint of {} is sound (that of step {step}: {doubt})", run.display())]
    NoneSound {
        /// The run's folder.
        run: PathBuf,
        /// Steps done at the newest checkpoint.
        step: u64,
        /// What is wrong with it.
        doubt: String,
    },
    /// A setting is to change that cannot.
    #[error("{setting} cannot change during a run, because {reason}")]
    Fixed {
        /// The run's folder.
        run: PathBuf,
        /// The first such setting.
        setting: String,
        /// Why it cannot.
        reason: &'static str,
        /// All settings that differ, with their new values.
        changes: Vec<SettingValue>,
    },
    /// Settings differ from the run's.
    #[error("{} holds a run with another {}", run.display(), listed(changes))]
    OtherSettings {
        /// The run's folder.
        run: PathBuf,
        /// The settings that differ, with the values that were asked for.
        changes: Vec<SettingValue>,
        /// Whether all of them may change in the course of a run.
        changeable: bool,
    },
    /// The run has done more epochs than it is to have.
    #[error("epochs {epochs}: the run has already completed {done} epoch{}", plural(*done))]
    TooFewEpochs {
        /// Epochs asked for.
        epochs: f64,
        /// Epochs done.
        done: u64,
        /// Epochs that the run has.
        before: f64,
    },
    /// The run started from other weights.
    #[error("{} holds a run that started from other weights ({})", run.display(), or_none(before))]
    OtherWeights {
        /// The run's folder.
        run: PathBuf,
        /// Those weights; empty for random ones.
        before: PathBuf,
    },
    /// The run is one on other images.
    #[error("{} holds a run on other images: {difference}", run.display())]
    OtherImages {
        /// The run's folder.
        run: PathBuf,
        /// How they differ, in words.
        difference: String,
        /// The images that were asked for; `None` for the built-in shapes.
        images: Option<PathBuf>,
    },
    /// The images of a run that is to be resumed cannot be opened.
    #[error("the run's images: {source}")]
    ImagesMissing {
        /// The run's folder.
        run: PathBuf,
        /// What went wrong.
        source: Box<Error>,
    },
    /// Training diverged.
    #[error("{source}")]
    Diverged {
        /// The run's folder.
        run: PathBuf,
        /// What was seen, and which checkpoints are sound.
        source: dinolab_train::Error,
        /// What helps, the likeliest first.
        remedies: Vec<Remedy>,
    },
}

/// The ending of the noun after a number.
fn plural(count: u64) -> &'static str {
    match count {
        1 => "",
        _ => "s",
    }
}

fn listed(changes: &[SettingValue]) -> String {
    let names: Vec<&str> = changes.iter().map(|(name, _)| name.as_str()).collect();
    names.join(", ")
}

/// A path in words.
pub fn or_none(path: &Path) -> String {
    match path.as_os_str().is_empty() {
        true => "none".into(),
        false => path.display().to_string(),
    }
}
