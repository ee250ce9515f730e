//! A planned view to pixels, and all views to normalised values.

use super::plan::{JitterOp, ViewPlan};
use super::{GLOBAL_VIEWS, MultiCrop};
use crate::augment::resize::{Filter, Resizer, check_rgb};
use crate::augment::stage_timer::{Stage, StageTimer};
use crate::augment::{blur, colour, multichannel};
use crate::decode::Pixels;
use crate::{Image, Result, Size};

/// Buffers that making a view needs, kept between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    pub(in crate::augment) resizer: Resizer,
    pub(in crate::augment) planes: Vec<u8>,
    blur: blur::Scratch,
    pub(in crate::augment) multichannel: multichannel::Scratch,
    /// Tells where the time goes, where it was set running.
    pub timer: StageTimer,
}

impl MultiCrop {
    /// Makes a planned view: planes `[3, height, width]` of pixels, not yet normalised.
    pub fn render<'a>(
        &self,
        image: &Image,
        plan: &ViewPlan,
        size: Size,
        scratch: &'a mut Scratch,
    ) -> Result<&'a [u8]> {
        let Scratch {
            resizer,
            planes,
            timer,
            ..
        } = scratch;
        timer.time(Stage::Resize, || {
            resizer.resize_planes(image, plan.crop, size, Filter::Bicubic, plan.flip, planes)
        })?;
        Ok(self.change(plan, size.width, scratch))
    }

    /// What a plan does to the planes of a view after resizing.
    pub(in crate::augment) fn change<'a>(
        &self,
        plan: &ViewPlan,
        width: usize,
        scratch: &'a mut Scratch,
    ) -> &'a [u8] {
        let Scratch {
            planes,
            blur,
            timer,
            ..
        } = scratch;
        for change in plan.jitter.iter().flatten() {
            let stage = match change {
                JitterOp::Hue(_) => Stage::Hue,
                _ => Stage::Colour,
            };
            timer.time(stage, || match *change {
                JitterOp::Brightness(factor) => colour::brightness(planes, factor),
                JitterOp::Contrast(factor) => colour::contrast(planes, factor),
                JitterOp::Saturation(factor) => colour::saturation(planes, factor),
                JitterOp::Hue(turn) => colour::hue(planes, turn),
            });
        }
        if plan.greyscale {
            timer.time(Stage::Grey, || colour::greyscale(planes));
        }
        if let Some(radius) = plan.blur {
            timer.time(Stage::Blur, || blur::gaussian(planes, width, radius, blur));
        }
        if plan.solarise {
            timer.time(Stage::Grey, || {
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
        let plan = self.plan(image.size(), key, view);
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

    /// Makes all views by `make` and normalises them into buffers of the right length.
    pub(in crate::augment) fn apply_views(
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
            let Scratch { planes, timer, .. } = scratch;
            let into = &mut out[place * planes.len()..][..planes.len()];
            timer.time(Stage::Normalise, || normaliser.apply_planes(planes, into));
        }
        Ok(())
    }
}
