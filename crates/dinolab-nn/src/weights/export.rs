//! Export of a backbone to third-party formats.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::preprocess::{KEY, Preparation};
use super::pth::{Value, write_pth};
use super::{Array, Kind, Naming, arrays, hugging_face, reference, timm, to_bytes, unwritten};
use crate::position::resample;
use crate::{Result, Vit, VitConfig, feature};
use dinolab_files::{FileSet, write_whole};

type Arrays = BTreeMap<String, Array>;

/// A backbone to be exported, with its preprocessing.
#[derive(Clone, Debug)]
pub struct Backbone {
    config: VitConfig,
    /// By the reference's names, without `backbone.`.
    arrays: Arrays,
    preparation: Option<Preparation>,
    /// Entries of the metadata that are passed on: what the preparation was read from, which may
    /// have more fields, and the feature.
    said: BTreeMap<String, String>,
}

impl Backbone {
    /// A copy of a network. `metadata` holds the preprocessing of images and the feature; `mask_token` is the token
    /// that DINOv2 stores with its networks.
    pub fn new(vit: &Vit, metadata: &BTreeMap<String, String>, mask_token: Option<&Array>) -> Self {
        let mut all = arrays(vit, "");
        all.extend(mask_token.map(|array| ("mask_token".to_owned(), array.clone())));
        let said = [KEY, feature::KEY].into_iter();
        let said = said.filter_map(|key| metadata.get_key_value(key));
        Self {
            config: vit.config().clone(),
            arrays: all,
            preparation: Preparation::from_metadata(metadata),
            said: said.map(|(k, v)| (k.clone(), v.clone())).collect(),
        }
    }

    /// The sizes.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Resamples position embeddings for images of side `image_size`, by the network's own rule, so
    /// that readers with another rule need not resample.
    pub fn resized(mut self, image_size: usize) -> Result<Self> {
        let from = self.config.side();
        self.config.image_size = image_size;
        self.config.validate()?;
        let (to, width) = (self.config.side(), self.config.width);
        self.config.image_size = to * self.config.patch_size;
        if let Some(places) = self.arrays.get_mut("pos_embed").filter(|_| from != to) {
            let (class, grid) = places.data.split_at(width);
            let grid = resample(grid, width, from, to, to, self.config.position_rule);
            places.data = [class, &grid].concat();
            places.shape = vec![1, 1 + to * to, width];
        }
        Ok(self)
    }

    fn mask_token(&self) -> Array {
        let zeros = || Array {
            shape: vec![1, self.config.width],
            data: vec![0.0; self.config.width],
        };
        let mut token = self.arrays.get("mask_token").cloned().unwrap_or_else(zeros);
        token.shape = vec![1, self.config.width];
        token
    }

    /// The state dictionary of the reference, or of DINOv2 for a network with layer scale, or of DINOv3
    /// for one with rotary positions.
    fn state_dict(&self) -> Arrays {
        let mut arrays = self.arrays.clone();
        if self.config.layer_scale || self.config.rope.is_some() {
            arrays.insert("mask_token".into(), self.mask_token());
        }
        reference::named(arrays, &self.config)
    }

    /// Checks that a naming scheme can hold the network.
    ///
    /// # Errors
    /// [`crate::Error::BadSetting`] for an MLP of a width that Hugging Face's class cannot have, and for a
    /// convolutional stem, which none of its classes has.
    pub fn check(&self, naming: Naming) -> Result<()> {
        match naming {
            Naming::HuggingFace(kind) if self.config.conv_stem => Err(stem_refused(format!(
                "{} cannot have a convolutional stem",
                kind.names().1
            ))),
            Naming::HuggingFace(kind) if !hugging_face::has_hidden_width(&self.config, kind) => {
                Err(crate::Error::BadSetting {
                    field: "ffn-width",
                    reason: format!(
                        "{} cannot have an MLP of width {}; write the weights with other names",
                        kind.names().1,
                        self.config.mlp_hidden()
                    ),
                })
            }
            _ => Ok(()),
        }
    }

    /// The arrays by the names of a naming scheme, as programs that use it load them.
    pub fn named(&self, naming: Naming) -> BTreeMap<String, Array> {
        match naming {
            Naming::Reference => self.state_dict(),
            Naming::Timm => timm::named(&self.arrays, &self.config),
            Naming::HuggingFace(kind) => {
                let mut arrays = self.arrays.clone();
                if matches!(kind, Kind::Dinov2WithRegisters | Kind::Dinov3) {
                    arrays.insert("mask_token".into(), self.mask_token());
                }
                if kind != Kind::Vit && !self.config.layer_scale {
                    let ones = Array {
                        shape: vec![self.config.width],
                        data: vec![1.0; self.config.width],
                    };
                    for i in 0..self.config.depth {
                        arrays.insert(format!("blocks.{i}.ls1.gamma"), ones.clone());
                        arrays.insert(format!("blocks.{i}.ls2.gamma"), ones.clone());
                    }
                }
                hugging_face::named(&arrays, kind, &self.config)
            }
        }
    }

    /// The metadata of a safetensors file: the format, which Hugging Face requires, and all that
    /// other files cannot store.
    fn metadata(&self, naming: Naming) -> BTreeMap<String, String> {
        let mut config = self.config.clone();
        // With layer scale of ones where the class wants it.
        let scaled = [Kind::Dinov2, Kind::Dinov2WithRegisters, Kind::Dinov3];
        config.layer_scale |= scaled
            .iter()
            .any(|&kind| naming == Naming::HuggingFace(kind));
        let vit = serde_json::to_string(&config).expect("plain data");
        let mut metadata = BTreeMap::from([
            ("format".to_owned(), "pt".to_owned()),
            ("vit".to_owned(), vit),
        ]);
        metadata.extend(self.said.clone());
        metadata
    }

    /// Writes a `.pth` with the state dictionary. By the reference's names it is that of the
    /// reference's `VisionTransformer`, or of DINOv2's for a network with layer scale.
    ///
    /// # Errors
    /// [`crate::Error::Write`].
    pub fn write_pth(&self, path: &Path, naming: Naming) -> Result<()> {
        let state = self.named(naming);
        write_pth(
            path,
            &Value::dict(state.into_iter().map(|(k, v)| (k, Value::Tensor(v)))),
        )
    }

    /// Writes a safetensors file.
    ///
    /// # Errors
    /// [`crate::Error::Write`].
    pub fn write_safetensors(&self, path: &Path, naming: Naming) -> Result<()> {
        let bytes = to_bytes(&self.named(naming), &self.metadata(naming))?;
        write_whole(path, |out| out.write_all(&bytes)).map_err(unwritten(path))
    }

    /// Writes a folder: `model.safetensors`, `config.json`, and Hugging Face's
    /// `preprocessor_config.json`. If the preprocessing is not known, the reference's is written for
    /// networks of three channels, and none for others.
    ///
    /// # Errors
    /// [`crate::Error::Write`]; [`crate::Error::BadSetting`] for a convolutional stem, of which timm cannot
    /// read a description.
    pub fn write_folder(&self, folder: &Path, naming: Naming) -> Result<()> {
        if self.config.conv_stem {
            return Err(stem_refused(
                "a config.json cannot describe a convolutional stem".into(),
            ));
        }
        let colours = self.config.channels == 3;
        let reference = colours.then(Preparation::reference);
        let preparation = self.preparation.clone().or(reference);
        let mut files = Vec::new();
        match naming {
            Naming::HuggingFace(kind) => {
                let mask_token = self.arrays.contains_key("mask_token");
                let config = hugging_face::config_json(&self.config, kind, mask_token);
                files.push(("config.json", config));
                let images = preparation.as_ref().map(hugging_face::preprocessor_json);
                files.extend(images.map(|images| ("preprocessor_config.json", images)));
            }
            _ => {
                let config = timm::config_json(&self.config, preparation.as_ref());
                files.push(("config.json", config));
            }
        }
        let weights = to_bytes(&self.named(naming), &self.metadata(naming))?;
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

fn stem_refused(reason: String) -> crate::Error {
    crate::Error::BadSetting {
        field: "stem",
        reason: format!("{reason}; write ONNX, or --to timm a .pth or .safetensors file"),
    }
}
