//! Crop boxes and antialiased resizing.

mod part;
mod passes;
mod transpose;
mod weights;

use super::planes;
use crate::random::Random;
use crate::{Error, Image, Result};
use passes::Passes;
use weights::Weights;

/// ln(4/3): aspect ratios (width / height) of random crops lie in 3/4–4/3.
const LOG_ASPECT: f64 = 0.287_682_072_451_780_85;
/// The least of them.
pub(super) const MIN_ASPECT: f64 = 3.0 / 4.0;
const TRIES: usize = 10;
/// Larger images are not made of smaller ones: as many pixels as the largest square side has.
const MAX_PIXELS: usize = crate::size::MAX_SIDE * crate::size::MAX_SIDE;

/// A part of an image, in whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropBox {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl CropBox {
    /// The whole of an image.
    pub fn whole(image: &Image) -> Self {
        Self {
            top: 0,
            left: 0,
            height: image.height,
            width: image.width,
        }
    }

    /// Whether it lies inside an image and is not empty.
    pub fn is_inside(&self, image: &Image) -> bool {
        self.fits(image.width, image.height)
    }

    /// Whether it lies inside `width × height` and is not empty.
    fn fits(&self, width: usize, height: usize) -> bool {
        let inside = |start: usize, len: usize, of: usize| {
            len > 0 && start.checked_add(len).is_some_and(|end| end <= of)
        };
        inside(self.top, self.height, height) && inside(self.left, self.width, width)
    }

    /// The box of a random resized crop in an image of `width × height` (both above 0).
    ///
    /// Its area is uniform in `scale.0..scale.1` of the image's, its aspect ratio
    /// log-uniform in 3/4–4/3, its place uniform. When ten tries do not fit into the
    /// image, it is the largest centred box with the image's aspect ratio brought into
    /// that range.
    pub fn random(width: usize, height: usize, scale: (f64, f64), random: &mut Random) -> Self {
        let area = (width * height) as f64;
        for _ in 0..TRIES {
            let area = area * random.uniform(scale.0, scale.1);
            let aspect = exp(random.uniform(-LOG_ASPECT, LOG_ASPECT));
            let crop_width = (area * aspect).sqrt().round_ties_even() as usize;
            let crop_height = (area / aspect).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
                let top = random.below((height - crop_height + 1) as u64) as usize;
                let left = random.below((width - crop_width + 1) as u64) as usize;
                return Self {
                    top,
                    left,
                    height: crop_height,
                    width: crop_width,
                };
            }
        }
        Self::fallback(width, height)
    }

    /// The largest centred box of an aspect ratio in 3/4–4/3.
    pub(super) fn fallback(width: usize, height: usize) -> Self {
        let (least, most) = (MIN_ASPECT, 4.0 / 3.0);
        let aspect = width as f64 / height as f64;
        let (crop_width, crop_height) = if aspect < least {
            (width, (width as f64 / least).round_ties_even() as usize)
        } else if aspect > most {
            ((height as f64 * most).round_ties_even() as usize, height)
        } else {
            (width, height)
        };
        Self {
            top: (height - crop_height) / 2,
            left: (width - crop_width) / 2,
            height: crop_height,
            width: crop_width,
        }
    }
}

/// `eˣ` for |x| ≤ 1 from additions and multiplications only: a system's own `exp` may
/// differ in the last bit, and with it, once in a while, a crop.
fn exp(x: f64) -> f64 {
    // Horner's scheme; 1/20! is below the last bit.
    (1..20)
        .rev()
        .fold(1.0, |sum, k| 1.0 + sum * x / f64::from(k))
}

/// The kernel of a resize. All are stretched when shrinking (antialiased).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Cubic convolution with a = −0.5.
    Bicubic,
    /// A triangle.
    Bilinear,
    /// A windowed sinc of three lobes.
    Lanczos,
}

impl Filter {
    /// Pixels to either side of the centre that have weight, where nothing shrinks.
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Bilinear => 1.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The filter's name in the crate that resizes planes of numbers.
    pub(super) fn kernel(self) -> fast_image_resize::FilterType {
        match self {
            Self::Bicubic => fast_image_resize::FilterType::CatmullRom,
            Self::Bilinear => fast_image_resize::FilterType::Bilinear,
            Self::Lanczos => fast_image_resize::FilterType::Lanczos3,
        }
    }
}

/// Resizes as Pillow does, to the bit; keeps its buffers between calls.
#[derive(Clone, Debug, Default)]
pub struct Resizer {
    across: Weights,
    down: Weights,
    passes: Passes,
    planes: Vec<u8>,
}

impl Resizer {
    /// A resizer with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts `crop` out of an RGB image and resizes it to `width × height`. Pixels outside
    /// the crop have no influence. `out` receives `[height, width, 3]` values.
    pub fn resize(
        &mut self,
        image: &Image,
        crop: CropBox,
        size: (usize, usize),
        filter: Filter,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut planes = std::mem::take(&mut self.planes);
        let done = self.resize_planes(image, crop, size, filter, false, &mut planes);
        if done.is_ok() {
            planes::join_into(&planes, out);
        }
        self.planes = planes;
        done
    }

    /// Like [`Resizer::resize`], but `out` receives planes `[3, height, width]`, mirrored where
    /// `flip`.
    pub fn resize_planes(
        &mut self,
        image: &Image,
        crop: CropBox,
        (width, height): (usize, usize),
        filter: Filter,
        flip: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        check(image, crop, (width, height))?;
        self.across.set(crop.width, width, filter);
        self.down.set(crop.height, height, filter);
        self.run(image, crop, (width, height), flip, out);
        Ok(())
    }

    /// A part of what an RGB image would be at `width × height`: `window` is in pixels of the
    /// result, and nothing else of it is computed. `out` receives `[window.height, window.width, 3]`
    /// values, those of the whole.
    ///
    /// # Errors
    /// [`Error::BadImage`] as [`Resizer::resize`], and for a window that is not inside the result.
    pub fn resize_window(
        &mut self,
        image: &Image,
        (width, height): (usize, usize),
        window: CropBox,
        filter: Filter,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        check_sides(image, CropBox::whole(image), (width, height))?;
        if !window.fits(width, height) {
            return Err(Error::BadImage {
                name: describe(image),
                reason: format!("{window:?} is not inside of {width} × {height}"),
            });
        }
        let part = |weights: &mut Weights, from, to, start: usize, len: usize| {
            weights.set_whole_window(from, to, start..start + len, filter)
        };
        let across = part(
            &mut self.across,
            image.width,
            width,
            window.left,
            window.width,
        );
        let down = part(
            &mut self.down,
            image.height,
            height,
            window.top,
            window.height,
        );
        let touched = CropBox {
            top: down.start,
            left: across.start,
            height: down.len(),
            width: across.len(),
        };
        check_room(image, touched, (window.width, window.height))?;
        let mut planes = std::mem::take(&mut self.planes);
        self.run(
            image,
            touched,
            (window.width, window.height),
            false,
            &mut planes,
        );
        planes::join_into(&planes, out);
        self.planes = planes;
        Ok(())
    }

    /// Resizes by the weights that were set.
    fn run(
        &mut self,
        image: &Image,
        crop: CropBox,
        (width, height): (usize, usize),
        flip: bool,
        out: &mut Vec<u8>,
    ) {
        out.resize(width * height * 3, 0);
        let row = |y: usize| {
            &image.data[((crop.top + y) * image.width + crop.left) * 3..][..crop.width * 3]
        };
        let weights = (&self.across, &self.down);
        self.passes
            .run(crop.height, row, weights, (width, height), flip, out);
    }
}

fn describe(image: &Image) -> String {
    format!("image of {} × {}", image.width, image.height)
}

/// Refuses what cannot be resized, so that nothing below can fail or overflow, or take more memory
/// than any sensible image does.
fn check(image: &Image, crop: CropBox, target: (usize, usize)) -> Result<()> {
    check_sides(image, crop, target)?;
    check_room(image, crop, target)
}

/// Rows are brought to their new width first, columns to their new height then: refuses a strip
/// that would be far larger in between, or afterwards, than images are.
fn check_room(image: &Image, crop: CropBox, (width, height): (usize, usize)) -> Result<()> {
    let most = crop.height.max(height).saturating_mul(width);
    if most <= MAX_PIXELS.max(image.width * image.height) {
        return Ok(());
    }
    Err(Error::BadImage {
        name: describe(image),
        reason: format!("is too elongated to be resized to {width} × {height}"),
    })
}

fn check_sides(image: &Image, crop: CropBox, target: (usize, usize)) -> Result<()> {
    let bad = |reason: String| {
        Err(Error::BadImage {
            name: describe(image),
            reason,
        })
    };
    check_rgb(image)?;
    let CropBox {
        top,
        left,
        height,
        width,
    } = crop;
    if !crop.is_inside(image) {
        return bad(format!(
            "a crop of {width} × {height} at ({left}, {top}) is not inside it"
        ));
    }
    let limit = u32::MAX as usize;
    if [image.width, image.height, target.0, target.1]
        .iter()
        .any(|&side| side == 0 || side > limit)
    {
        return bad(format!("cannot be resized to {} × {}", target.0, target.1));
    }
    Ok(())
}

/// Refuses an image that is empty, not RGB, or shorter than it says.
pub(crate) fn check_rgb(image: &Image) -> Result<()> {
    let bad = |reason: String| {
        Err(Error::BadImage {
            name: describe(image),
            reason,
        })
    };
    if image.channels != 3 {
        return bad(format!("has {} channels instead of 3", image.channels));
    }
    if !image.is_rgb() {
        return bad(format!("is {} instead of 8 bit", image.depth));
    }
    if image.width == 0 || image.height == 0 {
        return bad("is empty".into());
    }
    let expected = image
        .width
        .checked_mul(image.height)
        .and_then(|area| area.checked_mul(3));
    if expected != Some(image.data.len()) {
        return bad(format!("has {} values", image.data.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;
    use proptest::prelude::*;

    #[test]
    fn exp_is_exact_enough() {
        for step in -100..=100 {
            let x = f64::from(step) / 100.0;
            assert!(
                (exp(x) - x.exp()).abs() <= 4.0 * f64::EPSILON * x.exp(),
                "{x}"
            );
        }
        assert_eq!(LOG_ASPECT, (4.0f64 / 3.0).ln());
    }

    #[test]
    fn fallback_has_an_allowed_aspect_and_the_centre() {
        let fallback = |width, height| CropBox::fallback(width, height);
        assert_eq!(
            fallback(100, 100),
            CropBox {
                top: 0,
                left: 0,
                height: 100,
                width: 100
            }
        );
        assert_eq!(
            fallback(30, 100),
            CropBox {
                top: 30,
                left: 0,
                height: 40,
                width: 30
            }
        );
        assert_eq!(
            fallback(101, 30),
            CropBox {
                top: 0,
                left: 30,
                height: 30,
                width: 40
            }
        );
    }

    #[test]
    fn extreme_images_fall_back() {
        let mut random = Random::new(0, 0, 0, Purpose::Crops);
        let crop = CropBox::random(10_000, 3, (0.9, 1.0), &mut random);
        assert_eq!(
            crop,
            CropBox {
                top: 0,
                left: 4998,
                height: 3,
                width: 4
            }
        );
    }

    #[test]
    fn area_and_aspect_cover_their_ranges() {
        let mut random = Random::new(1, 0, 0, Purpose::Crops);
        let (mut areas, mut aspects) = (Vec::new(), Vec::new());
        for _ in 0..4_000 {
            let crop = CropBox::random(1000, 1000, (0.05, 0.4), &mut random);
            areas.push((crop.width * crop.height) as f64 / 1e6);
            aspects.push((crop.width as f64 / crop.height as f64).ln());
        }
        // Every fifth of the uniform range holds a fifth of the crops (five deviations).
        for (values, low, high) in [(areas, 0.05, 0.4), (aspects, -LOG_ASPECT, LOG_ASPECT)] {
            for fifth in 0..5 {
                let width = (high - low) / 5.0;
                let from = low + width * f64::from(fifth);
                let count = values
                    .iter()
                    .filter(|v| (from..from + width).contains(*v))
                    .count();
                assert!(count.abs_diff(800) < 130, "{count} of 4000 from {from}");
            }
        }
    }

    #[test]
    fn refuses_what_it_cannot_resize() {
        let image = Image::new(4, 3, 3);
        let mut out = Vec::new();
        let mut resize = |image: &Image, crop, target| {
            Resizer::new().resize(image, crop, target, Filter::Bicubic, &mut out)
        };
        let whole = CropBox::whole(&image);
        assert!(resize(&image, whole, (2, 2)).is_ok());
        assert!(resize(&image, CropBox { left: 1, ..whole }, (2, 2)).is_err());
        assert!(resize(&image, CropBox { height: 0, ..whole }, (2, 2)).is_err());
        assert!(
            resize(
                &image,
                CropBox {
                    top: usize::MAX,
                    ..whole
                },
                (2, 2)
            )
            .is_err()
        );
        assert!(resize(&image, whole, (0, 2)).is_err());
        assert!(resize(&Image::new(4, 3, 1), whole, (2, 2)).is_err());
        let short = Image {
            data: vec![0; 35],
            ..image.clone()
        };
        assert!(resize(&short, whole, (2, 2)).is_err());
        let empty = Image::new(0, 3, 3);
        assert!(resize(&empty, CropBox::whole(&empty), (2, 2)).is_err());
    }

    #[test]
    fn pixels_outside_the_crop_have_no_influence() {
        let mut image = Image::new(20, 20, 3);
        let crop = CropBox {
            top: 5,
            left: 6,
            height: 9,
            width: 8,
        };
        for y in 0..9 {
            for value in &mut image.data[((5 + y) * 20 + 6) * 3..][..24] {
                *value = 90;
            }
        }
        let mut out = Vec::new();
        for filter in [Filter::Bicubic, Filter::Bilinear] {
            for size in [(3, 4), (30, 17)] {
                Resizer::new()
                    .resize(&image, crop, size, filter, &mut out)
                    .unwrap();
                assert_eq!(out, vec![90; size.0 * size.1 * 3]);
            }
        }
    }

    proptest! {
        #[test]
        fn boxes_lie_inside_with_area_and_aspect_in_range(
            width in 1usize..3000, height in 1usize..3000, seed: u64,
            low in 0.02f64..0.9, share in 0.0f64..1.0,
        ) {
            let scale = (low, low + (1.0 - low) * share);
            let mut random = Random::new(seed, 0, 0, Purpose::Crops);
            let crop = CropBox::random(width, height, scale, &mut random);
            prop_assert!(crop.width >= 1 && crop.left + crop.width <= width);
            prop_assert!(crop.height >= 1 && crop.top + crop.height <= height);
            if crop == CropBox::fallback(width, height) {
                return Ok(());
            }
            // Sides are rounded to whole pixels: half a pixel either way.
            let (w, h) = (crop.width as f64, crop.height as f64);
            let area = (width * height) as f64;
            prop_assert!((w + 0.5) * (h + 0.5) >= scale.0 * area);
            prop_assert!((w - 0.5) * (h - 0.5) <= scale.1 * area);
            prop_assert!((w + 0.5) / (h - 0.5) >= 0.75 && (w - 0.5) / (h + 0.5) <= 4.0 / 3.0);
        }
    }
}
