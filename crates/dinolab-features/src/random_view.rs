//! Random views for training on top of a network: a resized crop and a flip.

use dinolab_data::augment::{CropBox, Filter, Resizer, multichannel};
use dinolab_data::random::Random;
use dinolab_data::{Image, Size};

use crate::{Error, Result};

/// A random resized crop and a horizontal flip with probability ½.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomView {
    /// Size of the view in pixels.
    pub size: Size,
    /// Range of the fraction of the image's area that the view covers, within 0–1. torchvision's
    /// default, used by the reference implementation's linear evaluation, is 0.08–1.
    pub scale: (f64, f64),
}

/// The position of a view in its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The part of the image in the view.
    pub crop: CropBox,
    /// Whether it is mirrored.
    pub flip: bool,
}

impl Placement {
    /// Returns the placement of the whole image, not flipped.
    pub fn whole(image: &Image) -> Self {
        Self {
            crop: CropBox::whole(image),
            flip: false,
        }
    }
}

impl RandomView {
    /// Checks that the numbers are in range.
    ///
    /// # Errors
    /// [`Error::BadSetting`] if they are not.
    pub fn check(&self) -> Result<()> {
        let (least, most) = self.scale;
        if self.size.shortest() == 0 {
            return Err(Error::setting("crop", "must be at least 1"));
        }
        if least > 0.0 && least <= most && most <= 1.0 {
            return Ok(());
        }
        let reason = format!("must be above 0, at most 1 and ascending, is {least},{most}");
        Err(Error::setting("crops-scale", reason))
    }

    /// Draws a view of an image (bilinear, antialiased).
    ///
    /// # Errors
    /// [`Error::Data`] for an image that cannot be resized.
    pub fn draw(&self, image: &Image, random: &mut Random) -> Result<Image> {
        self.render(image, self.place(image, random))
    }

    /// Draws the placement of a view in an image.
    pub(crate) fn place(&self, image: &Image, random: &mut Random) -> Placement {
        Placement {
            crop: CropBox::random(image.width, image.height, self.scale, random),
            flip: random.bool(0.5),
        }
    }

    /// Renders a view (bilinear, antialiased).
    pub(crate) fn render(&self, image: &Image, at: Placement) -> Result<Image> {
        render(
            image,
            at,
            (self.size.height, self.size.width),
            Filter::Bilinear,
        )
    }
}

/// Resizes a part of an image to (height, width).
pub(crate) fn render(
    image: &Image,
    at: Placement,
    (height, width): (usize, usize),
    filter: Filter,
) -> Result<Image> {
    if !image.is_rgb() {
        let mut view = multichannel::resized(image, at.crop, Size { height, width }, filter)?;
        if at.flip {
            let pixel = view.channels * view.depth.bytes();
            for row in view.data.chunks_exact_mut(pixel * width) {
                // Reverse the pixels, but not the bytes of each pixel.
                row.reverse();
                row.chunks_exact_mut(pixel).for_each(<[u8]>::reverse);
            }
        }
        return Ok(view);
    }
    let mut data = Vec::new();
    Resizer::new().resize(image, at.crop, Size { height, width }, filter, &mut data)?;
    if at.flip {
        for row in data.chunks_exact_mut(3 * width) {
            row.as_chunks_mut::<3>().0.reverse();
        }
    }
    Ok(Image::rgb(width, height, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinolab_data::random::Purpose;

    #[test]
    fn a_view_is_a_part_of_the_image() {
        // Columns tell where a pixel came from.
        let mut image = Image::new(40, 30, 3);
        for (i, v) in image.data.iter_mut().enumerate() {
            *v = (i / 3 % 40 * 6) as u8;
        }
        let view = RandomView {
            size: Size::square(16),
            scale: (0.25, 0.25),
        };
        view.check().unwrap();
        let mut flips = 0;
        for key in 0..40 {
            let mut random = Random::new(1, 0, key, Purpose::Validation);
            let at = view.place(&image, &mut random);
            let area = (at.crop.width * at.crop.height) as f64 / 1200.0;
            assert!((area - 0.25).abs() < 0.03, "{area}");
            let shown = view.render(&image, at).unwrap();
            assert_eq!((shown.width, shown.height), (16, 16));
            let (left, right) = (shown.data[0], shown.data[15 * 3]);
            assert_eq!(left > right, at.flip);
            let (low, high) = (left.min(right), left.max(right));
            assert!(usize::from(low) >= at.crop.left * 6);
            assert!(usize::from(high) <= (at.crop.left + at.crop.width - 1) * 6);
            flips += usize::from(at.flip);
        }
        assert!((10..=30).contains(&flips), "{flips}");
    }

    #[test]
    fn ranges_are_checked() {
        for (size, scale) in [
            (0, (0.1, 1.0)),
            (8, (0.0, 1.0)),
            (8, (0.6, 0.5)),
            (8, (0.5, 1.1)),
        ] {
            assert!(
                RandomView {
                    size: Size::square(size),
                    scale
                }
                .check()
                .is_err()
            );
        }
    }
}
