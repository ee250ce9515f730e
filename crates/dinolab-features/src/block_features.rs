//! Features from the last blocks.

use burn::tensor::Tensor;
use dinolab_data::Source;
use dinolab_data::augment::eval;
use dinolab_nn::backbone::{Tokens, block_tokens, last_tokens};
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::{Backbone, Feature};

use crate::features::{FeatureExtractor, Features, Preprocess, View, at_once, check_crop, some};
use crate::{Error, Result};

/// The tokens that make up a feature: the [`Feature`] of each of the last blocks, after the *final*
/// norm, earliest block first, and optionally the mean of the last block's patch tokens.
///
/// The reference implementation uses the class tokens of four blocks of ViT-S, and of one block and
/// the mean patch token of ViT-B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BlockFeatures {
    /// Number of last blocks, from 1 to the network's depth.
    pub n_last_blocks: usize,
    /// Whether the mean patch token of the last block is appended to the class tokens.
    pub avgpool_patchtokens: bool,
    /// What is taken of each block; of files from before there was a choice, the class token.
    #[serde(default, skip_serializing_if = "Feature::is_class")]
    pub feature: Feature,
}

impl Default for BlockFeatures {
    fn default() -> Self {
        Self {
            n_last_blocks: 4,
            avgpool_patchtokens: false,
            feature: Feature::Class,
        }
    }
}

impl From<Feature> for BlockFeatures {
    /// That of the last block: what a network was trained on.
    fn from(feature: Feature) -> Self {
        Self {
            n_last_blocks: 1,
            avgpool_patchtokens: false,
            feature,
        }
    }
}

impl BlockFeatures {
    /// Checks that `backbone` has this many blocks, and that patches are averaged once.
    ///
    /// # Errors
    /// [`Error::BadSetting`] otherwise; [`Error::Model`] for several blocks of a network that has none.
    pub fn check(&self, backbone: &dyn Backbone) -> Result<()> {
        if self.avgpool_patchtokens && !self.feature.is_class() {
            let reason = format!(
                "adds averaged patches to class tokens; the feature {} has them of each block",
                self.feature
            );
            return Err(Error::setting("avgpool-patchtokens", reason));
        }
        let depth = match backbone.as_block_tokens() {
            None if self.n_last_blocks == 1 => 1,
            _ => block_tokens(backbone)?.depth(),
        };
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
    pub fn dim(&self, backbone: &dyn Backbone) -> usize {
        let width = backbone.width();
        self.feature.width(width) * self.n_last_blocks
            + width * usize::from(self.avgpool_patchtokens)
    }

    /// Computes features `[B, dim]` of images `[B, C, H, W]`, by a network that [`BlockFeatures::check`]
    /// has passed.
    pub fn of(&self, backbone: &dyn Backbone, images: Tensor<4>) -> Tensor<2> {
        if *self == Self::from(self.feature) {
            return backbone.features(vec![images], self.feature, &NoDropPath);
        }
        let [_, _, height, width] = images.dims();
        let patch = backbone.stride();
        let patches = (height / patch) * (width / patch);
        let blocks = last_tokens(backbone, images, self.n_last_blocks);
        let blocks = blocks.expect("checked to be there");
        self.of_tokens(&blocks, patches)
    }

    /// [`BlockFeatures::of`] by a network that learns: batch normalisation uses the statistics of the
    /// batch, and a network without it computes the same.
    pub fn training(&self, backbone: &dyn Backbone, images: Tensor<4>) -> Tensor<2> {
        if *self == Self::from(self.feature) {
            return backbone.training_features(vec![images], self.feature, &NoDropPath);
        }
        if backbone.as_block_tokens().is_some() {
            return self.of(backbone, images);
        }
        let Tokens {
            class,
            patches,
            grid: (h, w),
        } = backbone.training_tokens(images, &NoDropPath);
        let [b, d] = class.dims();
        let tokens = Tensor::cat(vec![class.reshape([b, 1, d]), patches], 1);
        self.of_tokens(&[tokens], h * w)
    }

    /// The feature of the tokens of each block, the last of which are so many `patches`.
    fn of_tokens(&self, blocks: &[Tensor<3>], patches: usize) -> Tensor<2> {
        let mut parts: Vec<Tensor<2>> = blocks
            .iter()
            .map(|tokens| self.feature.of(tokens.clone(), patches))
            .collect();
        if let Some(last) = blocks.last().filter(|_| self.avgpool_patchtokens) {
            parts.push(Feature::Patches.of(last.clone(), patches));
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
        backbone: &dyn Backbone,
        source: &dyn Source,
        indices: &[usize],
        preprocess: &Preprocess,
        batch_size: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Features> {
        some(self.embed_usable(backbone, source, indices, preprocess, batch_size, progress)?)
    }

    /// As [`BlockFeatures::embed`], but that no image can be used is no error.
    ///
    /// # Errors
    /// As [`BlockFeatures::check`], and [`Error::Model`] for a crop of too many patches.
    pub fn embed_usable(
        &self,
        backbone: &dyn Backbone,
        source: &dyn Source,
        indices: &[usize],
        preprocess: &Preprocess,
        batch_size: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Features> {
        self.check(backbone)?;
        let (crop, patch) = (preprocess.crop, backbone.stride());
        check_crop(crop, patch)?;
        FeatureExtractor {
            backbone,
            view: &|_, image| Ok(eval::features(image, preprocess.resize, preprocess.crop)?),
            feature: &|images| self.of(backbone, images),
            dim: self.dim(backbone),
            normaliser: &preprocess.normaliser()?,
            batch_size: at_once(batch_size, (crop.height, crop.width), patch),
        }
        .run_usable(source, indices, progress)
    }

    /// [`BlockFeatures::embed`] of other views, all of one size; only the channel means and
    /// deviations of `preprocess` are used.
    ///
    /// # Errors
    /// As [`BlockFeatures::embed`].
    pub fn embed_views(
        &self,
        backbone: &dyn Backbone,
        source: &dyn Source,
        indices: &[usize],
        (view, preprocess): (&View, &Preprocess),
        batch_size: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Features> {
        let view = (view, preprocess);
        some(self.embed_usable_views(backbone, source, indices, view, batch_size, progress)?)
    }

    /// As [`BlockFeatures::embed_views`], but that no image can be used is no error.
    ///
    /// # Errors
    /// As [`BlockFeatures::embed_usable`].
    pub fn embed_usable_views(
        &self,
        backbone: &dyn Backbone,
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
        .run_usable(source, indices, progress)
    }
}

#[cfg(test)]
mod tests {
    use dinolab_nn::device::to_host_f32;
    use dinolab_nn::init::Init;
    use dinolab_nn::{Vit, VitConfig, device};

    use super::*;
    use crate::features::batch;

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
            .map(to_host_f32)
            .collect();
        let spec = BlockFeatures {
            n_last_blocks: 2,
            avgpool_patchtokens: true,
            feature: Feature::Class,
        };
        spec.check(&vit).unwrap();
        assert_eq!(spec.dim(&vit), 36);
        let found = to_host_f32(spec.of(&vit, images()));
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
        let one = BlockFeatures::from(Feature::Class);
        let (a, b) = (
            one.of(&vit, images()),
            vit.intermediate(images(), 1).remove(0),
        );
        let (a, b) = (to_host_f32(a), to_host_f32(b));
        for image in 0..2 {
            for d in 0..12 {
                assert!((a[image * 12 + d] - b[image * 60 + d]).abs() < 1e-5);
            }
        }
        // Averaged patches of each block, after its class token.
        let both = BlockFeatures {
            avgpool_patchtokens: false,
            feature: Feature::Both,
            ..spec
        };
        both.check(&vit).unwrap();
        assert_eq!(both.dim(&vit), 48);
        let (both, reference) = (to_host_f32(both.of(&vit, images())), found);
        for (row, old) in both.chunks(48).zip(reference.chunks(36)) {
            assert_eq!(row[..12], old[..12]);
            assert_eq!(row[24..36], old[12..24]);
            assert_eq!(row[36..], old[24..]);
        }
        let patches = BlockFeatures {
            avgpool_patchtokens: false,
            feature: Feature::Patches,
            ..spec
        };
        let patches = to_host_f32(patches.of(&vit, images()));
        for (row, both) in patches.chunks(24).zip(both.chunks(48)) {
            assert_eq!(row[..12], both[12..24]);
            assert_eq!(row[12..], both[36..]);
        }
        let twice = BlockFeatures {
            feature: Feature::Both,
            ..spec
        };
        let refused = twice.check(&vit).unwrap_err().to_string();
        assert!(refused.contains("avgpool-patchtokens"), "{refused}");
        // As files from before have it.
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(text, r#"{"n_last_blocks":2,"avgpool_patchtokens":true}"#);
        assert_eq!(serde_json::from_str::<BlockFeatures>(&text).unwrap(), spec);
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
