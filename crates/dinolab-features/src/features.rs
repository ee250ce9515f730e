//! Images through a network: features and attention.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use dinolab_data::augment::normalise::{IMAGENET_MEAN, IMAGENET_STD};
use dinolab_data::augment::{ChannelNormaliser, eval, resize::Filter};
use dinolab_data::{Image, Pixels, Size, Source};
use dinolab_nn::backbone::attention_maps;
use dinolab_nn::device::to_host_f32;
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::{Backbone, Feature, MAX_PATCHES, check_patches};
use rayon::prelude::*;

use crate::{Error, Result};

/// Metadata of weight files that holds a [`Preprocess`] as JSON.
const PREPROCESS: &str = "preprocess";

/// From an image to a network's input.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// The shorter side is resized to this (bicubic), in pixels; if it is not a square, images are
    /// resized to cover it.
    pub resize: Size,
    /// Then the centre of this size is cut out, in pixels.
    pub crop: Size,
    /// Channel means, of values in 0–1.
    pub mean: Vec<f32>,
    /// Channel deviations, of values in 0–1.
    pub std: Vec<f32>,
    /// Images are taken as stored, with as many channels as there are means, instead of as 8-bit
    /// RGB.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stored: bool,
}

impl Default for Preprocess {
    fn default() -> Self {
        Self {
            resize: Size::square(256),
            crop: Size::square(224),
            mean: IMAGENET_MEAN.to_vec(),
            std: IMAGENET_STD.to_vec(),
            stored: false,
        }
    }
}

impl Preprocess {
    /// The kind of images.
    pub fn pixels(&self) -> Pixels {
        match self.stored {
            false => Pixels::Rgb,
            true => Pixels::Stored {
                channels: self.mean.len(),
            },
        }
    }

    /// What turns pixels into values.
    ///
    /// # Errors
    /// [`Error::Data`] for numbers that cannot be used.
    pub fn normaliser(&self) -> Result<ChannelNormaliser> {
        Ok(ChannelNormaliser::new(
            self.pixels(),
            &self.mean,
            &self.std,
        )?)
    }

    /// Checks that the centre is one of what images are brought to, and holds a patch.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::Model`] for a centre of too many patches.
    pub fn check(&self, patch: usize) -> Result<()> {
        let (Self { crop, resize, .. }, patch) = (self, patch.max(1));
        check_patches(crop.height, crop.width, patch)?;
        if crop.shortest() >= patch && crop.height <= resize.height && crop.width <= resize.width {
            return Ok(());
        }
        let reason =
            format!("{crop} must be between a patch of {patch} and the resized side of {resize}");
        Err(Error::setting("eval-crop", reason))
    }

    /// As the metadata of a weight file says it; `None` where it does not, or not rightly.
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str(metadata.get(PREPROCESS)?).ok()
    }

    /// The metadata that says it.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let json = serde_json::to_string(self).expect("plain data");
        BTreeMap::from([(PREPROCESS.to_owned(), json)])
    }
}

/// Features of a source's usable images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// Width of a feature, `D`.
    pub dim: usize,
    /// `[N, D]`, in the order of the source.
    pub data: Vec<f32>,
    /// The source's index of each row.
    pub indices: Vec<usize>,
    /// Images that could not be used: index and reason.
    pub skipped: Vec<(usize, String)>,
}

impl Features {
    /// These, unless no image could be used.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the reason of the first image.
    pub fn of_some(self) -> Result<Self> {
        some(self)
    }

    /// The labels of the rows; `None` where the source has none.
    pub fn labels(&self, source: &dyn Source) -> Option<Vec<usize>> {
        self.indices
            .iter()
            .map(|&index| source.label(index))
            .collect()
    }
}

/// Normalised planes `[C, H, W]` of an image as it is.
///
/// # Errors
/// [`Error::Data`] for an image of another kind than the normaliser takes.
pub(crate) fn planes(image: &Image, normaliser: &ChannelNormaliser) -> Result<Vec<f32>> {
    Ok(normaliser.planes(image)?)
}

/// A batch `[B, C, H, W]` on the network's device.
pub(crate) fn batch(
    backbone: &dyn Backbone,
    planes: &[Vec<f32>],
    height: usize,
    width: usize,
) -> Tensor<4> {
    let data = planes.concat();
    let shape = [planes.len(), backbone.channels(), height, width];
    Tensor::from_data(TensorData::new(data, shape), &backbone.device())
}

/// How many images of `height × width` px go through a network together: `batch_size`, or fewer
/// that have no more patches than two of the largest images.
pub fn at_once(batch_size: usize, (height, width): (usize, usize), patch: usize) -> usize {
    let patch = patch.max(1);
    let patches = (height / patch).saturating_mul(width / patch).max(1);
    batch_size.clamp(1, (2 * MAX_PATCHES / patches).max(1))
}

/// Errs where the network made something that is not finite of an image, by `rows` `[N, dim]` and the
/// images' names.
///
/// # Errors
/// [`Error::NotFinite`].
pub(crate) fn check_rows(rows: &[f32], dim: usize, name: impl Fn(usize) -> String) -> Result<()> {
    let bad = |row: &[f32]| row.iter().any(|value| !value.is_finite());
    match rows.chunks(dim.max(1)).position(bad) {
        None => Ok(()),
        Some(row) => Err(Error::NotFinite { image: name(row) }),
    }
}

/// From an image and its number in its source to what the network sees of it.
pub type View<'a> = dyn Fn(usize, &Image) -> Result<Image> + Sync + 'a;

/// Features of images that went through the network together.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// The source's index of each.
    pub indices: Vec<usize>,
    /// Rows and columns of patches, `(h, w)`, of each view.
    pub grid: (usize, usize),
    /// `[N, dim]`.
    pub data: Vec<f32>,
}

/// How images become features: a view of each, and what the network makes of a batch of views.
pub struct FeatureExtractor<'a> {
    /// The network.
    pub backbone: &'a dyn Backbone,
    /// Makes the network's input; all of one size.
    pub view: &'a View<'a>,
    /// From a batch `[B, C, H, W]` to features `[B, dim]`.
    pub feature: &'a dyn Fn(Tensor<4>) -> Tensor<2>,
    /// Width of a feature.
    pub dim: usize,
    /// Turns pixels into values.
    pub normaliser: &'a ChannelNormaliser,
    /// Batch size for inference.
    pub batch_size: usize,
}

/// An image that could not be used: its index in the source, and why.
type Skipped = (usize, String);

impl FeatureExtractor<'_> {
    /// Features of the source's images number `indices`.
    ///
    /// Images are decoded by all cores, `batch_size` at a time, which bounds the memory.
    /// `progress` hears how many images are done. An image that cannot be used is left out and
    /// listed.
    ///
    /// # Errors
    /// [`Error::Invalid`] where no image can be used, or views are smaller than a patch;
    /// [`Error::Model`] where they have too many patches; [`Error::NotFinite`] where the network
    /// makes no numbers of an image;
    /// [`Error::Data`] where an image of another machine could not be fetched.
    pub fn run(
        &self,
        source: &dyn Source,
        indices: &[usize],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Features> {
        some(self.run_usable(source, indices, progress)?)
    }

    /// As [`FeatureExtractor::run`], but that no image can be used is no error.
    pub(super) fn run_usable(
        &self,
        source: &dyn Source,
        indices: &[usize],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Features> {
        let mut features = Features {
            dim: self.dim,
            ..Features::default()
        };
        let mut data = Vec::new();
        let mut keep = |mut rows: Rows| -> Result<()> {
            data.append(&mut rows.data);
            Ok(())
        };
        (features.indices, features.skipped) = self.each(source, indices, &mut keep, progress)?;
        features.data = data;
        Ok(features)
    }

    /// As [`FeatureExtractor::run`], but that no image can be used is no error, and features are
    /// given to `each` as they come. Views may be of several sizes. The images that were used, and those that were not
    /// with the reason.
    ///
    /// # Errors
    /// As [`FeatureExtractor::run`], and what `each` gives.
    pub fn each<E: From<Error>>(
        &self,
        source: &dyn Source,
        indices: &[usize],
        each: &mut dyn FnMut(Rows) -> Result<(), E>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Vec<usize>, Vec<Skipped>), E> {
        let batch_size = self.batch_size.max(1);
        let patch = self.backbone.stride();
        let (mut used, mut skipped) = (Vec::new(), Vec::new());
        for (done, chunk) in indices.chunks(batch_size).enumerate() {
            let decoded: Vec<_> = chunk
                .par_iter()
                .map(|&index| {
                    let view = (self.view)(index, &source.image(index)?)?;
                    Ok::<_, Error>((planes(&view, self.normaliser)?, (view.height, view.width)))
                })
                .collect();
            let (mut inputs, mut sizes) = (Vec::new(), Vec::new());
            let first = used.len();
            for (&index, image) in chunk.iter().zip(decoded) {
                match image {
                    Ok((image, size)) => {
                        inputs.push(image);
                        sizes.push(size);
                        used.push(index);
                    }
                    // Another time the features would be others.
                    Err(error) if error.is_unreachable() => return Err(error.into()),
                    Err(error) => skipped.push((index, error.to_string())),
                }
            }
            let mut start = 0;
            for sizes in sizes.chunk_by(|a, b| a == b) {
                let size = sizes[0];
                if size.0.min(size.1) < patch {
                    return Err(Error::setting("size", "is smaller than a patch").into());
                }
                check_patches(size.0, size.1, patch).map_err(Error::from)?;
                let same = &inputs[start..start + sizes.len()];
                for inputs in same.chunks(at_once(batch_size, size, patch)) {
                    let images = batch(self.backbone, inputs, size.0, size.1);
                    let data = to_host_f32((self.feature)(images));
                    let places = first + start..first + start + inputs.len();
                    let indices = used[places].to_vec();
                    let dim = data.len() / indices.len();
                    check_rows(&data, dim, |row| source.name(indices[row]))?;
                    each(Rows {
                        indices,
                        grid: (size.0 / patch, size.1 / patch),
                        data,
                    })?;
                    start += inputs.len();
                }
            }
            progress(done * batch_size + chunk.len());
        }
        Ok((used, skipped))
    }
}

/// Errs where no image could be used.
pub(super) fn some(features: Features) -> Result<Features> {
    if features.indices.is_empty() {
        let why = features
            .skipped
            .first()
            .map_or("there are none".into(), |(_, why)| why.clone());
        return Err(Error::invalid(
            "images",
            format!("none can be used; the first: {why}"),
        ));
    }
    Ok(features)
}

/// Features of the last block after the final norm, of the source's images number `indices`, each
/// resized and its centre cut out as `preprocess` says; see [`FeatureExtractor::run`].
///
/// # Errors
/// [`Error::Invalid`] for a preprocessing that is none, or where no image can be used.
pub fn embed(
    backbone: &dyn Backbone,
    feature: Feature,
    source: &dyn Source,
    indices: &[usize],
    preprocess: &Preprocess,
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Features> {
    some(embed_usable(
        backbone, feature, source, indices, preprocess, batch_size, progress,
    )?)
}

/// As [`embed`], but that no image can be used is no error.
///
/// # Errors
/// As [`embed`], but for that.
pub fn embed_usable(
    backbone: &dyn Backbone,
    feature: Feature,
    source: &dyn Source,
    indices: &[usize],
    preprocess: &Preprocess,
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Features> {
    let (crop, patch) = (preprocess.crop, backbone.stride());
    check_crop(crop, patch)?;
    FeatureExtractor {
        backbone,
        view: &|_, image| Ok(eval::features(image, preprocess.resize, preprocess.crop)?),
        feature: &|images| backbone.features(vec![images], feature, &NoDropPath),
        dim: feature.width(backbone.width()),
        normaliser: &preprocess.normaliser()?,
        batch_size: at_once(batch_size, (crop.height, crop.width), patch),
    }
    .run_usable(source, indices, progress)
}

/// Errs where the cut-out centre is smaller than a patch, or has too many of them.
pub(super) fn check_crop(crop: Size, patch: usize) -> Result<()> {
    if crop.shortest() < patch {
        return Err(Error::setting("eval-crop", "is smaller than a patch"));
    }
    Ok(check_patches(crop.height, crop.width, patch)?)
}

/// Attention of the last block's class token, per head; or the [`activation`] of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionMaps {
    /// Heads, `H`.
    pub heads: usize,
    /// Rows and columns of patches, `h × w`.
    pub grid: (usize, usize),
    /// `[H, h, w]`.
    pub maps: Vec<f32>,
    /// The image as the network saw it.
    pub image: Image,
}

impl AttentionMaps {
    /// The mean over heads, `[h, w]`.
    pub fn mean(&self) -> Vec<f32> {
        let patches = self.grid.0 * self.grid.1;
        (0..patches)
            .map(|i| self.maps.iter().skip(i).step_by(patches).sum::<f32>() / self.heads as f32)
            .collect()
    }
}

/// Brings an image to `height × width` (bilinear, antialiased), or leaves its size alone where
/// `None`, and cuts it to whole patches.
///
/// # Errors
/// [`Error::Invalid`] where it is smaller than one patch, [`Error::Model`] where it has too many.
pub fn whole_patches(image: &Image, size: Option<(usize, usize)>, patch: usize) -> Result<Image> {
    let (height, width) = size.unwrap_or((image.height, image.width));
    check_patches(height, width, patch)?;
    let resized = match size {
        Some((height, width)) => eval::resize(image, width, height, Filter::Bilinear)?,
        None => image.clone(),
    };
    let (height, width) = (
        resized.height / patch * patch,
        resized.width / patch * patch,
    );
    if height == 0 || width == 0 {
        return Err(Error::invalid(
            "image",
            format!("is smaller than a patch of {patch} pixels"),
        ));
    }
    let crop = dinolab_data::augment::resize::CropBox {
        top: 0,
        left: 0,
        height,
        width,
    };
    Ok(eval::crop(&resized, crop)?)
}

/// Attention maps of one image, already of whole patches.
///
/// # Errors
/// [`Error::Model`] for a network that has none; [`Error::Data`] for an image of another kind than
/// the normaliser takes; [`Error::NotFinite`] where the attention is not numbers.
pub fn attend(
    backbone: &dyn Backbone,
    image: &Image,
    normaliser: &ChannelNormaliser,
) -> Result<AttentionMaps> {
    let network = attention_maps(backbone)?;
    let input = batch(
        backbone,
        &[planes(image, normaliser)?],
        image.height,
        image.width,
    );
    let maps = network.class_attention(input);
    let [_, heads, h, w] = maps.dims();
    let maps = to_host_f32(maps);
    check_rows(&maps, maps.len(), |_| described(image))?;
    Ok(AttentionMaps {
        heads,
        grid: (h, w),
        maps,
        image: image.clone(),
    })
}

/// The share that each position of the last grid has in the image's feature, of one image already of whole
/// patches, `[1, h, w]`: the mean `f` of the patch tokens `x` has the squared length `Σ ⟨x, f⟩ / N`, whose
/// positive terms are shown, over their sum (Stylianou et al., arXiv 1901.00536, of an image with itself).
/// Any network has it.
///
/// # Errors
/// [`Error::Data`] for an image of another kind than the normaliser takes; [`Error::NotFinite`] where the
/// tokens are not numbers.
pub fn activation(
    backbone: &dyn Backbone,
    image: &Image,
    normaliser: &ChannelNormaliser,
) -> Result<AttentionMaps> {
    let planes = [planes(image, normaliser)?];
    let tokens = backbone.tokens(batch(backbone, &planes, image.height, image.width));
    let width = backbone.width();
    let values = to_host_f32(tokens.patches);
    check_rows(&values, values.len(), |_| described(image))?;
    let mut mean = vec![0.0_f64; width];
    for token in values.chunks_exact(width) {
        mean.iter_mut()
            .zip(token)
            .for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let share = |token: &[f32]| {
        let products = token
            .iter()
            .zip(&mean)
            .map(|(&value, mean)| f64::from(value) * mean);
        products.sum::<f64>().max(0.0)
    };
    let shares: Vec<f64> = values.chunks_exact(width).map(share).collect();
    let sum = shares.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    Ok(AttentionMaps {
        heads: 1,
        grid: tokens.grid,
        maps: shares.iter().map(|share| (share / sum) as f32).collect(),
        image: image.clone(),
    })
}

/// Stands for the name of an image that has none.
pub(crate) fn described(image: &Image) -> String {
    format!("an image of {} × {}", image.width, image.height)
}
