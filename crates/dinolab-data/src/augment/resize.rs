//! Antialiased resizing of crops.

mod check;
mod crop_box;
mod filter;
mod part;
mod passes;
mod transpose;
mod weights;

pub use crop_box::CropBox;
pub use filter::Filter;

pub(crate) use check::check_rgb;
pub(super) use crop_box::MIN_ASPECT;

use super::planes;
use crate::{Error, Image, Result, Size};
use check::{check, check_room, check_sides, describe};
use passes::Passes;
use weights::FilterWeights;

/// Resizes as Pillow does, to the bit; keeps its buffers between calls.
#[derive(Clone, Debug, Default)]
pub struct Resizer {
    across: FilterWeights,
    down: FilterWeights,
    passes: Passes,
    planes: Vec<u8>,
}

impl Resizer {
    /// A resizer with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts `crop` out of an RGB image and resizes it to `size`. Pixels outside
    /// the crop have no influence. `out` receives `[height, width, 3]` values.
    pub fn resize(
        &mut self,
        image: &Image,
        crop: CropBox,
        size: Size,
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
        size: Size,
        filter: Filter,
        flip: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        check(image, crop, size)?;
        self.across.set(crop.width, size.width, filter);
        self.down.set(crop.height, size.height, filter);
        self.run(image, crop, size, flip, out);
        Ok(())
    }

    /// A part of what an RGB image would be at `size`: `window` is in pixels of the
    /// result, and nothing else of it is computed. `out` receives `[window.height, window.width, 3]`
    /// values, those of the whole.
    ///
    /// # Errors
    /// [`Error::BadImage`] as [`Resizer::resize`], and for a window that is not inside the result.
    pub fn resize_window(
        &mut self,
        image: &Image,
        size: Size,
        window: CropBox,
        filter: Filter,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        check_sides(image, CropBox::whole(image), size)?;
        if !window.fits(size.width, size.height) {
            return Err(Error::BadImage {
                name: describe(image),
                reason: format!(
                    "{window:?} is not inside of {} × {}",
                    size.width, size.height
                ),
            });
        }
        let part = |weights: &mut FilterWeights, from, to, start: usize, len: usize| {
            weights.set_whole_window(from, to, start..start + len, filter)
        };
        let across = part(
            &mut self.across,
            image.width,
            size.width,
            window.left,
            window.width,
        );
        let down = part(
            &mut self.down,
            image.height,
            size.height,
            window.top,
            window.height,
        );
        let touched = CropBox {
            top: down.start,
            left: across.start,
            height: down.len(),
            width: across.len(),
        };
        let out_size = Size {
            height: window.height,
            width: window.width,
        };
        check_room(image, touched, out_size)?;
        let mut planes = std::mem::take(&mut self.planes);
        self.run(image, touched, out_size, false, &mut planes);
        planes::join_into(&planes, out);
        self.planes = planes;
        Ok(())
    }

    /// Resizes by the weights that were set.
    fn run(
        &mut self,
        image: &Image,
        crop: CropBox,
        Size { height, width }: Size,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_it_cannot_resize() {
        let image = Image::new(4, 3, 3);
        let mut out = Vec::new();
        let mut resize = |image: &Image, crop, (width, height)| {
            let target = Size { height, width };
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
            for (width, height) in [(3, 4), (30, 17)] {
                let size = Size { height, width };
                Resizer::new()
                    .resize(&image, crop, size, filter, &mut out)
                    .unwrap();
                assert_eq!(out, vec![90; size.area() * 3]);
            }
        }
    }
}
