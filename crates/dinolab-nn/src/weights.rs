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

/// Reads a `.pth` or safetensors file, told apart by content. Of a training checkpoint the
/// network `which` is taken; a file of one network has only that.
///
/// # Errors
/// [`Error::Io`] and [`Error::BadWeights`] name the file and what is wrong.
pub fn read(path: &Path, which: Which) -> Result<Weights> {
    let mut head = [0u8; 9];
    let (length, size) = {
        use std::io::Read;
        let mut file = std::fs::File::open(path).map_err(io(path))?;
        let size = file.metadata().map_err(io(path))?.len();
        (file.read(&mut head).map_err(io(path))?, size)
    };
    // Safetensors first: the length of its header may begin like a pickle (0x80), but no pickle
    // or archive begins with a number that is less than the file's size.
    let (header, _) = head.as_chunks::<8>();
    let safetensors = length == 9 && head[8] == b'{' && u64::from_le_bytes(header[0]) < size;
    let mut weights = if safetensors {
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
    let raw = std::mem::take(&mut weights.arrays);
    (weights.arrays, weights.naming) = naming::canonical(path, raw, safetensors)?;
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
