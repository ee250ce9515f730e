//! Views of large photographs that were decoded to fewer pixels.
//!
//! Crops are drawn in the full image, so that what is drawn does not depend on the scale; their boxes
//! are then laid over the pixels that there are.

use super::multicrop::{MultiCrop, Scratch, ViewPlan};
use super::resize::{CropBox, Filter, MIN_ASPECT, check_rgb};
use super::stage_timer::Stage;
use crate::decode::{SCALES, Scaled};
use crate::{Result, Size};

/// Pixels that an image has at least to be decoded to fewer.
pub const LARGE: u64 = 12_000_000;

/// Pixels that the smallest crop box must have left for each of the crop's own, on either side. Below,
/// the resizing filter would reach the highest frequencies that are left, and show that some are missing.
const ROOM: f64 = 1.5;

impl MultiCrop {
    /// By how much an image of some size may be smaller, one of [`SCALES`]: 1 for all under
    /// [`LARGE`], else the most that leaves the smallest box that can be drawn with 1.5 times the pixels
    /// of its crop on each side.
    ///
    /// It depends on no random draw: an image is decoded alike for all of its views, in every epoch.
    pub fn scale_of(&self, image: Size) -> usize {
        if (image.width as u64).saturating_mul(image.height as u64) < LARGE {
            return 1;
        }
        let views = [
            (true, self.global_scale, self.global_size),
            (self.local_views > 0, self.local_scale, self.local_size),
        ];
        let room = views
            .into_iter()
            .filter(|(used, ..)| *used)
            .map(|(_, scale, size)| {
                let (least_width, least_height) = self.least(image, scale.0);
                (least_width / size.width as f64).min(least_height / size.height as f64)
            })
            .fold(f64::INFINITY, f64::min);
        let fits = |scale: &&usize| room >= ROOM * **scale as f64;
        SCALES.iter().find(fits).copied().unwrap_or(1)
    }

    /// Width and height that a box of at least a share of the area has at least.
    fn least(&self, Size { height, width }: Size, share: f64) -> (f64, f64) {
        if self.whole_image {
            return (width as f64, height as f64);
        }
        // At the least area and an aspect ratio at the end of its range; or what is taken where no
        // drawn box fits.
        let side = (width as f64 * height as f64 * share * MIN_ASPECT).sqrt();
        let fallback = CropBox::fallback(width, height);
        (
            side.min(fallback.width as f64),
            side.min(fallback.height as f64),
        )
    }

    /// [`MultiCrop::render`] of an image that may have fewer pixels than its file, where the plan was
    /// drawn for the file's size.
    ///
    /// # Errors
    /// As [`MultiCrop::render`].
    pub fn render_scaled<'a>(
        &self,
        image: &Scaled,
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
            resizer.resize_scaled(image, plan.crop, size, Filter::Bicubic, plan.flip, planes)
        })?;
        Ok(self.change(plan, size.width, scratch))
    }

    /// [`MultiCrop::view`] of an image that may have fewer pixels than its file: what is drawn is the
    /// same as for the image in full.
    ///
    /// # Errors
    /// As [`MultiCrop::view`].
    pub fn view_scaled<'a>(
        &self,
        image: &Scaled,
        key: (u64, u64, u64),
        view: usize,
        scratch: &'a mut Scratch,
    ) -> Result<&'a [u8]> {
        check_rgb(&image.image)?;
        let plan = self.plan(image.full, key, view);
        self.render_scaled(image, &plan, self.view_size(view), scratch)
    }

    /// [`MultiCrop::apply`] to an image that may have fewer pixels than its file.
    ///
    /// # Errors
    /// As [`MultiCrop::apply`].
    pub fn apply_scaled(
        &self,
        image: &Scaled,
        key: (u64, u64, u64),
        scratch: &mut Scratch,
        global: &mut [f32],
        local: &mut [f32],
    ) -> Result<()> {
        self.check_buffers(global, local)?;
        self.apply_views(scratch, global, local, |view, scratch| {
            self.view_scaled(image, key, view, scratch).map(drop)
        })
    }
}
