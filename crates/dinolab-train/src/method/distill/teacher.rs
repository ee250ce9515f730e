//! The network that is distilled: frozen, of any kind, on the same views.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::{AnyBackbone, Backbone, Feature, Parameters, Precision};

use super::kept::{Kept, KeptFolder};
use super::resample;
use crate::method::check;
use crate::{Error, Result, State, Views};

/// Name of the checksum of its weights in a method's state.
const CHECKSUM: &str = "teacher.checksum";

/// A frozen network and how it is shown images.
#[derive(Clone, Debug)]
pub struct FrozenTeacher {
    /// The network; records no gradients.
    pub backbone: AnyBackbone,
    /// What of its tokens is its feature.
    pub feature: Feature,
    /// The side in pixels at which it sees views, the shorter one; 0 for that of the views. Either is
    /// rounded to whole patches.
    pub size: usize,
    /// Channel means and deviations of its images, and those of the student's, if they differ.
    pub normalisation: Option<[Normalised; 2]>,
}

/// How the values of images, in 0–1, are normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalised {
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel.
    pub std: Vec<f32>,
}

/// What the teacher says of a part of a batch.
#[derive(Clone)]
pub(super) struct Taught {
    /// Features, `[2·b, F]`.
    pub feature: Tensor<2>,
    /// Patch tokens at the student's places, `[2·b·n, D]`, if they are asked for.
    pub patches: Option<Tensor<2>>,
}

impl FrozenTeacher {
    /// A teacher that sees images as the student does.
    pub fn new(backbone: AnyBackbone, feature: Feature) -> Self {
        Self {
            backbone,
            feature,
            size: 0,
            normalisation: None,
        }
    }

    /// Refuses a student of other images; moves the network to `device`.
    pub(super) fn prepare(
        &mut self,
        channels: usize,
        precision: Precision,
        device: &Device,
    ) -> Result<()> {
        let own = self.backbone.channels();
        if own != channels {
            let reason =
                format!("are of a network for images of {own} channels, not of {channels}");
            return Err(check::bad("teacher-weights", reason));
        }
        self.backbone.to_device(device);
        self.backbone.set_precision(precision);
        Ok(())
    }

    /// Width of its feature, `F`.
    pub(super) fn width(&self) -> usize {
        self.feature.width(self.backbone.width())
    }

    /// What it says of images `[B, C, H, W]`; of its patches at the places of a grid `to`, if there is one.
    fn say(&self, images: Tensor<4>, to: Option<(usize, usize)>) -> Taught {
        let [_, _, height, width] = images.dims();
        let [height, width] = self.sides(height, width);
        let images = resample::images(self.normalised(images), height, width);
        let tokens = self.backbone.tokens(images);
        let feature = tokens.feature(self.feature);
        let patches = to.map(|to| {
            let patches = resample::tokens(tokens.patches, tokens.grid, to);
            let [b, n, d] = patches.dims();
            patches.reshape([b * n, d])
        });
        Taught { feature, patches }
    }

    /// What it says of the global views of a part of a batch.
    pub(super) fn teach(&self, views: &Views, to: Option<(usize, usize)>) -> Taught {
        self.say(views.global.clone(), to)
    }

    /// [`FrozenTeacher::teach`] in half precision; from a folder, if all of it is kept there, and kept there
    /// if not. All images are shown to the teacher if one of them is new: then what it says of an image
    /// does not depend on what is kept of others.
    pub(super) fn teach_once<'k>(
        &self,
        views: &Views,
        to: Option<(usize, usize)>,
        folder: Option<&'k mut KeptFolder>,
    ) -> Result<Taught> {
        let [images, _, height, width] = views.global.dims();
        let (places, d) = (to.map_or(0, |to| to.0 * to.1), self.backbone.width());
        let size = [self.width(), places * d];
        let name = [height, width, self.size].map(|number| number.to_string());
        let file = |folder: &'k mut KeptFolder| folder.file(&name.join("-"), size.iter().sum());
        let mut kept = folder.map(file).transpose()?;
        let keys = self.keys(views, kept.is_some());
        let mut said = match kept.as_mut() {
            Some(kept) => keys
                .iter()
                .map(|&key| kept.get(key))
                .collect::<Result<_>>()?,
            None => vec![None; images],
        };
        if said.iter().any(Option::is_none) {
            let Taught { feature, patches } = self.say(views.global.clone(), to);
            let parts = [Some(feature), patches].map(|part| part.map(to_host_f32));
            for (image, said) in said.iter_mut().enumerate() {
                let own: Vec<f32> = parts
                    .iter()
                    .zip(size)
                    .flat_map(|(all, size)| rows_of(all, image, size).iter().copied())
                    .collect();
                if let (Some(kept), None) = (kept.as_mut(), &said) {
                    kept.put(keys[image], &own)?;
                }
                said.get_or_insert_with(|| Kept::rounded(&own));
            }
        }
        let said: Vec<f32> = said.into_iter().flatten().flatten().collect();
        let said = TensorData::new(said, [images, size.iter().sum()]);
        let said = Tensor::<2>::from_data(said, &views.global.device());
        Ok(Taught {
            feature: said.clone().narrow(1, 0, size[0]),
            patches: to.map(|_| {
                let patches = said.narrow(1, size[0], size[1]);
                patches.reshape([images * places, d])
            }),
        })
    }

    /// The keys of global views, if they are `wanted`.
    fn keys(&self, views: &Views, wanted: bool) -> Vec<u128> {
        if !wanted {
            return Vec::new();
        }
        let pixels = to_host_f32(views.global.clone());
        let image = pixels.len() / views.global.dims()[0];
        pixels.chunks(image).map(Kept::key).collect()
    }

    /// The sides of what it is shown of views of `height × width` pixels.
    fn sides(&self, height: usize, width: usize) -> [usize; 2] {
        let scale = match self.size {
            0 => 1.0,
            size => size as f64 / height.min(width) as f64,
        };
        let stride = self.backbone.stride();
        [height, width].map(|side| {
            let patches = (side as f64 * scale / stride as f64).round() as usize;
            patches.max(1) * stride
        })
    }

    /// Images `[B, C, H, W]` that are normalised for the student, normalised as it wants them.
    fn normalised(&self, x: Tensor<4>) -> Tensor<4> {
        let Some([own, students]) = &self.normalisation else {
            return x;
        };
        let channels = own.mean.len();
        let channel = |of: &dyn Fn(usize) -> f32| {
            let values: Vec<f32> = (0..channels).map(of).collect();
            let data = TensorData::new(values, [1, channels, 1, 1]);
            Tensor::<4>::from_data(data, &x.device())
        };
        let scale = channel(&|c| students.std[c] / own.std[c]);
        let shift = channel(&|c| (students.mean[c] - own.mean[c]) / own.std[c]);
        x.clone() * scale + shift
    }

    /// A checksum of the weights, in numbers that a checkpoint holds exactly.
    fn checksum(&self) -> [f32; 2] {
        let mut hasher = crc32fast::Hasher::new();
        self.backbone.visit("", &mut |name, param| {
            hasher.update(name.as_bytes());
            for value in param.to_vec() {
                hasher.update(&value.to_le_bytes());
            }
        });
        let sum = hasher.finalize();
        [sum >> 16, sum & 0xffff].map(|half| half as f32)
    }

    /// The folder, in `folder`, for what this teacher says.
    pub(super) fn kept_in(&self, folder: &Path) -> KeptFolder {
        let [upper, lower] = self.checksum();
        let name = format!("{:04x}{:04x}", upper as u32, lower as u32);
        KeptFolder::new(folder, &name)
    }

    pub(super) fn put(&self, state: &mut State) {
        let sum = Tensor::from_floats(self.checksum(), &self.backbone.device());
        state.put_vector(CHECKSUM, &sum);
    }

    /// Refuses a state that was reached with another teacher.
    pub(super) fn check(&self, state: &State) -> Result<()> {
        let known = state.vector(CHECKSUM, 2, &self.backbone.device())?;
        let known: Vec<f32> = known.into_data().try_to_vec().expect("f32");
        match known == self.checksum() {
            true => Ok(()),
            false => Err(Error::BadCheckpoint {
                path: state.path.clone(),
                reason: "the weights of the teacher are not those that the run began with; put \
                         those back, or begin again"
                    .into(),
            }),
        }
    }
}

/// The values of an image among those of all, of which each has `size`; none of what there is not.
fn rows_of(all: &Option<Vec<f32>>, image: usize, size: usize) -> &[f32] {
    let all = all.as_deref().unwrap_or_default();
    all.get(image * size..(image + 1) * size)
        .unwrap_or_default()
}
