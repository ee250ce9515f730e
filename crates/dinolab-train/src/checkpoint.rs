//! Checkpoints: everything a run needs to go on as if it had never stopped.
//!
//! One safetensors file per checkpoint, so that any tool reads the weights:
//! `student.*`, `teacher.*`, `centre`, `optimiser.<slot>.*`, and in the metadata the
//! position, counts, the observers' state and a checksum. Random draws are functions of
//! (seed, epoch, image), so that the position *is* the state of the generators.

mod folder;
mod weights;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use dinolab_nn::Parameters;
use dinolab_nn::weights::{Array, LoadOptions, Weights, arrays, file_arrays, load, to_bytes};

use crate::optimiser::ParamState;
use crate::soundness::Soundness;
use crate::{Dino, Error, Result};

pub use self::folder::{aside, list, prune, remove_unfinished, set_aside};

/// Rises when a program of before can no longer read what is written.
const VERSION: u32 = 1;
/// Metadata that holds the epochs done.
pub(crate) const EPOCH: &str = "epoch";
/// Metadata that holds [`YES`], or why the checkpoint is not sound.
pub(crate) const SOUND: &str = "sound";
pub(crate) const YES: &str = "yes";

/// Where a run stands, beside its tensors.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Optimiser steps done.
    pub step: u64,
    /// What the run's observers have gathered since the epoch began, as they wrote it.
    pub observers: String,
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

impl Position {
    /// Whether a run wrote it; else it holds weights from elsewhere ([`save_weights`]).
    pub fn is_of_a_run(&self) -> bool {
        !self.config.is_empty()
    }
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

/// Writes `bytes` so that `path` holds either its old content or all of the new.
///
/// # Errors
/// [`Error::Io`].
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    let written = fs::File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written
        .map_err(io(&part))
        .and_then(|()| fs::rename(&part, path).map_err(io(path)));
    if renamed.is_err() {
        // Of a full disk, half a file is the last thing to keep.
        let _ = fs::remove_file(&part);
    }
    renamed?;
    // The rename itself must survive a power cut, where the system lets a folder be synced.
    if let Some(folder) = path.parent().and_then(|folder| fs::File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
    Ok(())
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

/// Writes a checkpoint into `folder` and points `latest` at it. `facts` go into its metadata
/// beside the run's own.
///
/// # Errors
/// [`Error::Io`]; [`Error::NonFiniteValues`] where a value is not finite. An earlier checkpoint is
/// then untouched.
pub fn save(
    folder: &Path,
    dino: &Dino,
    position: &Position,
    facts: &BTreeMap<String, String>,
) -> Result<PathBuf> {
    fs::create_dir_all(folder).map_err(io(folder))?;
    let mut all = arrays(&dino.student, "student");
    all.append(&mut arrays(&dino.teacher, "teacher"));
    let host = |t: &Tensor<1>| {
        t.to_data()
            .convert::<f32>()
            .try_to_vec::<f32>()
            .expect("converted")
    };
    let mut put = |name: String, tensor: &Tensor<1>| {
        let data = host(tensor);
        all.insert(
            name,
            Array {
                shape: vec![data.len()],
                data,
            },
        );
    };
    put("centre".into(), &dino.centre);
    let mut counts = BTreeMap::new();
    for (name, state) in dino.names().iter().zip(&dino.optimiser.states) {
        if let Some(state) = state {
            counts.insert(name.clone(), state.steps);
            for (slot, tensor) in state.slots.iter().enumerate() {
                put(format!("optimiser.{slot}.{name}"), tensor);
            }
        }
    }
    if let Some(tensor) = not_finite(&all) {
        return Err(Error::NonFiniteValues {
            step: position.step,
            tensor: tensor.clone(),
        });
    }
    let config = dino.config();
    let mut facts = facts.clone();
    facts.extend([
        ("dinolab_version".to_owned(), VERSION.to_string()),
        ("position".into(), json(position)),
        ("optimiser_steps".into(), json(&counts)),
        ("vit".into(), json(&config.vit)),
        ("head".into(), json(&config.head)),
    ]);
    let path = folder.join(file_name(position.step));
    write(&path, &all, &mut facts)?;
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

/// The first tensor with a value that is not finite.
fn not_finite(arrays: &BTreeMap<String, Array>) -> Option<&String> {
    let finite = |array: &Array| array.data.iter().all(|value| value.is_finite());
    arrays
        .iter()
        .find(|(_, array)| !finite(array))
        .map(|(name, _)| name)
}

/// Writes weights that no run here has made into `folder`, so that they serve wherever a run's
/// do. `arrays` are named as in any checkpoint (`teacher.…`, `student.…`, `centre`). There is
/// nothing in it to go on with: [`Position::is_of_a_run`] is false.
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
        ("position".into(), json(&Position::default())),
        ("optimiser_steps".into(), "{}".into()),
    ]);
    let name = file_name(0);
    let path = folder.join(&name);
    write(&path, arrays, &mut facts)?;
    write_atomically(&folder.join("latest"), name.as_bytes())?;
    Ok(path)
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data")
}

/// A checkpoint's content, verified.
pub struct Checkpoint {
    pub(crate) arrays: BTreeMap<String, Array>,
    pub(crate) counts: BTreeMap<String, u64>,
    /// Where the run stood.
    pub position: Position,
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
        let (arrays, facts) = file_arrays(path, &bytes)
            .map_err(|error| bad(path, format!("is damaged ({error})")))?;
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
            counts: serde_json::from_str(fact("optimiser_steps")?).map_err(wrong)?,
            epoch: facts.get(EPOCH).and_then(|epoch| epoch.parse().ok()),
            facts,
            arrays,
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
            None => not_finite(&self.arrays)
                .map(|tensor| format!("{tensor} holds values that are not finite")),
        }
    }

    /// Writes it again, as one of a run that goes on with another configuration. `facts` go into
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
        write(&self.path, &self.arrays, &mut all)?;
        (self.position, self.facts) = (position, all);
        Ok(())
    }

    /// Puts the checkpoint's state into a learner of the same configuration.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] or [`Error::Model`] where it belongs to another network.
    pub fn restore(&self, dino: &mut Dino) -> Result<()> {
        let part = |prefix: &str| Weights {
            path: self.path.clone(),
            arrays: self
                .arrays
                .iter()
                .filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_owned(), v.clone())))
                .collect(),
            ..Weights::default()
        };
        load(
            &mut dino.student,
            "",
            &part("student."),
            LoadOptions::default(),
        )?;
        load(
            &mut dino.teacher,
            "",
            &part("teacher."),
            LoadOptions::default(),
        )?;
        let device = dino.device().clone();
        let take = |name: &str, len: usize| {
            let array = self
                .arrays
                .get(name)
                .filter(|array| array.data.len() == len)
                .ok_or_else(|| bad(&self.path, format!("has no {name} of {len} values")))?;
            Ok::<_, Error>(Tensor::from_data(
                TensorData::new(array.data.clone(), [len]),
                &device,
            ))
        };
        dino.centre = take("centre", dino.config().head.out_dim)?;
        let mut lengths = Vec::new();
        dino.student
            .visit("", &mut |_, param| lengths.push(param.len()));
        let slots = dino.optimiser.kind().slots();
        let mut states = Vec::new();
        for (name, len) in dino.names().iter().zip(lengths) {
            states.push(match self.counts.get(name) {
                None => None,
                Some(&steps) => Some(ParamState {
                    steps,
                    slots: (0..slots)
                        .map(|slot| take(&format!("optimiser.{slot}.{name}"), len))
                        .collect::<Result<_>>()?,
                }),
            });
        }
        dino.optimiser.states = states;
        Ok(())
    }
}
