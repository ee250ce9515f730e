//! DINO's multi-crop augmentation.
//!
//! View by view, in this order: random resized crop, flip, colour jitter, greyscale,
//! blur, solarise, normalise. [`MultiCrop::plan`] draws everything random about a view;
//! the rest is arithmetic.

mod plan;
mod render;
mod validate;

pub use plan::{JitterOp, ViewPlan};
pub use render::Scratch;

use super::multichannel::ChannelNormaliser;
use super::normalise::{IMAGENET_MEAN, IMAGENET_STD, Normaliser};
use crate::decode::Pixels;
use crate::{Error, Result, Size};

/// Number of global views.
pub const GLOBAL_VIEWS: usize = 2;

/// What the augmentation does. The default is the reference's.
///
/// Views are numbered: 0 and 1 are the global ones, the local ones follow. Where a
/// setting has three values, they are for the first global view, the second, and all
/// local views.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiCrop {
    /// The kind of images.
    pub pixels: Pixels,
    /// Size of the global crops in pixels, `G`.
    pub global_size: Size,
    /// Share of the image's area that a global crop covers, within 0–1.
    pub global_scale: (f64, f64),
    /// Size of the local crops in pixels, `S`.
    pub local_size: Size,
    /// Share of the image's area that a local crop covers, within 0–1.
    pub local_scale: (f64, f64),
    /// Number of local views, `L`; may be 0.
    pub local_views: usize,
    /// Mean of the channels, of values in 0–1.
    pub mean: Vec<f32>,
    /// Standard deviation of the channels, of values in 0–1.
    pub std: Vec<f32>,
    /// Probability of a flip.
    pub flip_probability: f64,
    /// Probability of the four colour changes (together, in random order).
    pub jitter_probability: f64,
    /// Brightness factor within 1 ± this (not below 0).
    pub brightness: f64,
    /// Contrast factor within 1 ± this (not below 0).
    pub contrast: f64,
    /// Saturation factor within 1 ± this (not below 0).
    pub saturation: f64,
    /// Hue turned by at most this share of the colour circle, at most 0.5.
    pub hue: f64,
    /// Probability of greyscale.
    pub greyscale_probability: f64,
    /// Probability of a blur.
    pub blur_probability: [f64; 3],
    /// Range of the blur's standard deviation in pixels.
    pub blur_radius: (f64, f64),
    /// Crops of this shorter side in pixels have that blur, and others in proportion; `None`: all have it,
    /// as in the reference, whatever their size.
    pub blur_side: Option<f64>,
    /// Probability of solarisation.
    pub solarise_probability: [f64; 3],
    /// Values from here on are inverted by solarisation.
    pub solarise_threshold: u8,
    /// Crops are the whole image, resized to the crops' size.
    pub whole_image: bool,
}

impl Default for MultiCrop {
    fn default() -> Self {
        Self {
            pixels: Pixels::Rgb,
            global_size: Size::square(224),
            global_scale: (0.4, 1.0),
            local_size: Size::square(96),
            local_scale: (0.05, 0.4),
            local_views: 8,
            mean: IMAGENET_MEAN.to_vec(),
            std: IMAGENET_STD.to_vec(),
            flip_probability: 0.5,
            jitter_probability: 0.8,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.2,
            hue: 0.1,
            greyscale_probability: 0.2,
            blur_probability: [1.0, 0.1, 0.5],
            blur_radius: (0.1, 2.0),
            blur_side: None,
            solarise_probability: [0.0, 0.2, 0.0],
            solarise_threshold: 128,
            whole_image: false,
        }
    }
}

impl MultiCrop {
    /// No augmentation: every view is the whole image, resized to `size × size`.
    ///
    /// Without local views; set [`MultiCrop::local_views`] to have them too, at the same size.
    pub fn identity(size: usize) -> Self {
        Self {
            global_size: size.into(),
            local_size: size.into(),
            local_views: 0,
            flip_probability: 0.0,
            jitter_probability: 0.0,
            greyscale_probability: 0.0,
            blur_probability: [0.0; 3],
            solarise_probability: [0.0; 3],
            whole_image: true,
            ..Self::default()
        }
    }

    /// Number of views, `2 + L`.
    pub fn views(&self) -> usize {
        GLOBAL_VIEWS + self.local_views
    }

    /// Size of view `view` in pixels.
    pub fn view_size(&self, view: usize) -> Size {
        if view < GLOBAL_VIEWS {
            self.global_size
        } else {
            self.local_size
        }
    }

    /// Values in an image's global crops, `2 × C × Gh × Gw`.
    pub fn global_len(&self) -> usize {
        GLOBAL_VIEWS * self.pixels.channels() * self.global_size.area()
    }

    /// Values in an image's local crops, `L × C × Sh × Sw`.
    pub fn local_len(&self) -> usize {
        self.local_views * self.pixels.channels() * self.local_size.area()
    }

    /// The tables that turn pixels of 8-bit RGB into values.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for numbers that are not three, or cannot be used.
    pub fn normaliser(&self) -> Result<Normaliser> {
        let three = |field, values: &[f32]| {
            values.try_into().map_err(|_| Error::BadSetting {
                field,
                reason: format!("must be three numbers, not {}", values.len()),
            })
        };
        Normaliser::new(three("mean", &self.mean)?, three("std", &self.std)?)
    }

    /// What turns pixels of any kind into values.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for numbers that do not fit [`MultiCrop::pixels`], or cannot be used.
    pub fn channel_normaliser(&self) -> Result<ChannelNormaliser> {
        ChannelNormaliser::new(self.pixels, &self.mean, &self.std)
    }
}
