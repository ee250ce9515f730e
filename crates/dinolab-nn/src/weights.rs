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
pub use self::safetensors::{file_arrays, to_bytes};

use crate::param::Parameters;
use crate::{Error, Result};

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
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Pth,
    Safetensors,
}

/// Reads a `.pth` or safetensors file, told apart by content. Of a training checkpoint the
/// network `which` is taken; a file of one network has only that.
///
/// # Errors
/// [`Error::Io`] and [`Error::BadWeights`] name the file and what is wrong.
pub fn read(path: &Path, which: Which) -> Result<Weights> {
    let mut head = [0u8; 9];
    let length = {
        use std::io::Read;
        let mut file = std::fs::File::open(path).map_err(io(path))?;
        file.read(&mut head).map_err(io(path))?
    };
    let (format, mut weights) = if head.starts_with(b"PK\x03\x04") || head[0] == 0x80 {
        (Format::Pth, pth::read(path, which)?)
    } else if length == 9 && head[8] == b'{' {
        (Format::Safetensors, safetensors::read(path, which)?)
    } else {
        return Err(bad(
            path,
            "neither a PyTorch checkpoint nor a safetensors file".into(),
        ));
    };
    weights.path = path.into();
    let raw = std::mem::take(&mut weights.arrays);
    let exported = format == Format::Safetensors;
    (weights.arrays, weights.naming) = naming::canonical(path, raw, exported)?;
    beside::read(path, &mut weights)?;
    Ok(weights)
}

/// The arrays of a network in memory, under their full names.
pub fn arrays(network: &impl Parameters, prefix: &str) -> BTreeMap<String, Array> {
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

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |source| Error::Io {
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
