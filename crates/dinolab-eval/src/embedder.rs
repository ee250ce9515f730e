//! From weights and an image to its feature, in three lines of another program.
//!
//! ```no_run
//! use dinolab_eval::Embedder;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let embedder = Embedder::open("runs/photos".as_ref())?;
//! let bytes = std::fs::read("cat.jpg")?;
//! let image = dinolab_data::decode::decode("cat.jpg", &bytes, 1 << 28)?;
//! let feature: Vec<f32> = embedder.embed(&image)?;
//! assert_eq!(feature.len(), embedder.dim());
//! # Ok(())
//! # }
//! ```

use std::path::Path;

use dinolab_data::Image;
use dinolab_data::augment::ChannelNormaliser;
use dinolab_data::augment::eval;
use dinolab_nn::init::Init;
use dinolab_nn::weights::{self, LoadOptions};
use dinolab_nn::{Vit, device};

use crate::features::{
    AttentionMaps, Preprocess, attend, batch, check_rows, described, host, planes, whole_patches,
};
use crate::{Error, Result};

/// A backbone with the preprocessing that its images need.
#[derive(Clone, Debug)]
pub struct Embedder {
    vit: Vit,
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
    /// The evaluated network (the teacher) of a run folder, a checkpoint or another weight file, on the CPU. Images are
    /// prepared as the file says, or as the reference does (256 px, centre 224 px, ImageNet's
    /// mean and deviation) where it says nothing.
    ///
    /// # Errors
    /// [`Error::Model`] where there are no weights of a vision transformer.
    pub fn open(path: &Path) -> Result<Self> {
        let weights = weights::read(&weights::locate(path)?, None)?;
        let config = weights.vit_config(None)?;
        let mut vit = Vit::new(&config, &mut Init::new(0), &device::by_name("cpu")?)?;
        weights::load(&mut vit, "backbone", &weights, LoadOptions::default())?;
        let preprocess = Preprocess::of_facts(&weights.metadata).unwrap_or_default();
        Self::new(vit, preprocess)
    }

    /// From a network in memory.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Data`] for a preprocessing that is none.
    pub fn new(vit: Vit, preprocess: Preprocess) -> Result<Self> {
        let normaliser = preprocess.normaliser()?;
        let (channels, means) = (vit.config().channels, preprocess.mean.len());
        if channels != means {
            let reason = format!("{means} for a network of {channels} channels");
            return Err(Error::invalid("channel means", reason));
        }
        preprocess.check(vit.config().patch_size)?;
        Ok(Self {
            vit,
            preprocess,
            normaliser,
        })
    }

    /// Width of a feature, `D`.
    pub fn dim(&self) -> usize {
        self.vit.config().width
    }

    /// The network.
    pub fn vit(&self) -> &Vit {
        &self.vit
    }

    /// How images are prepared.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// The class token `[D]` of an image of any size (8-bit RGB unless the network was trained on others), not normalised.
    ///
    /// # Errors
    /// [`Error::Data`] for an image that cannot be prepared,
    /// [`Error::NotFinite`] where the network makes no numbers of it.
    pub fn embed(&self, image: &Image) -> Result<Vec<f32>> {
        self.embed_batch(std::slice::from_ref(image))
    }

    /// Class tokens of several images, one after the other, `[B, D]`. All go through the network
    /// together, so that memory grows with their number.
    ///
    /// # Errors
    /// [`Error::Data`] for the first image that cannot be prepared.
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
        let input = batch(&self.vit, &inputs, crop.height, crop.width);
        let features = host(self.vit.forward(input));
        check_rows(&features, self.dim(), |row| described(&images[row]))?;
        Ok(features)
    }

    /// All tokens of an image, at the image's own size or brought to `size` = (height, width)
    /// first, and cut to whole patches.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an image smaller than a patch, [`Error::Data`] for one that is not
    /// RGB.
    pub fn tokens(&self, image: &Image, size: Option<(usize, usize)>) -> Result<Tokens> {
        let patch = self.vit.config().patch_size;
        let image = whole_patches(image, size, patch)?;
        let input = batch(
            &self.vit,
            &[planes(&image, &self.normaliser)?],
            image.height,
            image.width,
        );
        let grid = (image.height / patch, image.width / patch);
        let dim = self.dim();
        let all = host(self.vit.intermediate(input, 1).remove(0));
        check_rows(&all, all.len(), |_| described(&image))?;
        // Whatever stands between the class token and the patches is no part of the picture.
        let patches = all[all.len() - grid.0 * grid.1 * dim..].to_vec();
        Ok(Tokens {
            dim,
            grid,
            class: all[..dim].to_vec(),
            patches,
        })
    }

    /// Attention of the last block's class token, sizes as in [`Embedder::tokens`].
    ///
    /// # Errors
    /// As [`Embedder::tokens`].
    pub fn attention(&self, image: &Image, size: Option<(usize, usize)>) -> Result<AttentionMaps> {
        let image = whole_patches(image, size, self.vit.config().patch_size)?;
        attend(&self.vit, &image, &self.normaliser)
    }
}
