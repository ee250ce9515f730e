//! Residual networks in other files: their names are torchvision's everywhere.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use dinolab_files::write_whole;
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::weights::{self, Array, LoadOptions, Value, Weights, to_bytes, write_pth};
use dinolab_nn::{Backbone, BackboneConfig, ResNet, ResNetConfig, Tensor, device};

use super::verify::{Check, LIMIT};
use super::{Container, ConvertRequest, WeightFormat, WeightReport, Written};
use crate::error::{Context, Result};
use crate::weights::read;

/// What precedes the names of a backbone.
const BACKBONE: &str = "backbone.";

/// Writes the residual network of `weights`, and compares what can be read back.
///
/// # Errors
/// A format that has no names for it; an output that cannot be written, or differs.
pub(super) fn convert(
    request: &ConvertRequest<'_>,
    (to, container): (WeightFormat, Container),
    weights: &Weights,
    config: &ResNetConfig,
) -> Result<WeightReport> {
    ensure_setting!(
        matches!(to, WeightFormat::Reference | WeightFormat::Timm)
            && container != Container::Folder
            && !request.full,
        "to",
        "",
        "a residual network is written as .pth or .safetensors, with the names that torchvision, timm \
         and the reference share"
    );
    ensure_setting!(
        request.image_size.is_none(),
        "image-size",
        "",
        "a residual network has no position embeddings to resample"
    );
    let preprocess = request
        .normalisation
        .of(&weights.metadata, config.channels)?;
    let tensors = || config.tensors().map(|(name, _)| name);
    let named: BTreeMap<String, Array> = tensors()
        .filter_map(|name| {
            let array = weights.arrays.get(&format!("{BACKBONE}{name}"))?;
            Some((name, array.clone()))
        })
        .collect();
    let mut notes = Vec::new();
    let dropped = weights.arrays.len() - named.len();
    if dropped > 0 {
        let kept = |name: &&String| {
            name.strip_prefix(BACKBONE)
                .is_none_or(|name| !named.contains_key(name))
        };
        let first = weights.arrays.keys().find(kept).map_or("", String::as_str);
        notes.push(format!("left out: {dropped} tensors, the first is {first}"));
    }
    let out = request.output;
    let mut written = Written::below(out.parent())?;
    written.files = vec![out.to_owned()];
    let done = match container {
        Container::Pth => {
            let state = named
                .iter()
                .map(|(k, v)| (k.clone(), Value::Tensor(v.clone())));
            write_pth(out, &Value::dict(state)).map_err(Into::into)
        }
        _ => {
            let (key, sizes) = BackboneConfig::from(config.clone()).metadata_entry();
            let mut metadata =
                BTreeMap::from([("format".to_owned(), "pt".to_owned()), (key, sizes)]);
            metadata.extend([weights.feature()?.metadata_entry()]);
            metadata.extend(preprocess.iter().flat_map(|known| known.metadata()));
            write_safetensors(out, &named, &metadata)
        }
    };
    let checked = done.and_then(|()| check(out, weights, config));
    let checks = checked.inspect_err(|_| written.remove())?;
    Ok(WeightReport {
        output: out.to_owned(),
        to,
        config: config.clone().into(),
        checks,
        notes,
    })
}

fn write_safetensors(
    path: &Path,
    arrays: &BTreeMap<String, Array>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let bytes = to_bytes(arrays, metadata)?;
    write_whole(path, |out| out.write_all(&bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Compares the features of a random image.
fn check(path: &Path, original: &Weights, config: &ResNetConfig) -> Result<Vec<Check>> {
    let again = read(path, None).context("the output cannot be read back")?;
    let side = 2 * ResNetConfig::STRIDE;
    let shape = [1, config.channels, side, side];
    let pixels = Init::new(0).truncated_normal(shape.iter().product(), 1.0);
    let cpu = device::by_name("cpu")?;
    let features = |weights: &Weights| -> Result<Vec<f32>> {
        let mut network = ResNet::new(config, &mut Init::new(0), &cpu)?;
        weights::load(&mut network, "backbone", weights, LoadOptions::default())?;
        let images = Tensor::<1>::from_floats(pixels.as_slice(), &cpu).reshape(shape);
        Ok(to_host_f32(network.tokens(images).class))
    };
    let (before, after) = (features(original)?, features(&again)?);
    let square = |x: f32| f64::from(x).powi(2);
    let pairs = before.iter().zip(&after);
    let difference: f64 = pairs.map(|(a, b)| square(a - b)).sum();
    let norm: f64 = before.iter().map(|&a| square(a)).sum();
    let relative_error = (difference / norm.max(f64::MIN_POSITIVE)).sqrt();
    ensure!(
        relative_error <= LIMIT,
        "what was written differs from the original: relative error {relative_error:.1e}"
    );
    Ok(vec![Check {
        what: "backbone".into(),
        height: side,
        width: side,
        relative_error,
    }])
}
