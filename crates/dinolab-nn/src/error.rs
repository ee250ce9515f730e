//! What can go wrong with a model or its weights.

use std::path::PathBuf;

use crate::vit::MAX_PATCHES;
use crate::weights::NetworkRole;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure names the file or field and the reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason the system gave.
        source: std::io::Error,
    },
    /// A network cannot give what is asked of it.
    #[error("{network} has no {capability}")]
    Lacks {
        /// The network, with its article.
        network: String,
        /// What it lacks.
        capability: &'static str,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason the system gave.
        source: std::io::Error,
    },
    /// A weight file is damaged, of an unknown format, or holds no network.
    #[error("{path}: {reason}")]
    BadWeights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A network was not written in another program's format.
    #[error("{path}: {reason}")]
    Export {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A training checkpoint does not have the network that was asked for.
    #[error("{path}: has no {wanted}, only {}", listed(found))]
    NoSuchNetwork {
        /// The file.
        path: PathBuf,
        /// The network that was asked for.
        wanted: NetworkRole,
        /// The networks in the file.
        found: Vec<NetworkRole>,
    },
    /// A weight file holds several networks that may be meant.
    #[error(
        "{path}: contains several networks, and it is not clear which one is {} ({}); save that one \
         in a separate file",
        wanted.map_or("meant".into(), |role| format!("the {role}")),
        prefixes.join(", ")
    )]
    SeveralNetworks {
        /// The file.
        path: PathBuf,
        /// The network that was asked for, if any.
        wanted: Option<NetworkRole>,
        /// The prefixes of their tensors' names.
        prefixes: Vec<String>,
    },
    /// Weights are NaN or infinite.
    #[error(
        "{path}: tensor {tensor} has {count} of {total} values that are not finite numbers, the \
         first {value} at {index:?}{}; the weights are damaged, or from a training run that diverged",
        match tensors { 1 => String::new(), n => format!(" ({n} tensors have such values)") }
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The first such tensor's name in the file.
        tensor: String,
        /// How many of its values are not finite.
        count: usize,
        /// How many values it has.
        total: usize,
        /// The place of the first of them in the tensor.
        index: Vec<usize>,
        /// That value.
        value: f32,
        /// How many tensors have such values.
        tensors: usize,
    },
    /// A tensor has another shape than the network.
    #[error("tensor {name}: the network has shape {expected:?}, the file has {found:?}")]
    Shape {
        /// The tensor's name in the network.
        name: String,
        /// The network's shape.
        expected: Vec<usize>,
        /// The file's shape.
        found: Vec<usize>,
    },
    /// Position embeddings are those of another image size, and resampling was not asked for.
    #[error(
        "tensor {name}: position embeddings of another image size: the network has shape \
         {expected:?}, the file has {found:?}"
    )]
    PositionSize {
        /// The tensor's name in the network.
        name: String,
        /// The network's shape.
        expected: Vec<usize>,
        /// The file's shape.
        found: Vec<usize>,
    },
    /// Tensors that the network needs are not in the file.
    #[error(
        "{missing} of the network's {total} tensors are not in the weights, the first is {first}"
    )]
    Missing {
        /// How many are missing.
        missing: usize,
        /// How many the network has.
        total: usize,
        /// The first one's name.
        first: String,
    },
    /// An image would be cut into more patches than a network is given.
    #[error(
        "at {height} × {width} px (height × width) an image has {patches} patches of {patch} px; \
         the maximum is {MAX_PATCHES}"
    )]
    TooManyPatches {
        /// Of the image as the network would see it, in pixels.
        height: usize,
        /// Likewise.
        width: usize,
        /// Side of a patch, in pixels.
        patch: usize,
        /// How many they would be.
        patches: usize,
    },
    /// A model setting is out of its range.
    #[error("{field}: {reason}")]
    BadSetting {
        /// The setting, by its flag's name.
        field: &'static str,
        /// What it must be.
        reason: String,
    },
    /// A device was asked for that this build or machine does not have.
    #[error("device {name}: {reason}")]
    Device {
        /// The device as asked for.
        name: String,
        /// Why it cannot be used.
        reason: String,
    },
}

/// Names as a list in words.
fn listed(roles: &[NetworkRole]) -> String {
    let names: Vec<_> = roles.iter().map(|role| role.key()).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}
