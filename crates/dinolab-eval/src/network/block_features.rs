//! Features from the last blocks, for linear classifiers.

use burn::tensor::Tensor;
use dinolab_data::augment::eval;
use dinolab_data::{Image, Source};
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::{BlockTokens, check_patches};

use crate::network::features::{FeatureExtractor, Features, Preprocess, View, at_once};
use crate::{Error, Result};

/// The tokens that make up a feature: the class tokens of the last blocks, each after the *final*
/// norm, earliest block first, and optionally the mean of the last block's patch tokens.
///
/// The reference implementation uses four blocks of ViT-S, and one block and the mean patch token
/// of ViT-B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BlockFeatures {
    /// Number of last blocks, from 1 to the network's depth.
    pub n_last_blocks: usize,
    /// Whether the mean patch token is appended.
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
    /// Checks that `backbone` has this many blocks.
    ///
    /// # Errors
    /// [`Error::BadSetting`] if it does not.
    pub fn check(&self, backbone: &dyn BlockTokens) -> Result<()> {
        let depth = backbone.depth();
        if (1..=depth).contains(&self.n_last_blocks) {
            return Ok(());
        }
        let reason = format!(
            "must be 1 to {depth}, the network's depth, not {}",
            self.n_last_blocks
        );
        Err(Error::setting("n-last-blocks", reason))
    }

    /// Returns the width of a feature of `backbone`.
    pub fn dim(&self, backbone: &dyn BlockTokens) -> usize {
        backbone.width() * (self.n_last_blocks + usize::from(self.avgpool_patchtokens))
    }

    /// Computes features `[B, dim]` of images `[B, C, H, W]`.
    pub fn of(&self, backbone: &dyn BlockTokens, images: Tensor<4>) -> Tensor<2> {
        if *self
            == (Self {
                n_last_blocks: 1,
                avgpool_patchtokens: false,
            })
        {
            return backbone.class_tokens(vec![images], &NoDropPath);
        }
        let [_, _, height, width] = images.dims();
        let patch = backbone.stride();
        let patches = (height / patch) * (width / patch);
        let blocks = backbone.last_blocks(images, self.n_last_blocks);
        let mut parts: Vec<Tensor<2>> = blocks
            .iter()
            .map(|tokens| {
                let [b, _, d] = tokens.dims();
                tokens.clone().narrow(1, 0, 1).reshape([b, d])
            })
            .collect();
        if let Some(last) = blocks.last().filter(|_| self.avgpool_patchtokens) {
            let [b, n, d] = last.dims();
            // Tokens between the class token and the patches, such as registers, are not part of the mean.
            let patches = last.clone().narrow(1, n - patches, patches);
            parts.push(patches.mean_dim(1).reshape([b, d]));
        }
        Tensor::cat(parts, 1)
    }

    /// Computes features of the source's images `indices`, resized and centre-cropped as
    /// `preprocess` specifies; see [`FeatureExtractor::run`].
    ///
    /// # Errors
    /// As [`BlockFeatures::check`] and [`embed`](super::embed).
    pub fn embed(
        &self,
        backbone: &dyn BlockTokens,
        source: &dyn Source,
        indices: &[usize],
        preprocess: &Preprocess,
        batch_size: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Features> {
        let view =
            |_, image: &Image| Ok(eval::features(image, preprocess.resize, preprocess.crop)?);
        let (crop, patch) = (preprocess.crop, backbone.stride());
        check_patches(crop.height, crop.width, patch)?;
        let batch_size = at_once(batch_size, (crop.height, crop.width), patch);
        self.embed_views(
            backbone,
            source,
            indices,
            (&view, preprocess),
            batch_size,
            progress,
        )
    }

    /// [`BlockFeatures::embed`] of other views, all of one size; only the channel means and
    /// deviations of `preprocess` are used.
    ///
    /// # Errors
    /// As [`BlockFeatures::embed`].
    pub fn embed_views(
        &self,
        backbone: &dyn BlockTokens,
        source: &dyn Source,
        indices: &[usize],
        (view, preprocess): (&View, &Preprocess),
        batch_size: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Features> {
        self.check(backbone)?;
        FeatureExtractor {
            backbone,
            view,
            feature: &|images| self.of(backbone, images),
            dim: self.dim(backbone),
            normaliser: &preprocess.normaliser()?,
            batch_size,
        }
        .run(source, indices, progress)
    }
}

#[cfg(test)]
mod tests {
    use dinolab_nn::init::Init;
    use dinolab_nn::{Vit, VitConfig, device};

    use super::*;
    use crate::network::features::{batch, host};

    fn vit(seed: u64) -> Vit {
        let config = VitConfig {
            width: 12,
            depth: 3,
            heads: 2,
            mlp_ratio: 2,
            ..VitConfig::named("vit_tiny", 4, 8).unwrap()
        };
        let device = device::by_name("cpu").unwrap();
        Vit::new(&config, &mut Init::new(seed), &device).unwrap()
    }

    #[test]
    fn block_features_are_the_tokens_they_say() {
        let vit = vit(3);
        let images = || {
            let data = Init::new(9).truncated_normal(2 * 3 * 8 * 8, 1.0);
            let planes: Vec<Vec<f32>> = data.chunks(192).map(<[f32]>::to_vec).collect();
            batch(&vit, &planes, 8, 8)
        };
        let blocks: Vec<Vec<f32>> = vit
            .intermediate(images(), 2)
            .into_iter()
            .map(host)
            .collect();
        let spec = BlockFeatures {
            n_last_blocks: 2,
            avgpool_patchtokens: true,
        };
        spec.check(&vit).unwrap();
        assert_eq!(spec.dim(&vit), 36);
        let found = host(spec.of(&vit, images()));
        for image in 0..2 {
            let row = &found[image * 36..][..36];
            for (part, block) in blocks.iter().enumerate() {
                assert_eq!(row[part * 12..][..12], block[image * 60..][..12]);
            }
            for d in 0..12 {
                let sum: f32 = (1..5)
                    .map(|token| blocks[1][image * 60 + token * 12 + d])
                    .sum();
                assert!((row[24 + d] - sum / 4.0).abs() < 1e-6);
            }
        }
        // One block is the network's feature.
        let one = BlockFeatures {
            n_last_blocks: 1,
            avgpool_patchtokens: false,
        };
        let (a, b) = (
            one.of(&vit, images()),
            vit.intermediate(images(), 1).remove(0),
        );
        let (a, b) = (host(a), host(b));
        for image in 0..2 {
            for d in 0..12 {
                assert!((a[image * 12 + d] - b[image * 60 + d]).abs() < 1e-5);
            }
        }
        for n_last_blocks in [0, 4] {
            assert!(
                BlockFeatures {
                    n_last_blocks,
                    ..spec
                }
                .check(&vit)
                .is_err()
            );
        }
    }
}
