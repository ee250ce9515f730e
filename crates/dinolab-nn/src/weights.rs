//! Weights in and out.
//!
//! Files are read into named arrays ([`Weights`]) with the reference's names, whatever the
//! format; networks take from them what they need ([`load`]) and report what that was.

mod infer;
mod load;
mod locate;
mod pth;
mod safetensors;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use self::load::{LoadOptions, LoadReport, load};
pub use self::locate::locate;
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

/// Reads a `.pth` or safetensors file, told apart by content. Of a training checkpoint the
/// network `which` is taken; a file of one network has only that.
///
/// # Errors
/// [`Error::Io`] and [`Error::BadWeights`] name the file and what is wrong.
pub fn read(path: &Path, which: Which) -> Result<Weights> {
    let mut head = [0u8; 9];
    let (length, size) = {
        use std::io::Read;
        let io = |source| Error::Io {
            path: path.into(),
            source,
        };
        let mut file = std::fs::File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        (file.read(&mut head).map_err(io)?, size)
    };
    // Safetensors first: the length of its header may begin like a pickle (0x80), but no pickle
    // or archive begins with a number that is less than the file's size.
    let (header, _) = head.as_chunks::<8>();
    let mut weights = if length == 9 && head[8] == b'{' && u64::from_le_bytes(header[0]) < size {
        safetensors::read(path, which)?
    } else if head.starts_with(b"PK\x03\x04") || head[0] == 0x80 {
        pth::read(path, which)?
    } else {
        return Err(bad(
            path,
            "neither a PyTorch checkpoint nor a safetensors file".into(),
        ));
    };
    weights.path = path.into();
    weights.arrays = std::mem::take(&mut weights.arrays)
        .into_iter()
        .map(|(name, array)| (canonical(&name), array))
        .collect();
    if !weights.arrays.contains_key("backbone.cls_token") {
        let some: Vec<_> = weights.arrays.keys().take(3).cloned().collect();
        return Err(bad(
            path,
            format!(
                "holds no vision transformer: no cls_token among its tensors (it has {})",
                some.join(", ")
            ),
        ));
    }
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

/// A name without wrappers' prefixes, and with `backbone.` where a lone backbone has none.
fn canonical(name: &str) -> String {
    let mut name = name;
    while let Some(rest) = name
        .strip_prefix("module.")
        .or_else(|| name.strip_prefix("_orig_mod."))
    {
        name = rest;
    }
    match name.split_once('.') {
        Some(("backbone", rest)) => format!("backbone.{}", rest.trim_start_matches("module.")),
        Some(("head", rest)) => {
            // Newer PyTorch keeps weight norm as a parametrisation.
            let rest = rest
                .replace("parametrizations.weight.original0", "weight_g")
                .replace("parametrizations.weight.original1", "weight_v");
            format!("head.{rest}")
        }
        _ => format!("backbone.{name}"),
    }
}

fn bad(path: &Path, reason: String) -> Error {
    Error::BadWeights {
        path: path.into(),
        reason,
    }
}
