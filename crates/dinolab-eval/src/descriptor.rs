//! One vector per image for retrieval: class tokens at several scales, or class token and
//! pooled patch tokens, of images of any size.

use std::collections::BTreeMap;

use dinolab_data::augment::ChannelNormaliser;
use dinolab_data::augment::{eval, resize::Filter};
use dinolab_data::{Image, Pixels, Source};
use dinolab_nn::{Vit, check_patches};
use rayon::prelude::*;

use crate::features::{Features, at_once, batch, check_rows, described, host, planes};
use crate::{Error, Result};

/// How an image is brought to the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Made to fit into a square of this side (Lanczos), never enlarged.
    Fit(usize),
    /// Brought to a square of this side (bicubic), whatever its aspect ratio.
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

/// What is taken of the network's tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Descriptor {
    /// The mean of the class tokens, `[D]`, at these scales of the input, each above 0.
    ClassToken(Vec<f64>),
    /// The class token and the generalised mean of the patch tokens (see [`gem`]) with this
    /// exponent, `[2 · D]`.
    ClassAndGem(f64),
}

impl Descriptor {
    /// The reference's three scales: 1, 1/√2, 1/2.
    pub fn multi_scale() -> Self {
        Self::ClassToken(vec![1.0, std::f64::consts::FRAC_1_SQRT_2, 0.5])
    }
}

/// A network with a way to see and a way to describe.
pub struct Describer<'a> {
    vit: &'a Vit,
    normaliser: ChannelNormaliser,
    view: View,
    descriptor: Descriptor,
}

/// A network's input: normalised planes `[3, H, W]`.
struct Input {
    height: usize,
    width: usize,
    planes: Vec<f32>,
}

impl<'a> Describer<'a> {
    /// Puts the parts together; `mean` and `std` are per channel, of values in 0–1.
    ///
    /// # Errors
    /// [`Error::Model`] for a side of too many patches, [`Error::Invalid`] for a side below a patch, no scale, or one that is not above 0;
    /// [`Error::Data`] for deviations that are not above 0.
    pub fn new(
        vit: &'a Vit,
        (mean, std): (impl AsRef<[f32]>, impl AsRef<[f32]>),
        view: View,
        descriptor: Descriptor,
    ) -> Result<Self> {
        let (View::Fit(side) | View::Square(side)) = view;
        if side < vit.config().patch_size {
            return Err(Error::setting("imsize", "is smaller than a patch"));
        }
        let range = match &descriptor {
            Descriptor::ClassToken(scales) => scales.clone(),
            Descriptor::ClassAndGem(power) => vec![*power],
        };
        if range.is_empty() || range.iter().any(|v| !(v.is_finite() && *v > 0.0)) {
            return Err(Error::invalid(
                "descriptor",
                "scales and exponents must be above 0",
            ));
        }
        let most = match &descriptor {
            Descriptor::ClassToken(scales) => scales.iter().copied().fold(1.0, f64::max),
            Descriptor::ClassAndGem(_) => 1.0,
        };
        let largest = (side as f64 * most) as usize;
        check_patches(largest, largest, vit.config().patch_size)?;
        Ok(Self {
            vit,
            normaliser: ChannelNormaliser::new(Pixels::Rgb, mean.as_ref(), std.as_ref())?,
            view,
            descriptor,
        })
    }

    /// Values per image.
    pub fn dim(&self) -> usize {
        match self.descriptor {
            Descriptor::ClassToken(_) => self.vit.config().width,
            Descriptor::ClassAndGem(_) => 2 * self.vit.config().width,
        }
    }

    /// Vectors `[B, dim]` of images in memory, not normalised. Images that come out at the same
    /// size go through the network together.
    ///
    /// # Errors
    /// [`Error::Data`] or [`Error::Invalid`] for the first image that cannot be described.
    pub fn describe(&self, images: &[Image]) -> Result<Vec<f32>> {
        let inputs = images
            .par_iter()
            .map(|image| self.input(image))
            .collect::<Result<Vec<_>>>()?;
        let rows = self.of_inputs(&inputs);
        check_rows(&rows, self.dim(), |row| described(&images[row]))?;
        Ok(rows)
    }

    /// Vectors of the source's images number `indices`, `batch_size` images in memory at a time.
    /// `progress` hears how many are done. An image that cannot be used is left out and listed.
    ///
    /// # Errors
    /// [`Error::Data`] where an image of another machine could not be fetched;
    /// [`Error::NotFinite`] where the network makes no numbers of one.
    pub fn describe_source(
        &self,
        source: &dyn Source,
        indices: &[usize],
        batch_size: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Features> {
        let load = |index| source.image(index).map_err(Error::from);
        self.describe_named(indices, batch_size, (&load, &|i| source.name(i)), progress)
    }

    /// As [`Describer::describe_source`], of images that `load` finds by their number.
    ///
    /// # Errors
    /// As there.
    pub fn describe_loaded(
        &self,
        indices: &[usize],
        batch_size: usize,
        load: &(dyn Fn(usize) -> Result<Image> + Sync),
        progress: &mut dyn FnMut(usize),
    ) -> Result<Features> {
        let name = |index| format!("image {index}");
        self.describe_named(indices, batch_size, (load, &name), progress)
    }

    #[allow(clippy::type_complexity, reason = "two functions of an image's number")]
    fn describe_named(
        &self,
        indices: &[usize],
        batch_size: usize,
        (load, name): (
            &(dyn Fn(usize) -> Result<Image> + Sync),
            &dyn Fn(usize) -> String,
        ),
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
                name(features.indices[first + row])
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
            Descriptor::ClassToken(scales) => scales.iter().copied().fold(1.0, f64::min),
            Descriptor::ClassAndGem(_) => 1.0,
        };
        let side = (image.width.min(image.height) as f64 * least) as usize;
        if side < self.vit.config().patch_size {
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
            let most = at_once(places.len(), size, self.vit.config().patch_size);
            for places in places.chunks(most) {
                let planes: Vec<&[f32]> = places.iter().map(|&p| &inputs[p].planes[..]).collect();
                let rows = match &self.descriptor {
                    Descriptor::ClassToken(scales) => self.class_tokens(&planes, size, scales),
                    Descriptor::ClassAndGem(power) => self.class_and_gem(&planes, size, *power),
                };
                for (row, place) in rows.chunks_exact(dim).zip(places) {
                    all[place * dim..][..dim].copy_from_slice(row);
                }
            }
        }
        all
    }

    fn class_tokens(
        &self,
        images: &[&[f32]],
        (height, width): (usize, usize),
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
            let tokens = host(self.vit.forward(batch(self.vit, &scaled, h, w)));
            for (sum, value) in sum.iter_mut().zip(tokens) {
                *sum += value;
            }
        }
        for value in &mut sum {
            *value /= scales.len() as f32;
        }
        sum
    }

    fn class_and_gem(
        &self,
        images: &[&[f32]],
        (height, width): (usize, usize),
        power: f64,
    ) -> Vec<f32> {
        let planes: Vec<Vec<f32>> = images.iter().map(|planes| planes.to_vec()).collect();
        let tokens = self
            .vit
            .intermediate(batch(self.vit, &planes, height, width), 1)
            .remove(0);
        let [_, count, width_of_token] = tokens.dims();
        let patch = self.vit.config().patch_size;
        // Whatever stands between the class token and the patches is no part of the picture.
        let first_patch = count - (height / patch) * (width / patch);
        host(tokens)
            .chunks_exact(count * width_of_token)
            .flat_map(|image| {
                let patches = &image[first_patch * width_of_token..];
                let pooled = gem(patches, width_of_token, power);
                [image[..width_of_token].to_vec(), pooled].concat()
            })
            .collect()
    }
}

/// Generalised mean of tokens `[N, dim]` over `N`: `(mean of max(x, 1e-6)^p)^(1/p)` for each of
/// the `dim` values (Radenović et al., 2018). The greater `power`, the nearer the maximum.
pub fn gem(tokens: &[f32], dim: usize, power: f64) -> Vec<f32> {
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

/// Planes `[C, h, w]` at `scale` times their size, cut to whole pixels: bilinear between pixel
/// centres and not antialiased, as PyTorch's `interpolate` with a `scale_factor` does it.
fn resample(
    planes: &[f32],
    (height, width): (usize, usize),
    scale: f64,
) -> (Vec<f32>, (usize, usize)) {
    if scale == 1.0 {
        return (planes.to_vec(), (height, width));
    }
    let size = (
        (height as f64 * scale) as usize,
        (width as f64 * scale) as usize,
    );
    let taps = |from: usize, to: usize| -> Vec<(usize, usize, f32)> {
        (0..to)
            .map(|i| {
                let at = ((i as f64 + 0.5) / scale - 0.5).max(0.0);
                let first = (at as usize).min(from - 1);
                let second = (first + 1).min(from - 1);
                (first, second, (at - first as f64) as f32)
            })
            .collect()
    };
    let (rows, columns) = (taps(height, size.0), taps(width, size.1));
    let mut out = Vec::with_capacity(planes.len() / (height * width) * size.0 * size.1);
    for plane in planes.chunks_exact(height * width) {
        for &(above, below, v) in &rows {
            let (above, below) = (
                &plane[above * width..][..width],
                &plane[below * width..][..width],
            );
            for &(left, right, u) in &columns {
                let across = |row: &[f32]| (1.0 - u) * row[left] + u * row[right];
                out.push((1.0 - v) * across(above) + v * across(below));
            }
        }
    }
    (out, size)
}

#[cfg(test)]
mod tests {
    use dinolab_nn::device;
    use dinolab_nn::init::Init;
    use dinolab_nn::{Vit, VitConfig};

    use super::*;

    #[test]
    fn gem_by_hand() {
        // Power 1 is the mean, negative values counting as 1e-6.
        let tokens = [1.0, -5.0, 3.0, 2.0];
        let mean = gem(&tokens, 2, 1.0);
        assert!((mean[0] - 2.0).abs() < 1e-6 && (mean[1] - 1.0).abs() < 1e-6);
        // ((1 + 81) / 2)^(1/4), (16 / 2)^(1/4).
        let fourth = gem(&tokens, 2, 4.0);
        assert!((fourth[0] - 41f32.powf(0.25)).abs() < 1e-5);
        assert!((fourth[1] - 8f32.powf(0.25)).abs() < 1e-5);
    }

    #[test]
    fn resamples_as_pytorch() {
        // torch.nn.functional.interpolate of (7 i mod 11), 5 × 7, by scale_factor.
        let plane: Vec<f32> = (0..35).map(|i| (i * 7 % 11) as f32).collect();
        for (scale, size, expected) in EXPECTED {
            let (found, found_size) = resample(&plane, (5, 7), scale);
            assert_eq!(found_size, size);
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 2e-5, "{found:?}");
            }
        }
        assert_eq!(resample(&plane, (5, 7), 1.0).0, plane);
    }

    const EXPECTED: [(f64, (usize, usize), &[f32]); 2] = [
        (std::f64::consts::FRAC_1_SQRT_2, (3, 4), &ROOT),
        (0.5, (2, 3), &HALF),
    ];
    const ROOT: [f32; 12] = [
        2.01346, 4.68755, 8.61522, 3.98297, 7.27817, 4.20942, 6.96447, 3.18102, 3.34924, 4.28405,
        3.41252, 7.98781,
    ];
    const HALF: [f32; 6] = [3.25000, 6.25000, 3.75000, 5.00000, 5.25000, 5.50000];

    fn tiny() -> Vit {
        let config = VitConfig {
            image_size: 16,
            patch_size: 4,
            channels: 3,
            width: 16,
            depth: 2,
            heads: 2,
            mlp_ratio: 2,
            ..VitConfig::default()
        };
        Vit::new(&config, &mut Init::new(3), &device::by_name("cpu").unwrap()).unwrap()
    }

    fn picture(width: usize, height: usize, seed: usize) -> Image {
        let mut image = Image::new(width, height, 3);
        for (i, value) in image.data.iter_mut().enumerate() {
            *value = ((i * 31 + seed * 57) % 251) as u8;
        }
        image
    }

    #[test]
    fn mixed_sizes_come_out_in_order() {
        let vit = tiny();
        let images = [
            picture(20, 12, 1),
            picture(40, 40, 2),
            picture(20, 12, 3),
            picture(12, 20, 4),
        ];
        for (view, descriptor) in [
            (View::Fit(16), Descriptor::multi_scale()),
            (View::Square(16), Descriptor::ClassAndGem(4.0)),
        ] {
            let describer = Describer::new(&vit, ([0.5; 3], [0.25; 3]), view, descriptor).unwrap();
            let together = describer.describe(&images).unwrap();
            assert_eq!(together.len(), 4 * describer.dim());
            for (image, row) in images.iter().zip(together.chunks(describer.dim())) {
                let alone = describer.describe(std::slice::from_ref(image)).unwrap();
                for (a, b) in alone.iter().zip(row) {
                    assert!((a - b).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn the_class_token_is_the_networks() {
        let vit = tiny();
        let image = picture(16, 16, 5);
        let describe = |view, descriptor| {
            Describer::new(&vit, ([0.5; 3], [0.25; 3]), view, descriptor)
                .unwrap()
                .describe(std::slice::from_ref(&image))
                .unwrap()
        };
        let normaliser = ChannelNormaliser::new(Pixels::Rgb, &[0.5; 3], &[0.25; 3]).unwrap();
        let input = batch(&vit, &[planes(&image, &normaliser).unwrap()], 16, 16);
        let class = host(vit.forward(input.clone()));
        let single = describe(View::Fit(16), Descriptor::ClassToken(vec![1.0]));
        let both = describe(View::Square(16), Descriptor::ClassAndGem(4.0));
        let tokens = host(vit.intermediate(input, 1).remove(0));
        let pooled = gem(&tokens[16..], 16, 4.0);
        for i in 0..16 {
            assert!((single[i] - class[i]).abs() < 1e-6);
            assert!((both[i] - class[i]).abs() < 1e-5);
            assert!((both[16 + i] - pooled[i]).abs() < 1e-5);
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let vit = tiny();
        let make = |view, descriptor| Describer::new(&vit, ([0.5; 3], [0.25; 3]), view, descriptor);
        assert!(make(View::Fit(3), Descriptor::multi_scale()).is_err());
        assert!(make(View::Fit(16), Descriptor::ClassToken(vec![])).is_err());
        assert!(make(View::Fit(16), Descriptor::ClassToken(vec![0.0])).is_err());
        assert!(make(View::Square(16), Descriptor::ClassAndGem(f64::NAN)).is_err());
        let describer = make(View::Fit(16), Descriptor::multi_scale()).unwrap();
        assert!(
            describer.describe(&[picture(64, 7, 0)]).is_err(),
            "3 pixels high at half size"
        );
        assert!(describer.describe(&[]).unwrap().is_empty());
    }
}
