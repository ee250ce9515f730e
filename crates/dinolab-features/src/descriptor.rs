//! Retrieval descriptors, one vector per image of any size: features at several scales, or class token
//! and pooled patch tokens.

mod resample;

use std::collections::BTreeMap;

use dinolab_data::augment::ChannelNormaliser;
use dinolab_data::augment::{eval, resize::Filter};
use dinolab_data::{Image, Pixels};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::{Backbone, Feature, check_patches};
use rayon::prelude::*;

use self::resample::resample;
use crate::features::{Features, at_once, batch, check_rows, described, planes};
use crate::{Error, Result};

/// How an image is resized for the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Shrunk to fit into a square of this side (Lanczos), never enlarged.
    Fit(usize),
    /// Resized to a square of this side (bicubic), whatever its aspect ratio.
    Square(usize),
}

impl View {
    fn of(self, image: &Image) -> Result<Image> {
        Ok(match self {
            Self::Fit(side) => eval::fit(image, side)?,
            Self::Square(side) => eval::resize(image, side, side, Filter::Bicubic)?,
        })
    }
}

/// The tokens that make up a descriptor.
#[derive(Clone, Debug, PartialEq)]
pub enum Descriptor {
    /// The mean of the features at these scales of the input, each above 0.
    Feature(Feature, Vec<f64>),
    /// The same tokens, but the generalised mean of the patch tokens  with this exponent
    /// in place of their mean.
    Gem(Feature, f64),
}

impl Descriptor {
    /// Returns a feature at the three scales of the reference implementation: 1, 1/√2, 1/2.
    pub fn multi_scale(feature: Feature) -> Self {
        Self::Feature(feature, vec![1.0, std::f64::consts::FRAC_1_SQRT_2, 0.5])
    }
}

/// Computes descriptors with a network.
pub struct DescriptorExtractor<'a> {
    backbone: &'a (dyn Backbone + Sync),
    normaliser: ChannelNormaliser,
    view: View,
    descriptor: Descriptor,
}

/// The input of the network: normalised planes `[3, H, W]`.
struct Input {
    height: usize,
    width: usize,
    planes: Vec<f32>,
}

impl<'a> DescriptorExtractor<'a> {
    /// Creates an extractor; `mean` and `std` are per channel, of values in 0–1.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for a side smaller than a patch; [`Error::Model`] for one of too many
    /// patches; [`Error::Invalid`] without scales or for a scale or exponent that is not above 0;
    /// [`Error::Data`] for deviations that are not above 0.
    pub fn new(
        backbone: &'a (dyn Backbone + Sync),
        (mean, std): (impl AsRef<[f32]>, impl AsRef<[f32]>),
        view: View,
        descriptor: Descriptor,
    ) -> Result<Self> {
        let (View::Fit(side) | View::Square(side)) = view;
        if side < backbone.stride() {
            return Err(Error::setting("imsize", "is smaller than a patch"));
        }
        let range = match &descriptor {
            Descriptor::Feature(_, scales) => scales.clone(),
            Descriptor::Gem(_, power) => vec![*power],
        };
        if range.is_empty() || range.iter().any(|v| !(v.is_finite() && *v > 0.0)) {
            return Err(Error::invalid(
                "descriptor",
                "scales and exponents must be above 0",
            ));
        }
        let most = match &descriptor {
            Descriptor::Feature(_, scales) => scales.iter().copied().fold(1.0, f64::max),
            Descriptor::Gem(..) => 1.0,
        };
        let largest = (side as f64 * most) as usize;
        check_patches(largest, largest, backbone.stride())?;
        Ok(Self {
            backbone,
            normaliser: ChannelNormaliser::new(Pixels::Rgb, mean.as_ref(), std.as_ref())?,
            view,
            descriptor,
        })
    }

    /// Returns the number of values per image.
    pub fn dim(&self) -> usize {
        let (Descriptor::Feature(feature, _) | Descriptor::Gem(feature, _)) = self.descriptor;
        feature.width(self.backbone.width())
    }

    /// Returns descriptors `[B, dim]` of images in memory, not normalised. Images of the same input
    /// size are batched.
    ///
    /// # Errors
    /// [`Error::Data`] or [`Error::Invalid`] for the first unusable image.
    pub fn extract(&self, images: &[Image]) -> Result<Vec<f32>> {
        let inputs = images
            .par_iter()
            .map(|image| self.input(image))
            .collect::<Result<Vec<_>>>()?;
        let rows = self.of_inputs(&inputs);
        check_rows(&rows, self.dim(), |row| described(&images[row]))?;
        Ok(rows)
    }

    /// Returns descriptors of images `indices`, which `load` reads, `batch_size` of them in memory
    /// at a time. `progress` is called with the number of images done. Images that cannot be used
    /// are listed as skipped.
    ///
    /// # Errors
    /// [`Error::Data`] if a remote image cannot be fetched; [`Error::NotFinite`] if the network's
    /// output for an image is not finite.
    pub fn extract_loaded(
        &self,
        indices: &[usize],
        batch_size: usize,
        load: &(dyn Fn(usize) -> Result<Image> + Sync),
        progress: &mut dyn FnMut(usize),
    ) -> Result<Features> {
        let mut features = Features {
            dim: self.dim(),
            ..Features::default()
        };
        let mut done = 0;
        for chunk in indices.chunks(batch_size.max(1)) {
            let loaded: Vec<Result<Input>> = chunk
                .par_iter()
                .map(|&index| self.input(&load(index)?))
                .collect();
            let mut inputs = Vec::with_capacity(chunk.len());
            for (&index, input) in chunk.iter().zip(loaded) {
                match input {
                    Ok(input) => {
                        inputs.push(input);
                        features.indices.push(index);
                    }
                    Err(error) if error.is_unreachable() => return Err(error),
                    Err(error) => features.skipped.push((index, error.to_string())),
                }
            }
            let mut rows = self.of_inputs(&inputs);
            let first = features.indices.len() - inputs.len();
            check_rows(&rows, features.dim, |row| {
                format!("image {}", features.indices[first + row])
            })?;
            features.data.append(&mut rows);
            done += chunk.len();
            progress(done);
        }
        Ok(features)
    }

    fn input(&self, image: &Image) -> Result<Input> {
        let image = self.view.of(image)?;
        let least = match &self.descriptor {
            Descriptor::Feature(_, scales) => scales.iter().copied().fold(1.0, f64::min),
            Descriptor::Gem(..) => 1.0,
        };
        let side = (image.width.min(image.height) as f64 * least) as usize;
        if side < self.backbone.stride() {
            return Err(Error::invalid(
                "image",
                format!(
                    "{} × {} pixels as seen by the network is smaller than a patch",
                    image.width, image.height
                ),
            ));
        }
        Ok(Input {
            height: image.height,
            width: image.width,
            planes: planes(&image, &self.normaliser)?,
        })
    }

    fn of_inputs(&self, inputs: &[Input]) -> Vec<f32> {
        let mut by_size: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (place, input) in inputs.iter().enumerate() {
            let size = (input.height, input.width);
            by_size.entry(size).or_default().push(place);
        }
        let dim = self.dim();
        let mut all = vec![0.0; inputs.len() * dim];
        for (size, places) in by_size {
            let most = at_once(places.len(), size, self.backbone.stride());
            for places in places.chunks(most) {
                let planes: Vec<&[f32]> = places.iter().map(|&p| &inputs[p].planes[..]).collect();
                let rows = match &self.descriptor {
                    Descriptor::Feature(feature, scales) => {
                        self.at_scales(&planes, size, *feature, scales)
                    }
                    Descriptor::Gem(feature, power) => {
                        self.with_gem(&planes, size, *feature, *power)
                    }
                };
                for (row, place) in rows.chunks_exact(dim).zip(places) {
                    all[place * dim..][..dim].copy_from_slice(row);
                }
            }
        }
        all
    }

    fn at_scales(
        &self,
        images: &[&[f32]],
        (height, width): (usize, usize),
        feature: Feature,
        scales: &[f64],
    ) -> Vec<f32> {
        let mut sum = vec![0.0f32; images.len() * self.dim()];
        for &scale in scales {
            let (mut h, mut w) = (height, width);
            let scaled: Vec<Vec<f32>> = images
                .iter()
                .map(|planes| {
                    let (planes, size) = resample(planes, (height, width), scale);
                    (h, w) = size;
                    planes
                })
                .collect();
            let images = vec![batch(self.backbone, &scaled, h, w)];
            let tokens = to_host_f32(self.backbone.features(images, feature, &NoDropPath));
            for (sum, value) in sum.iter_mut().zip(tokens) {
                *sum += value;
            }
        }
        for value in &mut sum {
            *value /= scales.len() as f32;
        }
        sum
    }

    fn with_gem(
        &self,
        images: &[&[f32]],
        (height, width): (usize, usize),
        feature: Feature,
        power: f64,
    ) -> Vec<f32> {
        let planes: Vec<Vec<f32>> = images.iter().map(|planes| planes.to_vec()).collect();
        let tokens = self
            .backbone
            .tokens(batch(self.backbone, &planes, height, width));
        let [_, count, width_of_token] = tokens.patches.dims();
        let patches = to_host_f32(tokens.patches);
        to_host_f32(tokens.class)
            .chunks_exact(width_of_token)
            .zip(patches.chunks_exact(count * width_of_token))
            .flat_map(|(class, patches)| {
                let pooled = || gem(patches, width_of_token, power);
                match feature {
                    Feature::Class => class.to_vec(),
                    Feature::Patches => pooled(),
                    Feature::Both => [class, &pooled()[..]].concat(),
                }
            })
            .collect()
    }
}

/// Returns the generalised mean (GeM; Radenović et al., 2018) of tokens `[N, dim]` over `N`:
/// `(mean of max(x, 1e-6)^p)^(1/p)` for each of the `dim` values. The greater `power`, the closer to
/// the maximum.
fn gem(tokens: &[f32], dim: usize, power: f64) -> Vec<f32> {
    let mut sums = vec![0.0f64; dim];
    for token in tokens.chunks_exact(dim) {
        for (sum, &value) in sums.iter_mut().zip(token) {
            *sum += f64::from(value).max(1e-6).powf(power);
        }
    }
    let count = (tokens.len() / dim.max(1)) as f64;
    sums.into_iter()
        .map(|sum| (sum / count).powf(1.0 / power) as f32)
        .collect()
}

#[cfg(test)]
mod tests;
