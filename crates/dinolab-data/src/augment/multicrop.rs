//! DINO's multi-crop augmentation.
//!
//! View by view, in this order: random resized crop, flip, colour jitter, greyscale,
//! blur, solarise, normalise. [`MultiCrop::plan`] draws everything random about a view;
//! the rest is arithmetic.

use super::clock::{Clock, Stage};
use super::multichannel::{self, ChannelNormaliser};
use super::normalise::{IMAGENET_MEAN, IMAGENET_STD, Normaliser};
use super::resize::{CropBox, Filter, Resizer, check_rgb};
use super::{blur, colour};
use crate::decode::Pixels;
use crate::random::{Purpose, Random};
use crate::size::MAX_SIDE;
use crate::{Error, Image, Result, Size};

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
            solarise_probability: [0.0, 0.2, 0.0],
            solarise_threshold: 128,
            whole_image: false,
        }
    }
}

/// One colour change of a jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Scales all values.
    Brightness(f32),
    /// Scales the distance from the mean grey.
    Contrast(f32),
    /// Scales the distance from each pixel's grey.
    Saturation(f32),
    /// Turns the hue by a share of the colour circle.
    Hue(f64),
}

/// Everything random about one view of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewPlan {
    /// The part of the image that is shown.
    pub crop: CropBox,
    /// Whether it is mirrored.
    pub flip: bool,
    /// The colour changes, in the order in which they happen.
    pub jitter: Option<[Change; 4]>,
    /// Whether it loses its colour.
    pub greyscale: bool,
    /// The blur's standard deviation in pixels.
    pub blur: Option<f64>,
    /// Whether it is solarised.
    pub solarise: bool,
}

/// Buffers that making a view needs, kept between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    pub(super) resizer: Resizer,
    pub(super) planes: Vec<u8>,
    blur: blur::Scratch,
    pub(super) multichannel: multichannel::Scratch,
    /// Tells where the time goes, where it was set running.
    pub clock: Clock,
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

    /// Checks every setting's range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: String| Err(Error::BadSetting { field, reason });
        for (field, size, used) in [
            ("global-crops-size", self.global_size, true),
            ("local-crops-size", self.local_size, self.local_views > 0),
        ] {
            if used && !size.is_usable() {
                return bad(
                    field,
                    format!("must be between 1 and {MAX_SIDE}, not {size}"),
                );
            }
        }
        if self.local_views > MAX_VIEWS {
            let reason = format!("must be at most {MAX_VIEWS}, not {}", self.local_views);
            return bad("local-crops-number", reason);
        }
        for (field, (low, high)) in [
            ("global-crops-scale", self.global_scale),
            ("local-crops-scale", self.local_scale),
        ] {
            if !(low > 0.0 && low <= high && high <= 1.0) {
                return bad(
                    field,
                    format!("must be two numbers with 0 < low <= high <= 1, not {low},{high}"),
                );
            }
        }
        let probabilities = [
            ("flip-probability", &[self.flip_probability][..]),
            ("jitter-probability", &[self.jitter_probability]),
            ("greyscale-probability", &[self.greyscale_probability]),
            ("blur-probability", &self.blur_probability),
            ("solarise-probability", &self.solarise_probability),
        ];
        for (field, values) in probabilities {
            if let Some(p) = values.iter().find(|p| !(0.0..=1.0).contains(*p)) {
                return bad(field, format!("must be between 0 and 1, not {p}"));
            }
        }
        for (field, value, most) in [
            ("brightness", self.brightness, MAX_CHANGE),
            ("contrast", self.contrast, MAX_CHANGE),
            ("saturation", self.saturation, MAX_CHANGE),
            ("hue", self.hue, 0.5),
        ] {
            if !(0.0..=most).contains(&value) {
                return bad(field, format!("must be between 0 and {most}, not {value}"));
            }
        }
        let (low, high) = self.blur_radius;
        if !(low >= 0.0 && low <= high && high <= MAX_BLUR) {
            let reason = format!(
                "must be two numbers with 0 <= low <= high <= {MAX_BLUR}, not {low},{high}"
            );
            return bad("blur-radius", reason);
        }
        multichannel::normalise::check(self.pixels, &self.mean, &self.std)
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

    /// Draws view `view` of an image of `width × height`.
    ///
    /// Depends on the key and the view alone: each view has a random stream of its own.
    pub fn plan(
        &self,
        (width, height): (usize, usize),
        (seed, epoch, index): (u64, u64, u64),
        view: usize,
    ) -> ViewPlan {
        let mut random = Random::new(seed, epoch, index, Purpose::Crops).stream(view as u64);
        let kind = view.min(GLOBAL_VIEWS);
        let scale = if view < GLOBAL_VIEWS {
            self.global_scale
        } else {
            self.local_scale
        };
        let crop = if self.whole_image {
            CropBox {
                top: 0,
                left: 0,
                height,
                width,
            }
        } else {
            CropBox::random(width, height, scale, &mut random)
        };
        ViewPlan {
            crop,
            flip: random.bool(self.flip_probability),
            jitter: random
                .bool(self.jitter_probability)
                .then(|| self.draw_jitter(&mut random)),
            greyscale: random.bool(self.greyscale_probability),
            blur: random
                .bool(self.blur_probability[kind])
                .then(|| random.uniform(self.blur_radius.0, self.blur_radius.1)),
            solarise: random.bool(self.solarise_probability[kind]),
        }
    }

    fn draw_jitter(&self, random: &mut Random) -> [Change; 4] {
        let mut factor = |spread: f64| random.uniform((1.0 - spread).max(0.0), 1.0 + spread) as f32;
        let mut changes = [
            Change::Brightness(factor(self.brightness)),
            Change::Contrast(factor(self.contrast)),
            Change::Saturation(factor(self.saturation)),
            Change::Hue(random.uniform(-self.hue, self.hue)),
        ];
        random.shuffle(&mut changes);
        changes
    }

    /// Makes a planned view: planes `[3, height, width]` of pixels, not yet normalised.
    pub fn render<'a>(
        &self,
        image: &Image,
        plan: &ViewPlan,
        size: Size,
        scratch: &'a mut Scratch,
    ) -> Result<&'a [u8]> {
        let Size { height, width } = size;
        let Scratch {
            resizer,
            planes,
            clock,
            ..
        } = scratch;
        clock.time(Stage::Resize, || {
            let size = (width, height);
            resizer.resize_planes(image, plan.crop, size, Filter::Bicubic, plan.flip, planes)
        })?;
        Ok(self.change(plan, width, scratch))
    }

    /// What a plan does to the planes of a view after resizing.
    pub(super) fn change<'a>(
        &self,
        plan: &ViewPlan,
        width: usize,
        scratch: &'a mut Scratch,
    ) -> &'a [u8] {
        let Scratch {
            planes,
            blur,
            clock,
            ..
        } = scratch;
        for change in plan.jitter.iter().flatten() {
            let stage = match change {
                Change::Hue(_) => Stage::Hue,
                _ => Stage::Colour,
            };
            clock.time(stage, || match *change {
                Change::Brightness(factor) => colour::brightness(planes, factor),
                Change::Contrast(factor) => colour::contrast(planes, factor),
                Change::Saturation(factor) => colour::saturation(planes, factor),
                Change::Hue(turn) => colour::hue(planes, turn),
            });
        }
        if plan.greyscale {
            clock.time(Stage::Grey, || colour::greyscale(planes));
        }
        if let Some(radius) = plan.blur {
            clock.time(Stage::Blur, || blur::gaussian(planes, width, radius, blur));
        }
        if plan.solarise {
            clock.time(Stage::Grey, || {
                colour::solarise(planes, self.solarise_threshold);
            });
        }
        planes
    }

    /// Draws and makes one view: planes `[3, height, width]` of pixels, not yet normalised.
    pub fn view<'a>(
        &self,
        image: &Image,
        key: (u64, u64, u64),
        view: usize,
        scratch: &'a mut Scratch,
    ) -> Result<&'a [u8]> {
        check_rgb(image)?;
        let plan = self.plan((image.width, image.height), key, view);
        self.render(image, &plan, self.view_size(view), scratch)
    }

    /// Makes all views of one image from the key `(seed, epoch, index)`.
    ///
    /// `global` receives `[2, C, Gh, Gw]`, `local` `[L, C, Sh, Sw]`, both normalised; they must
    /// be exactly that long.
    #[allow(clippy::too_many_arguments)]
    pub fn apply(
        &self,
        image: &Image,
        seed: u64,
        epoch: u64,
        index: u64,
        scratch: &mut Scratch,
        global: &mut [f32],
        local: &mut [f32],
    ) -> Result<()> {
        let key = (seed, epoch, index);
        self.check_buffers(global, local)?;
        if self.pixels != Pixels::Rgb {
            return self.apply_channels(image, key, scratch, global, local);
        }
        self.apply_views(scratch, global, local, |view, scratch| {
            self.view(image, key, view, scratch).map(drop)
        })
    }

    /// Checks settings and the buffers that shall hold all views.
    pub(super) fn check_buffers(&self, global: &[f32], local: &[f32]) -> Result<()> {
        self.validate()?;
        for (field, is, expected) in [
            ("global", global.len(), self.global_len()),
            ("local", local.len(), self.local_len()),
        ] {
            if is != expected {
                let reason = format!("the buffer must hold {expected} values, not {is}");
                return Err(Error::BadSetting { field, reason });
            }
        }
        Ok(())
    }

    /// Makes all views by `make` and normalises them into buffers of the right length.
    pub(super) fn apply_views(
        &self,
        scratch: &mut Scratch,
        global: &mut [f32],
        local: &mut [f32],
        make: impl Fn(usize, &mut Scratch) -> Result<()>,
    ) -> Result<()> {
        let normaliser = self.normaliser()?;
        for view in 0..self.views() {
            make(view, scratch)?;
            let out = if view < GLOBAL_VIEWS {
                &mut *global
            } else {
                &mut *local
            };
            let place = if view < GLOBAL_VIEWS {
                view
            } else {
                view - GLOBAL_VIEWS
            };
            let Scratch { planes, clock, .. } = scratch;
            let into = &mut out[place * planes.len()..][..planes.len()];
            clock.time(Stage::Normalise, || normaliser.apply_planes(planes, into));
        }
        Ok(())
    }
}

const MAX_VIEWS: usize = 1 << 10;
const MAX_CHANGE: f64 = 10.0;
const MAX_BLUR: f64 = 100.0;
