//! The operations on images that are not 8-bit RGB: any number of channels, any depth.
//!
//! Planes `[C, H, W]` of numbers in 0–1, where 1 is the most that the depth holds. Geometry, blur
//! and solarisation are those of 8-bit RGB, without rounding in between. What needs colours (hue,
//! saturation, greyscale) is left out; brightness and contrast change each channel by itself.

use fast_image_resize as fir;
use fir::images::{TypedImage, TypedImageRef};
use fir::pixels::F32;

use super::resize::{CropBox, Filter};
use crate::{Error, Image, Result, Size};

pub mod blur;
pub mod colour;
pub mod normalise;
mod view;

pub use normalise::ChannelNormaliser;

/// Buffers that these operations need, kept between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    resizer: fir::Resizer,
    part: Vec<F32>,
    planes: Vec<f32>,
    blur: blur::Scratch,
}

/// Cuts `crop` out of an image of any kind and resizes it, channel by channel. Pixels outside the
/// crop have no influence. `out` receives planes `[C, height, width]`, in 0–1: where a kernel
/// overshoots, the value is cut.
///
/// # Errors
/// [`Error::BadImage`] for an image that is not whole, a crop outside it, a size of 0.
pub fn resize(
    image: &Image,
    crop: CropBox,
    size: Size,
    filter: Filter,
    scratch: &mut Scratch,
    out: &mut Vec<f32>,
) -> Result<()> {
    let options = fir::ResizeOptions::new();
    resize_by(image, crop, (size, options), filter, scratch, out)
}

fn resize_by(
    image: &Image,
    crop: CropBox,
    (size, options): (Size, fir::ResizeOptions),
    filter: Filter,
    scratch: &mut Scratch,
    out: &mut Vec<f32>,
) -> Result<()> {
    let bad = |reason: String| Error::BadImage {
        name: format!("image of {} × {}", image.width, image.height),
        reason,
    };
    if !image.is_whole() {
        return Err(bad("is empty, or shorter than it says".into()));
    }
    if !crop.is_inside(image) {
        return Err(bad(format!("the crop {crop:?} is not inside it")));
    }
    if size.shortest() == 0 || size.longest() > u32::MAX as usize {
        return Err(bad(format!("cannot be resized to {size}")));
    }
    let unexpected = |error: &dyn std::fmt::Display| bad(error.to_string());
    let Scratch { resizer, part, .. } = scratch;
    let options = options
        .resize_alg(fir::ResizeAlg::Convolution(filter.kernel()))
        .use_alpha(false);
    out.clear();
    out.reserve(image.channels * size.area());
    let mut target = TypedImage::<F32>::new(size.width as u32, size.height as u32);
    for channel in 0..image.channels {
        part.clear();
        for row in crop.top..crop.top + crop.height {
            let columns = crop.left..crop.left + crop.width;
            image.row_plane(row, columns, channel, &mut Samples(part));
        }
        let (width, height) = (crop.width as u32, crop.height as u32);
        let source = TypedImageRef::new(width, height, part).map_err(|e| unexpected(&e))?;
        resizer
            .resize_typed(&source, &mut target, &options)
            .map_err(|e| unexpected(&e))?;
        out.extend(target.pixels().iter().map(|pixel| pixel.0.clamp(0.0, 1.0)));
    }
    Ok(())
}

/// Collects numbers as pixels.
struct Samples<'a>(&'a mut Vec<F32>);

impl Extend<f32> for Samples<'_> {
    fn extend<T: IntoIterator<Item = f32>>(&mut self, values: T) {
        self.0.extend(values.into_iter().map(F32::new));
    }
}

/// [`resize`] to an image of numbers.
///
/// # Errors
/// As [`resize`].
pub fn resized(image: &Image, crop: CropBox, size: Size, filter: Filter) -> Result<Image> {
    let mut planes = Vec::new();
    resize(
        image,
        crop,
        size,
        filter,
        &mut Scratch::default(),
        &mut planes,
    )?;
    Ok(joined(&planes, size, image.channels))
}

/// A part of what an image would be at `size`: `window` is in pixels of the result, and nothing else
/// of it is computed. The values are those of the whole up to rounding.
///
/// # Errors
/// As [`resize`].
pub fn window(image: &Image, size: Size, window: CropBox, filter: Filter) -> Result<Image> {
    let whole = CropBox::whole(image);
    let across = image.width as f64 / size.width as f64;
    let down = image.height as f64 / size.height as f64;
    let options = fir::ResizeOptions::new().crop(
        window.left as f64 * across,
        window.top as f64 * down,
        window.width as f64 * across,
        window.height as f64 * down,
    );
    let size = Size {
        height: window.height,
        width: window.width,
    };
    let mut planes = Vec::new();
    let mut scratch = Scratch::default();
    resize_by(
        image,
        whole,
        (size, options),
        filter,
        &mut scratch,
        &mut planes,
    )?;
    Ok(joined(&planes, size, image.channels))
}

/// Planes `[C, H, W]` as an image.
fn joined(planes: &[f32], size: Size, channels: usize) -> Image {
    let pixels = size.area();
    let samples: Vec<f32> = (0..pixels)
        .flat_map(|i| planes.iter().skip(i).step_by(pixels).copied())
        .collect();
    Image::float(size.width, size.height, channels, &samples)
}

/// Mirrors planes of `width` columns.
pub fn flip(planes: &mut [f32], width: usize) {
    for row in planes.chunks_exact_mut(width.max(1)) {
        row.reverse();
    }
}
