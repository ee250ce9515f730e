//! The feature of one image, for other programs.
//!
//! ```no_run
//! use dinolab_features::Embedder;
//! use dinolab_nn::weights;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // `dinolab_run::weights::read` takes run folders and checkpoints as well.
//! let weights = weights::read("vits16.safetensors".as_ref(), None)?;
//! let embedder = Embedder::from_weights(&weights)?;
//! let bytes = std::fs::read("cat.jpg")?;
//! let image = dinolab_data::decode::decode("cat.jpg", &bytes, 1 << 28)?;
//! let feature: Vec<f32> = embedder.embed(&image)?;
//! assert_eq!(feature.len(), embedder.dim());
//! # Ok(())
//! # }
//! ```

use dinolab_data::Image;
use dinolab_data::augment::ChannelNormaliser;
use dinolab_data::augment::eval;
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::weights::{self, LoadOptions, Weights};
use dinolab_nn::{AnyBackbone, Backbone, Feature, device};

use crate::block_features::BlockFeatures;
use crate::features::{
    AttentionMaps, Preprocess, attend, batch, check_rows, described, planes, whole_patches,
};
use crate::map_kind::MapKind;
use crate::{Error, Result};

/// A backbone with the preprocessing of its images.
#[derive(Clone, Debug)]
pub struct Embedder {
    backbone: AnyBackbone,
    features: BlockFeatures,
    preprocess: Preprocess,
    normaliser: ChannelNormaliser,
}

/// All tokens of one image after the final norm.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// Width of a token, `D`.
    pub dim: usize,
    /// Rows and columns of patches, `(h, w)`.
    pub grid: (usize, usize),
    /// The class token, `[D]`.
    pub class: Vec<f32>,
    /// The patches row by row, `[h · w, D]`.
    pub patches: Vec<f32>,
}

impl Embedder {
    /// Makes the backbone of `weights`, on the CPU, with the feature that it was trained on. Images are
    /// prepared as the file specifies, else as by the reference implementation (resized to 256 pixels,
    /// centre-cropped to 224, ImageNet's mean and standard deviation).
    ///
    /// # Errors
    /// [`Error::Model`] unless they are those of a backbone.
    pub fn from_weights(weights: &Weights) -> Result<Self> {
        let config = weights.backbone_config(None)?;
        let cpu = device::by_name("cpu")?;
        let mut backbone = AnyBackbone::new(&config, &mut Init::new(0), &cpu)?;
        weights::load(&mut backbone, "backbone", weights, LoadOptions::default())?;
        let preprocess = Preprocess::from_metadata(&weights.metadata).unwrap_or_default();
        Self::new(backbone, preprocess)?.with_features(weights.feature()?.into())
    }

    /// Wraps a network in memory, whose feature is the class token.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::BadSetting`] or [`Error::Data`] for an unusable preprocessing.
    pub fn new(backbone: impl Into<AnyBackbone>, preprocess: Preprocess) -> Result<Self> {
        let backbone = backbone.into();
        let normaliser = preprocess.normaliser()?;
        let (channels, means) = (backbone.channels(), preprocess.mean.len());
        if channels != means {
            let reason = format!("{means} for a network of {channels} channels");
            return Err(Error::invalid("channel means", reason));
        }
        preprocess.check(backbone.stride())?;
        Ok(Self {
            backbone,
            features: Feature::Class.into(),
            preprocess,
            normaliser,
        })
    }

    /// The same network with other features.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for more blocks than the network has.
    pub fn with_features(self, features: BlockFeatures) -> Result<Self> {
        features.check(&self.backbone)?;
        Ok(Self { features, ..self })
    }

    /// Returns the width of a feature.
    pub fn dim(&self) -> usize {
        self.features.dim(&self.backbone)
    }

    /// Returns the network.
    pub fn backbone(&self) -> &AnyBackbone {
        &self.backbone
    }

    /// Returns the preprocessing of images.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Returns the feature of an image of any size, not normalised. The image is 8-bit RGB
    /// unless the network was trained on others.
    ///
    /// # Errors
    /// [`Error::Data`] for an image that cannot be prepared, [`Error::NotFinite`] if the network's
    /// output is not finite.
    pub fn embed(&self, image: &Image) -> Result<Vec<f32>> {
        self.embed_batch(std::slice::from_ref(image))
    }

    /// Returns the features of several images, `[B, dim]`, computed as one batch.
    ///
    /// # Errors
    /// As [`Embedder::embed`], for the first unusable image.
    pub fn embed_batch(&self, images: &[Image]) -> Result<Vec<f32>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let Preprocess { resize, crop, .. } = self.preprocess;
        let inputs = images
            .iter()
            .map(|image| {
                let image = eval::features(image, resize, crop)?;
                planes(&image, &self.normaliser)
            })
            .collect::<Result<Vec<_>>>()?;
        let input = batch(&self.backbone, &inputs, crop.height, crop.width);
        let features = to_host_f32(self.features.of(&self.backbone, input));
        check_rows(&features, self.dim(), |row| described(&images[row]))?;
        Ok(features)
    }

    /// Returns all tokens of an image at its own size, or resized to `size` = (height, width), and
    /// cropped to whole patches.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an image smaller than a patch, otherwise as [`Embedder::embed`].
    pub fn tokens(&self, image: &Image, size: Option<(usize, usize)>) -> Result<Tokens> {
        let patch = self.backbone.stride();
        let image = whole_patches(image, size, patch)?;
        let input = batch(
            &self.backbone,
            &[planes(&image, &self.normaliser)?],
            image.height,
            image.width,
        );
        let tokens = self.backbone.tokens(input);
        let (class, patches) = (to_host_f32(tokens.class), to_host_f32(tokens.patches));
        for values in [&class, &patches] {
            check_rows(values, values.len(), |_| described(&image))?;
        }
        Ok(Tokens {
            dim: class.len(),
            grid: tokens.grid,
            class,
            patches,
        })
    }

    /// Returns the attention of the last block's class token; sizes as in [`Embedder::tokens`].
    ///
    /// # Errors
    /// As [`Embedder::tokens`].
    pub fn attention(&self, image: &Image, size: Option<(usize, usize)>) -> Result<AttentionMaps> {
        let image = whole_patches(image, size, self.backbone.stride())?;
        attend(&self.backbone, &image, &self.normaliser)
    }

    /// Returns the maps that the network has, and what they show; sizes as in [`Embedder::tokens`].
    ///
    /// # Errors
    /// As [`Embedder::tokens`].
    pub fn maps(
        &self,
        image: &Image,
        size: Option<(usize, usize)>,
    ) -> Result<(MapKind, AttentionMaps)> {
        let image = whole_patches(image, size, self.backbone.stride())?;
        let kind = MapKind::of(&self.backbone);
        Ok((kind, kind.maps(&self.backbone, &image, &self.normaliser)?))
    }
}

#[cfg(test)]
mod tests;
