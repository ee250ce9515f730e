//! Crop boxes and their random choice.

use crate::Image;
use crate::random::Random;

/// ln(4/3): aspect ratios (width / height) of random crops lie in 3/4–4/3.
const LOG_ASPECT: f64 = 0.287_682_072_451_780_85;
/// The least of them.
pub(in crate::augment) const MIN_ASPECT: f64 = 3.0 / 4.0;
const TRIES: usize = 10;

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
    pub(super) fn fits(&self, width: usize, height: usize) -> bool {
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
            let aspect = random.aspect(LOG_ASPECT);
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
    pub(in crate::augment) fn fallback(width: usize, height: usize) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;
    use proptest::prelude::*;

    #[test]
    fn the_bound_is_that_of_the_aspect_ratios() {
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
