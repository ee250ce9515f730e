//! Networks as ONNX graphs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dinolab_features::Preprocess;
use dinolab_nn::onnx::{Options, export};
use dinolab_nn::weights::{self, LoadOptions, Weights};
use dinolab_nn::{AnyBackbone, Backbone, BackboneConfig, Head, ProjectionHead, device, init::Init};
use serde::Serialize;

use super::{ConvertRequest, Original, read_input, settle_preprocessing};
use crate::error::{Context, Result};

/// A graph that was written.
#[derive(Clone, Debug, Serialize)]
pub struct OnnxReport {
    /// Where.
    pub output: PathBuf,
    /// `onnx`.
    pub to: &'static str,
    /// Its size.
    pub bytes: u64,
    /// The network, under the name of its kind.
    #[serde(flatten)]
    pub config: BackboneConfig,
    /// What it computes.
    pub outputs: Vec<OnnxOutput>,
}

/// An output of a graph.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OnnxOutput {
    /// Its name.
    pub name: String,
    /// Its dimensions, by number or by name.
    pub shape: Vec<String>,
}

/// Writes the file and reports its outputs.
pub(super) fn convert(request: &ConvertRequest<'_>) -> Result<OnnxReport> {
    ensure_setting!(
        request.to.is_none() && !request.full,
        "to",
        "",
        "an .onnx file has only one format, and cannot be `full`"
    );
    ensure_setting!(
        request.image_size.is_none(),
        "image-size",
        "",
        "an .onnx file takes images of any size and resamples for each"
    );
    let original = Network::of(request, read_input(request)?)?;
    let options = Options {
        feature: original.weights.feature()?,
        patch_features: request.onnx.patch_features,
        attention: request.onnx.attention,
        metadata: metadata(&original)?,
    };
    let head = request.onnx.head.then(|| head(&original)).transpose()?;
    let network = &original.network;
    let written = export(network, head.as_ref(), request.output, &options)?;
    let output = |output: dinolab_nn::onnx::Output| OnnxOutput {
        name: output.name,
        shape: output.shape,
    };
    Ok(OnnxReport {
        output: request.output.to_owned(),
        to: "onnx",
        bytes: written.bytes,
        config: network.config(),
        outputs: written.outputs.into_iter().map(output).collect(),
    })
}

/// The network that is written.
struct Network {
    weights: Weights,
    network: AnyBackbone,
}

impl Network {
    fn of(request: &ConvertRequest<'_>, mut weights: Weights) -> Result<Self> {
        let Some(config) = weights.convolutional_config()? else {
            let Original { weights, vit, .. } = Original::of(request, weights)?;
            let network = vit.into();
            return Ok(Self { weights, network });
        };
        settle_preprocessing(request, &mut weights.metadata, config.channels())?;
        let mut network = AnyBackbone::new(&config, &mut Init::new(0), &device::by_name("cpu")?)?;
        weights::load(&mut network, "backbone", &weights, LoadOptions::default())
            .with_context(|| weights.path.display().to_string())?;
        Ok(Self { weights, network })
    }
}

/// The head of the weights.
fn head(original: &Network) -> Result<Head> {
    let weights = &original.weights;
    let path = weights.path.display();
    let config = weights
        .head_config()
        .with_context(|| format!("`head`: {path} has none"))?;
    let width = weights.feature()?.width(original.network.width());
    let mut head = Head::new(&config, width, &mut Init::new(0), &device::by_name("cpu")?)?;
    weights::load(&mut head, "head", weights, LoadOptions::default())
        .with_context(|| path.to_string())?;
    Ok(head)
}

/// How images are prepared: numbers, and lists of numbers of each channel.
fn metadata(original: &Network) -> Result<BTreeMap<String, String>> {
    let said = Preprocess::from_metadata(&original.weights.metadata);
    let reference = || (original.network.channels() == 3).then(Preprocess::default);
    let Some(preprocess) = said.or_else(reference) else {
        return Ok(BTreeMap::new());
    };
    Ok(BTreeMap::from([
        ("resize".into(), preprocess.resize.to_string()),
        ("crop".into(), preprocess.crop.to_string()),
        ("mean".into(), serde_json::to_string(&preprocess.mean)?),
        ("std".into(), serde_json::to_string(&preprocess.std)?),
    ]))
}
