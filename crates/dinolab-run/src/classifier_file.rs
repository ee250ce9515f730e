//! Linear classifiers in files, with the network they belong to.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use dinolab_eval::linear::{LinearClassifier, LinearConfig};
use dinolab_features::{BlockFeatures, Preprocess};
use dinolab_nn::weights::{Array, read_arrays, to_bytes};
use dinolab_nn::{AnyBackbone, BackboneConfig, Parameters};

use crate::error::{Context, Error, Result};

/// Value of the metadata entry `format`.
const FORMAT: &str = "dinolab linear classifier 1";

/// The network whose features a classifier expects.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Backbone {
    /// Its architecture, under the name of its kind.
    #[serde(flatten)]
    pub config: BackboneConfig,
    /// CRC-32 of its parameters, as little-endian `f32` in the order of the reference implementation.
    pub crc32: u32,
    /// The tokens that make up a feature.
    pub features: BlockFeatures,
    /// The preprocessing of images.
    pub preprocess: Preprocess,
}

impl Backbone {
    /// Describes `backbone`.
    pub fn of(backbone: &AnyBackbone, features: BlockFeatures, preprocess: &Preprocess) -> Self {
        let mut crc = crc32fast::Hasher::new();
        backbone.visit("", &mut |_, param| {
            param
                .to_vec()
                .iter()
                .for_each(|v| crc.update(&v.to_le_bytes()));
        });
        Self {
            config: backbone.config(),
            crc32: crc.finalize(),
            features,
            preprocess: preprocess.clone(),
        }
    }
}

/// The training of a classifier and its accuracy.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Protocol {
    /// Epochs, batch size, momentum, seed.
    #[serde(flatten)]
    pub config: LinearConfig,
    /// Learning rate for a batch of 256.
    pub lr: f64,
    /// Whether training images were augmented.
    pub augment: bool,
    /// Whether features were standardised. The saved weights expect plain features in any case.
    pub standardise: bool,
    /// Number of training images.
    pub images: usize,
    /// Top-1 accuracy on the validation set, in percent.
    pub top1: f64,
}

/// A trained classifier with everything needed to use it: a safetensors file with the tensors
/// `linear.weight` `[K, D]` and `linear.bias` `[K]`, and the rest as metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifierFile {
    /// The layer.
    pub classifier: LinearClassifier,
    /// Class names in label order, `[K]`.
    pub classes: Vec<String>,
    /// The network it belongs to; `None` if it was trained on saved features of unknown origin.
    pub backbone: Option<Backbone>,
    /// Its training.
    pub protocol: Protocol,
}

impl ClassifierFile {
    /// Writes the file, complete or not at all.
    ///
    /// # Errors
    /// A file that cannot be written; [`Error::Invalid`] unless there is one name per class.
    pub fn write(&self, path: &Path) -> Result<()> {
        let layer = &self.classifier;
        if self.classes.len() != layer.classes() {
            let (names, classes) = (self.classes.len(), layer.classes());
            bail!("class names: {names} for {classes} classes");
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
        let json = |text: serde_json::Result<String>| text.context("classifier");
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
        dinolab_files::write_whole(path, |out| out.write_all(&bytes))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read; [`Error::NotAClassifier`] or [`Error::Invalid`] if it is not a
    /// valid classifier.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |reason: String| Error::Invalid(format!("{}: {reason}", path.display()));
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
                    "tensor {name} has a value that is not finite, of class {class}"
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

#[cfg(test)]
mod tests {
    use dinolab_nn::init::Init;
    use dinolab_nn::{ResNet, ResNetConfig, Vit, VitConfig, device};

    use super::*;

    fn vit(seed: u64) -> AnyBackbone {
        let config = VitConfig {
            width: 12,
            depth: 3,
            heads: 2,
            mlp_ratio: 2,
            ..VitConfig::named("vit_tiny", 4, 8).unwrap()
        };
        let device = device::by_name("cpu").unwrap();
        Vit::new(&config, &mut Init::new(seed), &device)
            .unwrap()
            .into()
    }

    fn file(vit: &AnyBackbone) -> ClassifierFile {
        ClassifierFile {
            classifier: LinearClassifier::new(24, 3, 5),
            classes: ["Würfel", "two words", "c"].map(str::to_owned).to_vec(),
            backbone: Some(Backbone::of(
                vit,
                BlockFeatures {
                    n_last_blocks: 2,
                    ..BlockFeatures::default()
                },
                &Preprocess::default(),
            )),
            protocol: Protocol {
                config: LinearConfig::default(),
                lr: 0.1,
                augment: true,
                standardise: false,
                images: 12,
                top1: 66.5,
            },
        }
    }

    #[test]
    fn a_classifier_comes_back_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/c.safetensors");
        let written = file(&vit(1));
        written.write(&path).unwrap();
        assert_eq!(ClassifierFile::read(&path).unwrap(), written);
        let plain = ClassifierFile {
            backbone: None,
            ..written.clone()
        };
        plain.write(&path).unwrap();
        assert_eq!(ClassifierFile::read(&path).unwrap(), plain);
        let config = ResNetConfig {
            width: 3,
            ..ResNetConfig::named("resnet18").unwrap()
        };
        let device = device::by_name("cpu").unwrap();
        let resnet = ResNet::new(&config, &mut Init::new(0), &device).unwrap();
        let of_resnet = file(&resnet.into());
        of_resnet.write(&path).unwrap();
        assert_eq!(ClassifierFile::read(&path).unwrap(), of_resnet);
        let misnamed = ClassifierFile {
            classes: vec!["a".into()],
            ..written
        };
        assert!(misnamed.write(&path).is_err());
    }

    #[test]
    fn other_weights_have_another_sum() {
        let sum = |vit: &AnyBackbone| {
            Backbone::of(vit, BlockFeatures::default(), &Preprocess::default()).crc32
        };
        assert_eq!(sum(&vit(1)), sum(&vit(1)));
        assert_ne!(sum(&vit(1)), sum(&vit(2)));
    }

    #[test]
    fn files_that_are_no_classifier_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.safetensors");
        let told = |path: &std::path::Path| ClassifierFile::read(path).unwrap_err().to_string();
        assert!(told(&path).contains("c.safetensors"));
        std::fs::write(&path, b"something else").unwrap();
        assert!(told(&path).contains("c.safetensors"));
        file(&vit(1)).write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(told(&path).contains("c.safetensors"));
        // Another kind of file, and one whose shapes do not fit its names.
        let arrays = dinolab_nn::weights::arrays(&vit(1), "");
        let plain = dinolab_nn::weights::to_bytes(&arrays, &Default::default()).unwrap();
        std::fs::write(&path, plain).unwrap();
        assert!(
            told(&path).contains("is not a classifier"),
            "{}",
            told(&path)
        );
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let at = text.find("two words").unwrap();
        // Byte positions: the header is ASCII but for the class name before it, of two bytes.
        let mut fewer = bytes.clone();
        let at = bytes
            .windows(9)
            .position(|w| w == b"two words")
            .unwrap_or(at);
        fewer[at..at + 9].copy_from_slice(b"\\\",\\\"    ");
        std::fs::write(&path, &fewer).unwrap();
        assert!(told(&path).contains("do not fit"), "{}", told(&path));
    }
}
