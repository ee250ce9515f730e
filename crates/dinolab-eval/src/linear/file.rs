//! Classifiers in files.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use dinolab_nn::weights::{Array, read_arrays, to_bytes};
use dinolab_nn::{Parameters, Vit, VitConfig};

use super::{LinearClassifier, LinearConfig};
use crate::block_features::BlockFeatures;
use crate::features::Preprocess;
use crate::file::write_whole;
use crate::{Error, Result};

/// What the files call themselves.
const FORMAT: &str = "dinolab linear classifier 1";

/// The network whose features a classifier takes.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Backbone {
    /// Its sizes.
    pub vit: VitConfig,
    /// CRC-32 of its values, little-endian, parameter by parameter in the reference's order.
    pub crc32: u32,
    /// Which of its tokens make a feature.
    pub features: BlockFeatures,
    /// How images become its input.
    pub preprocess: Preprocess,
}

impl Backbone {
    /// Describes `vit`.
    pub fn of(vit: &Vit, features: BlockFeatures, preprocess: &Preprocess) -> Self {
        let mut crc = crc32fast::Hasher::new();
        vit.visit("", &mut |_, param| {
            param
                .to_vec()
                .iter()
                .for_each(|v| crc.update(&v.to_le_bytes()));
        });
        Self {
            vit: vit.config().clone(),
            crc32: crc.finalize(),
            features,
            preprocess: preprocess.clone(),
        }
    }
}

/// How a classifier was trained and what it reached.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Protocol {
    /// Epochs, batch, momentum, seed.
    #[serde(flatten)]
    pub config: LinearConfig,
    /// Learning rate for a batch of 256.
    pub lr: f64,
    /// Whether training images were augmented.
    pub augment: bool,
    /// Whether features were standardised; the saved weights take plain features all the same.
    pub standardise: bool,
    /// Rows trained on.
    pub images: usize,
    /// Top-1 accuracy on the set it was judged by, in percent.
    pub top1: f64,
}

/// A trained classifier with all that is needed to use it: a safetensors file with the tensors
/// `linear.weight` `[K, D]` and `linear.bias` `[K]`, and the rest as metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifierFile {
    /// The layer.
    pub classifier: LinearClassifier,
    /// Class names in label order, `[K]`.
    pub classes: Vec<String>,
    /// The network it belongs to; `None` where it was trained on saved features, whose
    /// origin is not known.
    pub backbone: Option<Backbone>,
    /// How it was trained.
    pub protocol: Protocol,
}

impl ClassifierFile {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// A file that cannot be written; class names that are not one per class.
    pub fn write(&self, path: &Path) -> Result<()> {
        let layer = &self.classifier;
        if self.classes.len() != layer.classes() {
            let reason = format!("{} for {} classes", self.classes.len(), layer.classes());
            return Err(Error::invalid("class names", reason));
        }
        let array = |shape: &[usize], data: &[f32]| Array {
            shape: shape.to_vec(),
            data: data.to_vec(),
        };
        let arrays = BTreeMap::from([
            (
                "linear.weight".to_owned(),
                array(&[layer.classes(), layer.dim], &layer.weight),
            ),
            (
                "linear.bias".to_owned(),
                array(&[layer.classes()], &layer.bias),
            ),
        ]);
        let json = |text: serde_json::Result<String>| {
            text.map_err(|error| Error::invalid("classifier", error.to_string()))
        };
        let mut facts = BTreeMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            (
                "classes".to_owned(),
                json(serde_json::to_string(&self.classes))?,
            ),
            (
                "protocol".to_owned(),
                json(serde_json::to_string(&self.protocol))?,
            ),
        ]);
        if let Some(backbone) = &self.backbone {
            facts.insert("backbone".into(), json(serde_json::to_string(backbone))?);
        }
        let bytes = to_bytes(&arrays, &facts)?;
        write_whole(path, |out| out.write_all(&bytes))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is no classifier.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |reason: String| Error::Format {
            path: path.into(),
            reason,
        };
        let (mut arrays, facts) = read_arrays(path)?;
        match facts.get("format").map(String::as_str) {
            Some(FORMAT) => {}
            Some(other) => return Err(wrong(format!("is a \"{other}\", not a \"{FORMAT}\""))),
            None => {
                return Err(Error::NotAClassifier { path: path.into() });
            }
        }
        fn fact<T: serde::de::DeserializeOwned>(
            facts: &BTreeMap<String, String>,
            name: &str,
        ) -> std::result::Result<Option<T>, String> {
            facts
                .get(name)
                .map(|text| serde_json::from_str(text).map_err(|e| format!("{name}: {e}")))
                .transpose()
        }
        let missing = |name: &str| wrong(format!("has no {name}"));
        let weight = arrays
            .remove("linear.weight")
            .ok_or_else(|| missing("linear.weight"))?;
        let bias = arrays
            .remove("linear.bias")
            .ok_or_else(|| missing("linear.bias"))?;
        let classes: Vec<String> = fact(&facts, "classes")
            .map_err(wrong)?
            .ok_or_else(|| missing("classes"))?;
        let (&[k, dim], &[k_bias]) = (weight.shape.as_slice(), bias.shape.as_slice()) else {
            let (w, b) = (weight.shape, bias.shape);
            return Err(wrong(format!("weights of shape {w:?} and bias of {b:?}")));
        };
        if k != k_bias || k != classes.len() || k == 0 || dim == 0 {
            let named = classes.len();
            return Err(wrong(format!(
                "weights [{k}, {dim}], bias [{k_bias}] and {named} class names do not fit"
            )));
        }
        for (name, array, width) in [("linear.weight", &weight, dim), ("linear.bias", &bias, 1)] {
            if let Some(at) = array.data.iter().position(|value| !value.is_finite()) {
                let class = &classes[at / width];
                return Err(wrong(format!(
                    "tensor {name} has a value that is not a finite number, of class {class}"
                )));
            }
        }
        Ok(Self {
            classifier: LinearClassifier {
                dim,
                weight: weight.data,
                bias: bias.data,
            },
            classes,
            backbone: fact(&facts, "backbone").map_err(wrong)?,
            protocol: fact(&facts, "protocol")
                .map_err(wrong)?
                .ok_or_else(|| missing("protocol"))?,
        })
    }
}
