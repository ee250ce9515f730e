//! Features from the last blocks, as linear classifiers take them.

use burn::tensor::Tensor;
use dinolab_data::augment::eval;
use dinolab_data::{Image, Source};
use dinolab_nn::{Vit, check_patches};

use crate::features::{Features, Pass, Preprocess, View, at_once};
use crate::{Error, Result};

/// Which tokens make a feature: the class tokens of the last blocks, each after the *final*
/// norm, earliest block first, and after them the mean of the last block's patch tokens where
/// asked for.
///
/// The reference takes four blocks of ViT-S, and one block and the mean patch token of ViT-B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BlockFeatures {
    /// Blocks whose class tokens are taken, from 1 to the network's depth.
    pub n_last_blocks: usize,
    /// Whether the mean patch token is added.
    pub avgpool_patchtokens: bool,
}

impl Default for BlockFeatures {
    fn default() -> Self {
        Self {
            n_last_blocks: 4,
            avgpool_patchtokens: false,
        }
    }
}

impl BlockFeatures {
    /// Whether `vit` has these blocks.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where it has not.
    pub fn check(&self, vit: &Vit) -> Result<()> {
        let depth = vit.config().depth;
        if (1..=depth).contains(&self.n_last_blocks) {
            return Ok(());
        }
        let reason = format!(
            "must be 1 to {depth}, the network's depth, not {}",
            self.n_last_blocks
        );
        Err(Error::setting("n-last-blocks", reason))
    }

    /// Width of a feature of `vit`.
    pub fn dim(&self, vit: &Vit) -> usize {
        vit.config().width * (self.n_last_blocks + usize::from(self.avgpool_patchtokens))
    }

    /// Images `[B, C, H, W]` to features `[B, dim]`.
    pub fn of(&self, vit: &Vit, images: Tensor<4>) -> Tensor<2> {
        if *self
            == (Self {
                n_last_blocks: 1,
                avgpool_patchtokens: false,
            })
        {
            return vit.forward(images);
        }
        let [_, _, height, width] = images.dims();
        let patch = vit.config().patch_size;
        let patches = (height / patch) * (width / patch);
        let blocks = vit.intermediate(images, self.n_last_blocks);
        let mut parts: Vec<Tensor<2>> = blocks
            .iter()
            .map(|tokens| {
                let [b, _, d] = tokens.dims();
                tokens.clone().narrow(1, 0, 1).reshape([b, d])
            })
            .collect();
        if let Some(last) = blocks.last().filter(|_| self.avgpool_patchtokens) {
            let [b, n, d] = last.dims();
            // Whatever stands between the class token and the patches is not part of the mean.
            let patches = last.clone().narrow(1, n - patches, patches);
            parts.push(patches.mean_dim(1).reshape([b, d]));
        }
        Tensor::cat(parts, 1)
    }

    /// Features of the source's images number `indices`, each resized and its centre cut out as
    /// `preprocess` says; see [`Pass::run`].
    ///
    /// # Errors
    /// As [`BlockFeatures::check`] and [`embed`](crate::features::embed).
    pub fn embed(
        &self,
        vit: &Vit,
        source: &dyn Source,
        indices: &[usize],
        preprocess: &Preprocess,
        batch_size: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Features> {
        let view =
            |_, image: &Image| Ok(eval::features(image, preprocess.resize, preprocess.crop)?);
        let (crop, patch) = (preprocess.crop, vit.config().patch_size);
        check_patches(crop.height, crop.width, patch)?;
        let batch_size = at_once(batch_size, (crop.height, crop.width), patch);
        self.embed_views(
            vit,
            source,
            indices,
            (&view, preprocess),
            batch_size,
            progress,
        )
    }

    /// [`BlockFeatures::embed`] of other views, all of one size; of `preprocess`, channel means and
    /// deviations only.
    ///
    /// # Errors
    /// As [`BlockFeatures::embed`].
    pub fn embed_views(
        &self,
        vit: &Vit,
        source: &dyn Source,
        indices: &[usize],
        (view, preprocess): (&View, &Preprocess),
        batch_size: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Features> {
        self.check(vit)?;
        Pass {
            vit,
            view,
            feature: &|images| self.of(vit, images),
            dim: self.dim(vit),
            normaliser: &preprocess.normaliser()?,
            batch_size,
        }
        .run(source, indices, progress)
    }
}
