//! Export of a convolutional network to third-party formats.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use dinolab_files::{FileSet, write_whole};
use serde_json::Value as Json;

use super::convolutional::BACKBONE;
use super::preprocess::{KEY, Preparation};
use super::pth::{Value, write_pth};
use super::{Array, Weights, convnext, hugging_face, resnet, timm, to_bytes, unwritten};
use crate::{BackboneConfig, Error, Result, feature};

type Arrays = BTreeMap<String, Array>;

/// Whose names the tensors of a convolutional network have in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvolutionalNaming {
    /// torchvision's for a residual network, its authors' for a ConvNeXt.
    Original,
    /// timm's; for a residual network the same.
    Timm,
    /// Hugging Face's `ResNetModel` or `ConvNextModel`.
    HuggingFace,
}

/// A convolutional network to be exported, with its preprocessing.
#[derive(Clone, Debug)]
pub struct ConvolutionalBackbone {
    config: BackboneConfig,
    /// By the original names, without `backbone.`.
    arrays: Arrays,
    preparation: Option<Preparation>,
    /// Entries of the metadata that are passed on: what the preparation was read from, which may
    /// have more fields, and the feature.
    said: BTreeMap<String, String>,
}

impl ConvolutionalBackbone {
    /// The convolutional network of `weights`. `metadata` holds the preprocessing of images and the feature.
    ///
    /// # Errors
    /// [`Error::BadWeights`] if tensors are missing; [`Error::Lacks`] for a transformer.
    pub fn new(weights: &Weights, metadata: &BTreeMap<String, String>) -> Result<Self> {
        let config = weights.convolutional_config()?.ok_or(Error::Lacks {
            network: "a vision transformer".into(),
            capability: "the names of a convolutional network",
        })?;
        let names: Vec<String> = match &config {
            BackboneConfig::Vit(_) => Vec::new(),
            BackboneConfig::ResNet(config) => config.tensors().map(|(name, _)| name).collect(),
            BackboneConfig::ConvNext(config) => config.tensors().map(|(name, _)| name).collect(),
        };
        let own = |name: String| {
            let array = weights.arrays.get(&format!("{BACKBONE}{name}"))?;
            Some((name, array.clone()))
        };
        let said = [KEY, feature::KEY].into_iter();
        let said = said.filter_map(|key| metadata.get_key_value(key));
        Ok(Self {
            config,
            arrays: names.into_iter().filter_map(own).collect(),
            preparation: Preparation::from_metadata(metadata),
            said: said.map(|(k, v)| (k.clone(), v.clone())).collect(),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &BackboneConfig {
        &self.config
    }

    /// The names of tensors of `weights` that are no part of the network.
    pub fn left_out<'a>(&self, weights: &'a Weights) -> Vec<&'a str> {
        let kept = |name: &str| {
            let local = name.strip_prefix(BACKBONE);
            local.is_some_and(|local| self.arrays.contains_key(local))
        };
        let names = weights.arrays.keys().map(String::as_str);
        names.filter(|name| !kept(name)).collect()
    }

    /// The arrays by the names of a naming scheme, as programs that use it load them.
    pub fn named(&self, naming: ConvolutionalNaming) -> Arrays {
        match (&self.config, naming) {
            (BackboneConfig::ConvNext(config), ConvolutionalNaming::Timm) => {
                convnext::timm_named(&self.arrays, config)
            }
            (BackboneConfig::ConvNext(_), ConvolutionalNaming::HuggingFace) => {
                hugging_face::convnext::named(&self.arrays)
            }
            (BackboneConfig::ResNet(_), ConvolutionalNaming::HuggingFace) => {
                hugging_face::resnet::named(&self.arrays)
            }
            _ => self.arrays.clone(),
        }
    }

    /// The metadata of a safetensors file: the format, which Hugging Face requires, and all that
    /// other files cannot store.
    fn metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        metadata.extend([self.config.metadata_entry()]);
        metadata.extend(self.said.clone());
        metadata
    }

    /// Writes a `.pth` with the state dictionary.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write_pth(&self, path: &Path, naming: ConvolutionalNaming) -> Result<()> {
        let state = self.named(naming).into_iter();
        let state = state.map(|(name, array)| (name, Value::Tensor(array)));
        write_pth(path, &Value::dict(state))
    }

    /// Writes a safetensors file.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write_safetensors(&self, path: &Path, naming: ConvolutionalNaming) -> Result<()> {
        let bytes = to_bytes(&self.named(naming), &self.metadata())?;
        write_whole(path, |out| out.write_all(&bytes)).map_err(unwritten(path))
    }

    /// Writes a folder: `model.safetensors`, `config.json`, and Hugging Face's
    /// `preprocessor_config.json`; for other names than Hugging Face's, timm's. If the preprocessing is not
    /// known, the reference's is written for networks of three channels, and none for others.
    ///
    /// # Errors
    /// [`Error::Write`]; [`Error::Lacks`] where timm has no network of these sizes.
    pub fn write_folder(&self, folder: &Path, naming: ConvolutionalNaming) -> Result<()> {
        let colours = self.config.channels() == 3;
        let reference = colours.then(Preparation::reference);
        let preparation = self.preparation.clone().or(reference);
        let mut files: Vec<(&str, Json)> = Vec::new();
        if naming == ConvolutionalNaming::HuggingFace {
            let images = preparation.as_ref().map(hugging_face::preprocessor_json);
            files.extend(images.map(|images| ("preprocessor_config.json", images)));
        }
        let prepared = || preparation.as_ref().map(timm::prepared);
        let config = match (&self.config, naming) {
            (BackboneConfig::ResNet(config), ConvolutionalNaming::HuggingFace) => {
                Some(hugging_face::resnet::config_json(config))
            }
            (BackboneConfig::ResNet(config), _) => resnet::timm_config(config, prepared()),
            (BackboneConfig::ConvNext(config), ConvolutionalNaming::HuggingFace) => {
                Some(hugging_face::convnext::config_json(config))
            }
            (BackboneConfig::ConvNext(config), _) => {
                Some(convnext::timm_config(config, prepared()))
            }
            (BackboneConfig::Vit(_), _) => None,
        };
        let config = config.ok_or_else(|| Error::Lacks {
            network: self.config.describe(),
            capability: "a counterpart of its sizes in timm",
        })?;
        files.push(("config.json", config));
        let weights = to_bytes(&self.named(naming), &self.metadata())?;
        let mut set = FileSet::default();
        let path = folder.join("model.safetensors");
        set.write(&path, |out| out.write_all(&weights))
            .map_err(unwritten(&path))?;
        for (name, value) in files {
            let text = serde_json::to_string_pretty(&value).expect("plain data");
            let path = folder.join(name);
            set.write(&path, |out| writeln!(out, "{text}"))
                .map_err(unwritten(&path))?;
        }
        set.keep().map_err(unwritten(folder))
    }
}
