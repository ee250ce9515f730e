//! A view of an image of any channels.

use super::super::multicrop::{GLOBAL_VIEWS, JitterOp, MultiCrop, Scratch, ViewPlan};
use super::super::resize::Filter;
use super::super::stage_timer::Stage;
use super::{blur, colour, flip, resize};
use crate::random::{Purpose, Random};
use crate::{Image, Result, Size};

/// The streams of the channels' own factors lie beyond those of the views.
const FACTORS: u64 = 1 << 32;

/// Brightness and contrast of each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// What each channel is multiplied by.
    pub brightness: Vec<f32>,
    /// What each channel's distance from its mean is multiplied by.
    pub contrast: Vec<f32>,
}

impl MultiCrop {
    /// Draws what the jitter of view `view` does to each channel: independent factors, uniform in
    /// the ranges that hold for RGB, from a random stream of their own.
    pub fn factors(&self, (seed, epoch, index): (u64, u64, u64), view: usize) -> Factors {
        let key = Random::new(seed, epoch, index, Purpose::Crops);
        let mut random = key.stream(FACTORS | view as u64);
        let mut draw = |spread: f64| {
            let range = ((1.0 - spread).max(0.0), 1.0 + spread);
            let channels = 0..self.pixels.channels();
            channels
                .map(|_| random.uniform(range.0, range.1) as f32)
                .collect()
        };
        Factors {
            brightness: draw(self.brightness),
            contrast: draw(self.contrast),
        }
    }

    /// Makes a planned view of an image of any channels: planes `[C, height, width]` of numbers in
    /// 0–1, not yet normalised.
    ///
    /// Box, flip, blur and solarisation are the plan's, and so is whether there is a jitter and
    /// whether brightness or contrast comes first; their factors are each channel's own. Hue,
    /// saturation and greyscale are left out.
    ///
    /// # Errors
    /// As [`resize`].
    pub fn render_channels<'a>(
        &self,
        image: &Image,
        plan: &ViewPlan,
        factors: &Factors,
        size: Size,
        scratch: &'a mut Scratch,
    ) -> Result<&'a mut [f32]> {
        let Scratch {
            multichannel: scratch,
            timer,
            ..
        } = scratch;
        let mut planes = std::mem::take(&mut scratch.planes);
        let resized = timer.time(Stage::Resize, || {
            resize(
                image,
                plan.crop,
                size,
                Filter::Bicubic,
                scratch,
                &mut planes,
            )
        });
        scratch.planes = planes;
        resized?;
        let planes = &mut scratch.planes;
        if plan.flip {
            timer.time(Stage::Resize, || flip(planes, size.width));
        }
        for change in plan.jitter.iter().flatten() {
            timer.time(Stage::Colour, || match change {
                JitterOp::Brightness(_) => colour::brightness(planes, &factors.brightness),
                JitterOp::Contrast(_) => colour::contrast(planes, &factors.contrast),
                JitterOp::Saturation(_) | JitterOp::Hue(_) => {}
            });
        }
        if let Some(radius) = plan.blur {
            let size = (size.height, size.width);
            timer.time(Stage::Blur, || {
                blur::gaussian(planes, size, radius, &mut scratch.blur);
            });
        }
        if plan.solarise {
            // Half of 256 levels is half of the range.
            let threshold = f32::from(self.solarise_threshold) / 256.0;
            timer.time(Stage::Grey, || colour::solarise(planes, threshold));
        }
        Ok(planes)
    }

    /// Draws and makes one view of an image of any channels; see [`MultiCrop::render_channels`].
    ///
    /// # Errors
    /// An image of another kind than [`MultiCrop::pixels`].
    pub fn channel_view<'a>(
        &self,
        image: &Image,
        key: (u64, u64, u64),
        view: usize,
        scratch: &'a mut Scratch,
    ) -> Result<&'a mut [f32]> {
        self.pixels.check(image)?;
        let plan = self.plan(image.size(), key, view);
        let factors = self.factors(key, view);
        self.render_channels(image, &plan, &factors, self.view_size(view), scratch)
    }
    /// All views of one image, for [`MultiCrop::apply`].
    pub(in crate::augment) fn apply_channels(
        &self,
        image: &Image,
        key: (u64, u64, u64),
        scratch: &mut Scratch,
        global: &mut [f32],
        local: &mut [f32],
    ) -> Result<()> {
        let normaliser = self.channel_normaliser()?;
        for view in 0..self.views() {
            let planes = self.channel_view(image, key, view, scratch)?;
            normaliser.apply(planes);
            let (out, place) = match view.checked_sub(GLOBAL_VIEWS) {
                None => (&mut *global, view),
                Some(place) => (&mut *local, place),
            };
            out[place * planes.len()..][..planes.len()].copy_from_slice(planes);
        }
        Ok(())
    }
}
