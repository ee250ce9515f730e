//! The network that is distilled: frozen, of any kind, on the same views.

use burn::tensor::{Device, Tensor, TensorData};
use dinolab_nn::{AnyBackbone, Backbone, Feature, Parameters, Precision};

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

    /// What it says of global views; of its patches at the places of a grid `to`, if there is one.
    pub(super) fn teach(&self, views: &Views, to: Option<(usize, usize)>) -> Taught {
        let [_, _, height, width] = views.global.dims();
        let [height, width] = self.sides(height, width);
        let images = resample::images(self.normalised(views.global.clone()), height, width);
        let tokens = self.backbone.tokens(images);
        let feature = tokens.feature(self.feature);
        let patches = to.map(|to| {
            let patches = resample::tokens(tokens.patches, tokens.grid, to);
            let [b, n, d] = patches.dims();
            patches.reshape([b * n, d])
        });
        Taught { feature, patches }
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
