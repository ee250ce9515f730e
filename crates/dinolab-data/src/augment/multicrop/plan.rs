//! The random parameters of a view.

use super::{GLOBAL_VIEWS, MultiCrop};
use crate::Size;
use crate::augment::resize::CropBox;
use crate::random::{Purpose, Random};

/// One colour change of a jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JitterOp {
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
    pub jitter: Option<[JitterOp; 4]>,
    /// Whether it loses its colour.
    pub greyscale: bool,
    /// The blur's standard deviation in pixels.
    pub blur: Option<f64>,
    /// Whether it is solarised.
    pub solarise: bool,
}

impl MultiCrop {
    /// Draws view `view` of an image of some size.
    ///
    /// Depends on the key and the view alone: each view has a random stream of its own.
    pub fn plan(
        &self,
        Size { height, width }: Size,
        (seed, epoch, index): (u64, u64, u64),
        view: usize,
    ) -> ViewPlan {
        let mut random = Random::new(seed, epoch, index, Purpose::Crops).stream(view as u64);
        let kind = view.min(GLOBAL_VIEWS);
        let (low, high) = self.blur_of(view);
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
                .then(|| random.uniform(low, high)),
            solarise: random.bool(self.solarise_probability[kind]),
        }
    }

    /// The range of a view's blur, in its pixels.
    fn blur_of(&self, view: usize) -> (f64, f64) {
        let (low, high) = self.blur_radius;
        let Some(side) = self.blur_side else {
            return (low, high);
        };
        let factor = self.view_size(view).shortest() as f64 / side;
        (factor * low, factor * high)
    }

    fn draw_jitter(&self, random: &mut Random) -> [JitterOp; 4] {
        let mut factor = |spread: f64| random.uniform((1.0 - spread).max(0.0), 1.0 + spread) as f32;
        let mut changes = [
            JitterOp::Brightness(factor(self.brightness)),
            JitterOp::Contrast(factor(self.contrast)),
            JitterOp::Saturation(factor(self.saturation)),
            JitterOp::Hue(random.uniform(-self.hue, self.hue)),
        ];
        random.shuffle(&mut changes);
        changes
    }
}
