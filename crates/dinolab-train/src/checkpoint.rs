//! Checkpoints: everything a run needs to resume as if it had never stopped.
//!
//! One safetensors file per checkpoint, so that any tool reads the weights: the method's named
//! tensors (for DINO `student.*`, `teacher.*`, `centre`, `optimiser.<slot>.*`), and in the metadata the
//! run's position, counts, the observers' state and a checksum. Random draws are functions of
//! (seed, epoch, image), so that the position *is* the state of the generators.

mod folder;
mod weights;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dinolab_nn::weights::{Array, file_arrays, to_bytes};

use crate::method::Method;
use crate::soundness::Soundness;
use crate::state::json;
use crate::{Error, Result, State};

pub use self::folder::{aside, list, prune, set_aside};

/// Format version; incremented when older versions of the program cannot read the file.
const VERSION: u32 = 1;
/// Metadata that holds the epochs done.
pub(crate) const EPOCH: &str = "epoch";
/// Metadata that holds [`YES`], or why the checkpoint is not sound.
pub(crate) const SOUND: &str = "sound";
pub(crate) const YES: &str = "yes";
/// The name of the one observer that had a state before there could be several.
const MONITOR: &str = "monitor";

/// The state of a run beside its tensors.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TrainState {
    /// Optimiser steps done.
    pub step: u64,
    /// The states of the run's observers, by their names.
    #[serde(deserialize_with = "observers")]
    pub observers: BTreeMap<String, String>,
    /// The run's configuration, as TOML.
    pub config: String,
    /// How sound the run's steps were; absent in checkpoints from before it was recorded.
    #[serde(default)]
    pub soundness: Option<Soundness>,
    /// Settings that were changed in the course of the run, oldest first.
    #[serde(default)]
    pub changes: Vec<Change>,
}

/// A setting that was changed between two steps of a run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// Steps done with the value before.
    pub step: u64,
    /// The setting, by its key in the configuration.
    pub setting: String,
    /// The value before, as the configuration has it.
    pub from: String,
    /// The value since.
    pub to: String,
}

/// `lr 0.001 (before step 100, 0.002)`.
impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            step,
            setting,
            from,
            to,
        } = self;
        write!(f, "{setting} {to} (before step {step}, {from})")
    }
}

impl TrainState {
    /// Whether a run wrote it; else it holds weights from elsewhere ([`save_weights`]).
    pub fn is_resumable(&self) -> bool {
        !self.config.is_empty()
    }
}

/// Observers' states; a single one without a name in checkpoints from before there could be
/// several.
fn observers<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Observers {
        Single(String),
        Named(BTreeMap<String, String>),
    }
    let name = |state| BTreeMap::from([(MONITOR.to_owned(), state)]);
    Ok(match serde::Deserialize::deserialize(from)? {
        Observers::Single(state) if state.is_empty() => BTreeMap::new(),
        Observers::Single(state) => name(state),
        Observers::Named(states) => states,
    })
}

/// The name of the checkpoint after `step` steps.
pub fn file_name(step: u64) -> String {
    format!("step-{step:09}.safetensors")
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |source| Error::Io {
        path: path.into(),
        source,
    }
}

fn bad(path: &Path, reason: impl Into<String>) -> Error {
    Error::BadCheckpoint {
        path: path.into(),
        reason: reason.into(),
    }
}

/// [`dinolab_files::write_atomically`], with this crate's error.
///
/// # Errors
/// [`Error::Io`].
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    dinolab_files::write_atomically(path, bytes).map_err(io(path))
}

/// Of everything a checkpoint says, but the checksum itself.
fn checksum(arrays: &BTreeMap<String, Array>, facts: &BTreeMap<String, String>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for (name, fact) in facts.iter().filter(|(name, _)| *name != "checksum") {
        hasher.update(format!("{name}={fact}\n").as_bytes());
    }
    for (name, array) in arrays {
        hasher.update(format!("{name} {:?}\n", array.shape).as_bytes());
        for chunk in array.data.chunks(4096) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
            hasher.update(&bytes);
        }
    }
    hasher.finalize()
}

/// Writes a checkpoint into `folder` and points `latest` at it. `metadata` is written beside the
/// method's own and the run's.
///
/// # Errors
/// [`Error::Io`]; [`Error::NonFiniteValues`] where a value is not finite. An earlier checkpoint is
/// then untouched.
pub fn save(
    folder: &Path,
    method: &dyn Method,
    position: &TrainState,
    metadata: &BTreeMap<String, String>,
) -> Result<PathBuf> {
    fs::create_dir_all(folder).map_err(io(folder))?;
    let state = method.state();
    if let Some(tensor) = state.not_finite() {
        return Err(Error::NonFiniteValues {
            step: position.step,
            tensor: tensor.clone(),
        });
    }
    let mut facts = metadata.clone();
    facts.extend(method.metadata());
    facts.extend([
        ("dinolab_version".to_owned(), VERSION.to_string()),
        ("position".into(), json(position)),
        ("optimiser_steps".into(), json(&state.steps)),
    ]);
    let path = folder.join(file_name(position.step));
    write(&path, &state.tensors, &mut facts)?;
    write_atomically(&folder.join("latest"), file_name(position.step).as_bytes())?;
    Ok(path)
}

/// Writes the file of a checkpoint, with the checksum of it all.
fn write(
    path: &Path,
    arrays: &BTreeMap<String, Array>,
    facts: &mut BTreeMap<String, String>,
) -> Result<()> {
    facts.insert("checksum".into(), checksum(arrays, facts).to_string());
    write_atomically(path, &to_bytes(arrays, facts)?)
}

/// Writes weights that no run here has made into `folder`, so that they serve wherever a run's
/// do. `arrays` are named as in any checkpoint (`teacher.…`, `student.…`, `centre`). There is
/// no state to resume from: [`TrainState::is_resumable`] is false.
///
/// # Errors
/// [`Error::Io`].
pub fn save_weights(
    folder: &Path,
    arrays: &BTreeMap<String, Array>,
    facts: &BTreeMap<String, String>,
) -> Result<PathBuf> {
    fs::create_dir_all(folder).map_err(io(folder))?;
    let mut facts = facts.clone();
    facts.extend([
        ("dinolab_version".to_owned(), VERSION.to_string()),
        ("position".into(), json(&TrainState::default())),
        ("optimiser_steps".into(), "{}".into()),
    ]);
    let name = file_name(0);
    let path = folder.join(&name);
    write(&path, arrays, &mut facts)?;
    write_atomically(&folder.join("latest"), name.as_bytes())?;
    Ok(path)
}

/// A checkpoint's content, verified.
pub struct Checkpoint {
    pub(crate) state: State,
    /// Where the run stood.
    pub position: TrainState,
    /// Epochs done, where the checkpoint says it.
    pub epoch: Option<u64>,
    facts: BTreeMap<String, String>,
    path: PathBuf,
}

impl Checkpoint {
    /// Reads and verifies a checkpoint.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] where it is truncated, altered, or of a later version.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(io(path))?;
        Self::of_bytes(path, &bytes)
    }

    /// A checkpoint from the content of its file, which another process may have read.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn of_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        let (arrays, facts) =
            file_arrays(path, bytes).map_err(|error| bad(path, format!("is damaged ({error})")))?;
        let fact = |name: &str| {
            facts
                .get(name)
                .ok_or_else(|| bad(path, format!("has no {name}: not a training checkpoint")))
        };
        let version: u32 = fact("dinolab_version")?.parse().unwrap_or(u32::MAX);
        if version > VERSION {
            return Err(bad(
                path,
                "was written by a later version of dinolab; use that version",
            ));
        }
        if fact("checksum")? != &checksum(&arrays, &facts).to_string() {
            return Err(bad(
                path,
                "is damaged: its checksum does not match its content",
            ));
        }
        let wrong = |error: serde_json::Error| bad(path, error.to_string());
        Ok(Self {
            position: serde_json::from_str(fact("position")?).map_err(wrong)?,
            epoch: facts.get(EPOCH).and_then(|epoch| epoch.parse().ok()),
            state: State {
                path: path.into(),
                steps: serde_json::from_str(fact("optimiser_steps")?).map_err(wrong)?,
                tensors: arrays,
            },
            facts,
            path: path.into(),
        })
    }

    /// The newest checkpoint of `folder` that is whole, and what was wrong with newer ones.
    ///
    /// # Errors
    /// The newest one's error where all are damaged. `None` where there is none at all.
    pub fn latest(folder: &Path) -> Result<Option<(Self, Vec<Error>)>> {
        let mut damaged = Vec::new();
        let mut listed = list(folder);
        let mut place = 0;
        while let Some(path) = listed.get(place) {
            match Self::read(path) {
                Ok(checkpoint) => return Ok(Some((checkpoint, damaged))),
                // A run that goes on has removed it since, after it wrote a newer one.
                Err(Error::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound && list(folder) != listed =>
                {
                    (listed, place) = (list(folder), 0);
                    damaged.clear();
                }
                Err(error) => {
                    damaged.push(error);
                    place += 1;
                }
            }
        }
        match damaged.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// The newest checkpoint of `folder` that is whole and sound.
    pub fn newest_sound(folder: &Path) -> Option<Self> {
        list(folder)
            .iter()
            .filter_map(|path| Self::read(path).ok())
            .find(|checkpoint| checkpoint.doubt().is_none())
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why it is not [sound](crate::soundness); `None` where it is.
    pub fn doubt(&self) -> Option<String> {
        match self.facts.get(SOUND) {
            Some(word) if word == YES => None,
            Some(doubt) => Some(doubt.clone()),
            // From before it was recorded.
            None => self
                .state
                .not_finite()
                .map(|tensor| format!("{tensor} holds values that are not finite")),
        }
    }

    /// Writes it again, as one of a run that resumes with another configuration. `facts` go into
    /// its metadata in place of those it has.
    ///
    /// # Errors
    /// [`Error::Io`]; it is then as it was.
    pub fn reconfigure(
        &mut self,
        config: &str,
        changes: Vec<Change>,
        facts: &BTreeMap<String, String>,
    ) -> Result<()> {
        let mut position = self.position.clone();
        position.config = config.to_owned();
        position.changes.extend(changes);
        let mut all = self.facts.clone();
        all.extend(facts.clone());
        all.insert("position".into(), json(&position));
        write(&self.path, &self.state.tensors, &mut all)?;
        (self.position, self.facts) = (position, all);
        Ok(())
    }

    /// Puts the checkpoint's state into a method of the same configuration.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] if it is of another method; [`Error::BadCheckpoint`] or
    /// [`Error::Model`] if it belongs to another network.
    pub fn restore(&self, method: &mut dyn Method) -> Result<()> {
        if self.method() != method.name() {
            let reason = format!("is of {}, not of {}", self.method(), method.name());
            return Err(bad(&self.path, reason));
        }
        method.restore(&self.state)
    }

    /// The name of the method that it belongs to.
    pub fn method(&self) -> &str {
        self.facts.get("method").map_or("dino", String::as_str)
    }
}
