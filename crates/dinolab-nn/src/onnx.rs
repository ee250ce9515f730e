//! Networks as [ONNX](https://onnx.ai) files, for ONNX Runtime and others.
//!
//! Batch, height and width stay open: the graph resamples learned position embeddings, or computes
//! rotary ones, as [`crate::position`] does it. The file holds everything in single precision, uses operator set
//! [`OPSET`] and nothing beyond it, and is the same bytes for the same network.
//!
//! | name | | shape |
//! |---|---|---|
//! | `images` | input | `[batch, C, height, width]`, normalised; for a transformer at least one patch in size |
//! | `features` | output | `[batch, F]`, the [`Feature`] of the final norm's tokens, by default class tokens `[batch, D]` |
//! | `patch_features` | output, where asked for | `[batch, h·w, D]`, patch tokens after the final norm, row by row |
//! | `attention` | output, where asked for, of a transformer | `[batch, H, h, w]`, of the last block's class token to the patches |
//! | `logits` | output, with a head | `[batch, K]`, not divided by a temperature |
//!
//! A transformer leaves out pixels beyond whole patches. A convolutional network's patches are all
//! positions of its last grid. Parameters have the names of the network's authors; the weights of linear
//! layers are transposed, `[in, out]`.
//!
//! Before a file gets its name, the structure of its graph is checked, and that it reads back as
//! written. That it computes what the network computes is tested in an ONNX runtime.

mod check;
mod convnext;
mod graph;
mod layers;
mod network;
mod positions;
mod proto;
mod resnet;
mod rotary;
mod transformer;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use prost::Message;

use self::proto::{
    DimensionValue, ModelProto, OperatorSetIdProto, StringStringEntryProto, ValueInfoProto,
};
use crate::backbone::attention_maps;
use crate::{AnyBackbone, Backbone, Error, Feature, Head, Parameters, Result};
use dinolab_files::PartFile;

/// The version of ONNX's operators that is used: the first with `LayerNormalization`. ONNX Runtime
/// reads it since version 1.12 (2022).
pub const OPSET: i64 = 17;
/// The version of the file format that belongs to it.
const IR_VERSION: i64 = 8;
/// No message of protobuf may be longer, in bytes.
const LARGEST: usize = i32::MAX as usize;
/// Room in a file for all that is no parameter, in bytes.
const REST: usize = 16 << 20;

/// The name of the input.
pub const IMAGES: &str = "images";
/// The name of the features.
pub const FEATURES: &str = "features";
/// The name of the patch tokens.
pub const PATCH_FEATURES: &str = "patch_features";
/// The name of the attention maps.
pub const ATTENTION: &str = "attention";
/// The name of a head's output.
pub const LOGITS: &str = "logits";

/// What a file holds in addition to the features of whole images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The output [`FEATURES`], on which a head is.
    pub feature: Feature,
    /// Adds the output [`PATCH_FEATURES`]. Where neither it nor the feature needs patches, the last
    /// block computes only what the class token needs.
    pub patch_features: bool,
    /// Adds the output [`ATTENTION`], which only transformers have.
    pub attention: bool,
    /// Metadata of the file (the preprocessing of images, for instance), as text by name. The
    /// network's sizes are added under the name of its kind (`vit`, `resnet`, `convnext`), JSON.
    pub metadata: BTreeMap<String, String>,
}

/// A written file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The file's length in bytes.
    pub bytes: u64,
    /// Its outputs.
    pub outputs: Vec<Output>,
}

/// An output of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Its dimensions: sizes, or the names of those that depend on the images.
    pub shape: Vec<String>,
}

impl Output {
    fn of(info: &ValueInfoProto) -> Self {
        let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let dims = tensor.and_then(|tensor| tensor.shape.as_ref());
        let values = dims.into_iter().flat_map(|shape| &shape.dim);
        let text = |value: &DimensionValue| match value {
            DimensionValue::Size(size) => size.to_string(),
            DimensionValue::Name(name) => name.clone(),
        };
        Self {
            name: info.name.clone(),
            shape: values
                .filter_map(|dim| dim.value.as_ref().map(text))
                .collect(),
        }
    }
}

/// Writes a backbone, with a head on its features if one is given, to the file `path`, which
/// appears, or changes, only after it has been checked. All products are in single precision.
///
/// # Errors
/// [`Error::Export`] if the network does not fit into one file (2 GiB), has a head with batch
/// normalisation (whose result depends on the batch) or parameters that are not finite, or if the
/// file does not read back as written; [`Error::Lacks`] for attention of a network that has none;
/// [`Error::Write`] if the file cannot be written.
pub fn export(
    network: &AnyBackbone,
    head: Option<&Head>,
    path: &Path,
    options: &Options,
) -> Result<Report> {
    if options.attention {
        attention_maps(network)?;
    }
    let fail = |reason: String| Error::Export {
        path: path.into(),
        reason,
    };
    if head.is_some_and(|head| head.config().use_bn) {
        return Err(fail(
            "a head with batch normalisation has no output of its own: each depends on \
             the other images of the batch; export the backbone alone"
                .into(),
        ));
    }
    let width = options.feature.width(network.width());
    if let Some(takes) = head.map(Head::width).filter(|takes| *takes != width) {
        return Err(fail(format!(
            "the head takes features of width {takes}, and the feature {} has {width}",
            options.feature
        )));
    }
    let parameters = network.parameter_count() + head.map_or(0, Parameters::parameter_count);
    if let Some(reason) = too_large(parameters) {
        return Err(fail(reason));
    }
    let model = model(network, head, options);
    let graph = model.graph.as_ref().expect("every model has one");
    check::check(graph).map_err(fail)?;
    let outputs = graph.output.iter().map(Output::of).collect();
    let bytes = model.encode_to_vec();
    drop(model);
    let io = |source| Error::Write {
        path: path.into(),
        source,
    };
    let (part, mut file) = PartFile::create(path).map_err(io)?;
    file.write_all(&bytes)
        .and_then(|()| file.sync_all())
        .map_err(io)?;
    drop(file);
    if std::fs::read(part.temporary()).map_err(io)? != bytes {
        return Err(fail("the file does not read back as it was written".into()));
    }
    part.keep().map_err(io)?;
    Ok(Report {
        bytes: bytes.len() as u64,
        outputs,
    })
}

/// The reason not to export this many parameters, if there is one.
fn too_large(parameters: usize) -> Option<String> {
    (parameters > (LARGEST - REST) / 4)
        .then(|| format!("{parameters} parameters are more than one ONNX file holds (2 GiB)"))
}

/// The whole file as a message.
fn model(network: &AnyBackbone, head: Option<&Head>, options: &Options) -> ModelProto {
    let mut metadata = options.metadata.clone();
    let json = |value: serde_json::Result<String>| value.expect("sizes are plain numbers");
    metadata.extend([network.config().metadata_entry()]);
    metadata.extend((!options.feature.is_class()).then(|| options.feature.metadata_entry()));
    if let Some(head) = head {
        metadata.insert("head".into(), json(serde_json::to_string(head.config())));
    }
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "dinolab".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: match network {
            AnyBackbone::Vit(_) => {
                "A vision transformer. Height and width of the images are free; position \
                 embeddings are resampled in the graph."
            }
            AnyBackbone::ResNet(_) => {
                "A residual network. Height and width of the images are free."
            }
            AnyBackbone::ConvNext(_) => "A ConvNeXt. Height and width of the images are free.",
        }
        .into(),
        graph: Some(network::graph(network, head, options).finish()),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }],
        metadata_props: metadata
            .into_iter()
            .map(|(key, value)| StringStringEntryProto { key, value })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
