//! Reading and writing of weights.
//!
//! Files of every format are read into named arrays ([`Weights`]), by the names of the reference
//! implementation (facebookresearch/dino). [`load`] copies them into a network and reports what was
//! loaded.

mod convnext;
mod convolutional;
mod convolutional_export;
mod export;
mod hugging_face;
mod infer;
mod joined;
mod load;
mod model_folder;
mod naming;
mod networks;
mod preprocess;
mod pth;
mod reference;
mod resnet;
mod role;
mod safetensors;
mod scheme;
mod shards;
mod sidecar;
mod timm;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use self::convolutional_export::{ConvolutionalBackbone, ConvolutionalNaming};
pub use self::export::Backbone;
pub use self::load::{LoadOptions, LoadReport, load};
pub use self::pth::{Value, write_pth};
pub use self::role::NetworkRole;
pub use self::safetensors::{file_arrays, from_arrays, read_arrays, to_bytes};
pub use self::scheme::{Kind, Naming};
pub use self::shards::shards;

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

/// The content of a weight file about one network.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    /// The file.
    pub path: PathBuf,
    /// Arrays by the reference's names: `backbone.…` and `head.…`.
    pub arrays: BTreeMap<String, Array>,
    /// The centre `c`, `[K]`, if the file has one.
    pub centre: Option<Vec<f32>>,
    /// The file's metadata about the network (`arch`, `patch_size`, `out_dim`, …).
    pub metadata: BTreeMap<String, String>,
    /// The naming scheme of the file.
    pub naming: Naming,
    /// The network's role in a training checkpoint; `None` for a file of one network.
    pub role: Option<NetworkRole>,
}

/// Reads a `.pth` or safetensors file, distinguished by content, the files of a
/// `model.safetensors.index.json`, or whichever of these is in a model's folder of Hugging Face or timm.
///
/// Of a training checkpoint, the network with `role` is read; without a role, the one that the
/// file names as `evaluated`, else the teacher or another moving average, else the only one. A file
/// of one network without a role has only that, whatever `role` is.
///
/// # Errors
/// [`Error::Io`] and [`Error::BadWeights`] name the file and the reason, [`Error::NotFinite`] the
/// tensor with NaN or infinite values, [`Error::NoSuchNetwork`] and [`Error::SeveralNetworks`] the
/// networks in the file.
pub fn read(path: &Path, role: impl Into<Option<NetworkRole>>) -> Result<Weights> {
    let role = role.into();
    let path = &model_folder::weight_file(path)?;
    if path.file_name().is_some_and(|name| name == shards::INDEX) {
        let mut weights = shards::read(path, role)?;
        sidecar::read(path, &mut weights)?;
        return Ok(weights);
    }
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
    // or archive begins with a number less than the file's size.
    let header = head
        .first_chunk::<8>()
        .map(|bytes| u64::from_le_bytes(*bytes));
    let safetensors = head.get(8) == Some(&b'{') && header.is_some_and(|length| length < size);
    let mut weights = if safetensors {
        safetensors::read(path, role)?
    } else if head.starts_with(b"PK\x03\x04") || head.first() == Some(&0x80) {
        pth::read(path, role)?
    } else {
        return Err(bad(path, not_weights(head)));
    };
    weights.path = path.into();
    sidecar::read(path, &mut weights)?;
    Ok(weights)
}

/// The reason why a file is not a weight file.
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

/// A network's arrays, renamed from the file's names to the reference's; refuses values that are not
/// finite.
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

/// The relative error of all tokens between two backbones of the same sizes, as `(height, width,
/// error)`: for an image of the trained size and one of another size. The images are random, with a
/// fixed seed.
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
