//! Weights in and out.
//!
//! Files are read into named arrays ([`Weights`]) with the reference's names, whatever the
//! format; networks take from them what they need ([`load`]) and report what that was.

mod beside;
mod export;
mod hugging_face;
mod infer;
mod load;
mod locate;
mod naming;
mod networks;
mod preprocess;
mod pth;
mod safetensors;
mod timm;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use self::export::Backbone;
pub use self::hugging_face::Kind;
pub use self::load::{LoadOptions, LoadReport, load};
pub use self::locate::locate;
pub use self::naming::Naming;
pub use self::pth::{Value, write_pth};
pub use self::safetensors::{file_arrays, from_arrays, read_arrays, to_bytes};

use burn::tensor::{Tensor, TensorData};

use crate::init::Init;
use crate::param::Parameters;
use crate::{Error, Result, Vit};

/// A named array's shape and values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array {
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Values.
    pub data: Vec<f32>,
}

/// What a weight file holds of one network.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    /// Where they came from.
    pub path: PathBuf,
    /// Arrays by the reference's names: `backbone.…` and `head.…`.
    pub arrays: BTreeMap<String, Array>,
    /// The centre `c`, `[K]`, where the file has it.
    pub centre: Option<Vec<f32>>,
    /// What the file says of the network (`arch`, `patch_size`, `out_dim`, …).
    pub facts: BTreeMap<String, String>,
    /// Whose names the file uses.
    pub naming: Naming,
    /// Which network of a training checkpoint; `None` for a file of one network.
    pub which: Option<Which>,
}

/// Which network of a training checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The moving average, whose features are the better ones.
    #[default]
    Teacher,
    /// The network that learns.
    Student,
}

impl Which {
    /// Its name in checkpoints.
    pub fn key(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Student => "student",
        }
    }

    /// The one of the two that this is not.
    pub fn other(self) -> Self {
        match self {
            Self::Teacher => Self::Student,
            Self::Student => Self::Teacher,
        }
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.key())
    }
}

/// Reads a `.pth` or safetensors file, told apart by content. Of a training checkpoint the
/// network `which` is taken; a file of one network has only that.
///
/// # Errors
/// [`Error::Io`] and [`Error::BadWeights`] name the file and what is wrong,
/// [`Error::NotFinite`] the tensor with values that are no numbers, [`Error::NoSuchNetwork`] and
/// [`Error::SeveralNetworks`] the networks that are there.
pub fn read(path: &Path, which: Which) -> Result<Weights> {
    let mut head = [0u8; 64];
    let (length, size) = {
        use std::io::Read;
        let mut file = std::fs::File::open(path).map_err(io(path))?;
        let size = file.metadata().map_err(io(path))?.len();
        let mut length = 0;
        while let n @ 1.. = file.read(&mut head[length..]).map_err(io(path))? {
            length += n;
        }
        (length, size)
    };
    let head = &head[..length];
    // Safetensors first: the length of its header may begin like a pickle (0x80), but no pickle
    // or archive begins with a number that is less than the file's size.
    let header = head
        .first_chunk::<8>()
        .map(|bytes| u64::from_le_bytes(*bytes));
    let safetensors = head.get(8) == Some(&b'{') && header.is_some_and(|length| length < size);
    let mut weights = if safetensors {
        safetensors::read(path, which)?
    } else if head.starts_with(b"PK\x03\x04") || head.first() == Some(&0x80) {
        pth::read(path, which)?
    } else {
        return Err(bad(path, not_weights(head)));
    };
    weights.path = path.into();
    beside::read(path, &mut weights)?;
    Ok(weights)
}

/// What a file is that is not weights.
fn not_weights(head: &[u8]) -> String {
    let text = head.trim_ascii_start().to_ascii_lowercase();
    let what = if head.is_empty() {
        "is empty"
    } else if text.starts_with(b"version https://git-lfs") {
        "is a pointer of Git LFS in place of the file; fetch the file itself with `git lfs pull`"
    } else if text.starts_with(b"<!doctype") || text.starts_with(b"<html") {
        "is a web page in place of the file; download the file itself"
    } else {
        return "neither a PyTorch checkpoint nor a safetensors file".into();
    };
    format!("neither a PyTorch checkpoint nor a safetensors file: it {what}")
}

/// A network's arrays, by their names in the file, under the reference's; all of them finite.
fn network(
    path: &Path,
    network: &networks::Network,
    raw: Vec<(String, Array)>,
    exported: bool,
) -> Result<(BTreeMap<String, Array>, Naming)> {
    check_finite(path, raw.iter().map(|(name, array)| (name.as_str(), array)))?;
    let local = |(name, array): (String, Array)| Some((network.local(&name)?, array));
    let raw = raw.into_iter().filter_map(local).collect();
    naming::canonical(path, raw, exported && network.is_bare())
}

/// Refuses arrays with values that are NaN or infinite.
fn check_finite<'a>(path: &Path, arrays: impl Iterator<Item = (&'a str, &'a Array)>) -> Result<()> {
    let bad = |array: &Array| array.data.iter().any(|value| !value.is_finite());
    let mut wrong: Vec<_> = arrays.filter(|(_, array)| bad(array)).collect();
    wrong.sort_by_key(|(name, _)| *name);
    let Some((name, array)) = wrong.first() else {
        return Ok(());
    };
    let values = || array.data.iter().copied().enumerate();
    let mut places = values().filter(|(_, value)| !value.is_finite());
    let (mut place, value) = places.next().unwrap_or_default();
    let mut index: Vec<usize> = Vec::with_capacity(array.shape.len());
    for &side in array.shape.iter().rev() {
        index.push(place % side.max(1));
        place /= side.max(1);
    }
    index.reverse();
    Err(Error::NotFinite {
        path: path.into(),
        tensor: (*name).to_owned(),
        count: 1 + places.count(),
        total: array.data.len(),
        index,
        value,
        tensors: wrong.len(),
    })
}

/// The arrays of a network in memory, under their full names.
pub fn arrays(network: &(impl Parameters + ?Sized), prefix: &str) -> BTreeMap<String, Array> {
    let mut arrays = BTreeMap::new();
    network.visit(prefix, &mut |name, param| {
        arrays.insert(
            name.to_owned(),
            Array {
                shape: param.shape().to_vec(),
                data: param.to_vec(),
            },
        );
    });
    arrays
}

/// How far one backbone is from another of the same sizes: relative errors of all tokens, for an
/// image of the trained size and one of other sides, as `(height, width, error)`. The images are
/// random, and the same every time.
pub fn deviation(of: &Vit, from: &Vit) -> Vec<(usize, usize, f64)> {
    let config = from.config();
    let (side, patch) = (config.side(), config.patch_size);
    let mut random = Init::new(0);
    [(side, side), (side + 2, side.saturating_sub(1).max(1))]
        .into_iter()
        .map(|(h, w)| {
            let shape = [1, config.channels, h * patch, w * patch];
            let pixels = random.truncated_normal(shape.iter().product(), 1.0);
            let tokens = |vit: &Vit| -> Vec<f32> {
                let data = TensorData::new(pixels.clone(), shape);
                let images = Tensor::<4>::from_data(data, &vit.cls_token.flat().device());
                let tokens = vit.intermediate(images, 1).remove(0).into_data();
                tokens.convert::<f32>().try_to_vec().expect("converted")
            };
            let (ours, theirs) = (tokens(of), tokens(from));
            let (mut error, mut norm) = (0.0, 0.0);
            for (&a, &b) in ours.iter().zip(&theirs) {
                error += (f64::from(a) - f64::from(b)).powi(2);
                norm += f64::from(b).powi(2);
            }
            (
                shape[2],
                shape[3],
                (error / norm.max(f64::MIN_POSITIVE)).sqrt(),
            )
        })
        .collect()
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |source| Error::Io {
        path: path.into(),
        source,
    }
}

fn unwritten(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |source| Error::Write {
        path: path.into(),
        source,
    }
}

fn bad(path: &Path, reason: String) -> Error {
    Error::BadWeights {
        path: path.into(),
        reason,
    }
}
