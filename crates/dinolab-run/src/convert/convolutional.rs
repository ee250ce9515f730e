//! Convolutional networks in other files.

use std::collections::BTreeMap;
use std::path::Path;

use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::weights::{
    self, Array, ConvolutionalBackbone, ConvolutionalNaming, LoadOptions, Weights,
};
use dinolab_nn::{AnyBackbone, Backbone, BackboneConfig, Tensor, device};

use super::verify::{Check, LIMIT};
use super::{
    Container, ConvertRequest, WeightFormat, WeightReport, Written, settle_preprocessing, training,
};
use crate::error::{Context, Result};
use crate::weights::read;

/// Writes the convolutional network of `weights`, and compares what can be read back.
///
/// # Errors
/// A format that has no names for it; an output that cannot be written, or differs.
pub(super) fn convert(
    request: &ConvertRequest<'_>,
    (to, container): (WeightFormat, Container),
    weights: &Weights,
) -> Result<WeightReport> {
    let mut metadata = weights.metadata.clone();
    let backbone = ConvolutionalBackbone::new(weights, &metadata)?;
    let config = backbone.config().clone();
    let naming = naming(&config, (to, container), request.full)?;
    ensure_setting!(
        request.image_size.is_none(),
        "image-size",
        "",
        "{} has no position embeddings to resample",
        config.kind()
    );
    settle_preprocessing(request, &mut metadata, config.channels())?;
    metadata.extend([weights.feature()?.metadata_entry()]);
    let backbone = ConvolutionalBackbone::new(weights, &metadata)?;
    let mut notes = Vec::new();
    let whole = to == WeightFormat::Run;
    let kept = |name: &&str| !(whole && name.starts_with("head."));
    let dropped: Vec<_> = backbone
        .left_out(weights)
        .into_iter()
        .filter(kept)
        .collect();
    if let Some(first) = dropped.first() {
        notes.push(format!(
            "left out: {} tensors, the first is {first}",
            dropped.len()
        ));
    }
    notes.extend(epsilon(&config, naming, (to, container)));
    let out = request.output;
    let mut written = Written::below(match container {
        Container::Folder => Some(out),
        _ => out.parent(),
    })?;
    let done = match (to, container) {
        (WeightFormat::Run, _) => {
            let weights = Weights {
                metadata,
                ..weights.clone()
            };
            training::write_run(request, &weights, &config, &mut written)
        }
        (_, Container::Pth) => {
            written.files = vec![out.to_owned()];
            backbone.write_pth(out, naming).map_err(Into::into)
        }
        (_, Container::Safetensors) => {
            written.files = vec![out.to_owned()];
            backbone.write_safetensors(out, naming).map_err(Into::into)
        }
        (_, Container::Folder) => {
            let names = [
                "model.safetensors",
                "config.json",
                "preprocessor_config.json",
            ];
            written.files = names.map(|name| out.join(name)).to_vec();
            backbone.write_folder(out, naming).map_err(Into::into)
        }
    };
    let checked = done.and_then(|()| check(out, weights, &config));
    let checks = checked.inspect_err(|_| written.remove())?;
    Ok(WeightReport {
        output: out.to_owned(),
        to,
        config,
        checks,
        notes,
    })
}

/// The arrays of the convolutional network of `weights` by the names of a format.
///
/// # Errors
/// A format that has no names for it.
pub(super) fn named(weights: &Weights, to: WeightFormat) -> Result<BTreeMap<String, Array>> {
    let backbone = ConvolutionalBackbone::new(weights, &BTreeMap::new())?;
    let naming = naming(backbone.config(), (to, Container::Pth), false)?;
    Ok(backbone.named(naming))
}

/// The names in a file of this format.
fn naming(
    config: &BackboneConfig,
    (to, container): (WeightFormat, Container),
    full: bool,
) -> Result<ConvolutionalNaming> {
    ensure_setting!(
        !full,
        "full",
        "",
        "of {} only the weights are written, not the training state",
        config.kind()
    );
    let published =
        matches!(config, BackboneConfig::ConvNext(_)) || config.convolutional_name().is_some();
    ensure_setting!(
        published || (to, container) != (WeightFormat::Timm, Container::Folder),
        "to",
        "timm",
        "timm has no residual network of these sizes; give OUT the ending .pth or .safetensors"
    );
    Ok(match to {
        WeightFormat::Timm => ConvolutionalNaming::Timm,
        WeightFormat::Hf => ConvolutionalNaming::HuggingFace,
        WeightFormat::Reference | WeightFormat::Run => ConvolutionalNaming::Original,
    })
}

/// What readers of a file have to know of the final norm.
fn epsilon(
    config: &BackboneConfig,
    naming: ConvolutionalNaming,
    (to, container): (WeightFormat, Container),
) -> Option<String> {
    let BackboneConfig::ConvNext(config) = config else {
        return None;
    };
    let usual = dinolab_nn::ConvNextConfig::default().layer_norm_eps;
    let folder = container == Container::Folder;
    let recorded = to == WeightFormat::Run || naming == ConvolutionalNaming::HuggingFace && folder;
    (config.layer_norm_eps != usual && !recorded).then(|| {
        format!(
            "readers of this format normalise the feature with an epsilon of {usual:e}, this network with \
             {:e}",
            config.layer_norm_eps
        )
    })
}

/// Compares the features of a random image.
fn check(path: &Path, original: &Weights, config: &BackboneConfig) -> Result<Vec<Check>> {
    let again = read(path, None).context("the output cannot be read back")?;
    let side = 2 * config.stride();
    let shape = [1, config.channels(), side, side];
    let pixels = Init::new(0).truncated_normal(shape.iter().product(), 1.0);
    let cpu = device::by_name("cpu")?;
    let features = |weights: &Weights| -> Result<Vec<f32>> {
        let mut network = AnyBackbone::new(config, &mut Init::new(0), &cpu)?;
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
